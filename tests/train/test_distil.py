"""Distillation: what is taught is what play paints in several steps; a stopped run goes on with the same teacher."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.errors import DiamondError
from engine.schedule import SamplerConfig
from tests.export.worlds import random_agent
from tests.train.test_loop import assert_identical, request, weights
from tests.train.test_loss import drawing
from train.checkpoint import load_checkpoint
from train.distil import Teacher, teacher_sampler
from train.loop import train_network
from train.loss import PlayStart, SigmaDistribution, denoising_loss
from train.model import Denoiser
from train.presets import recipe
from train.rollout import sample
from train.run import prepare_run

THREE = SamplerConfig(steps=3, sigma_min=0.02, initial_std=5.0)
DISTIL = (
    "upsampler.steps=6",
    "upsampler.crop=[40,60]",
    "upsampler.checkpoint_every=100",
    "upsampler.start_fraction=0.5",
    "upsampler.distil=quality",
    "upsampler.distil_after=0.33",
)


def upsampler() -> Denoiser:
    network = random_agent(upsampling_factor=2).upsampler
    assert network is not None
    return network


def test_the_teacher_paints_what_play_paints() -> None:
    network = upsampler()
    noise, history = torch.randn(2, 3, 6, 8) * 5, torch.rand(2, 6, 6, 8) * 2 - 1
    painted = Teacher.of(network, THREE)(noise, history)
    expected = sample(network, THREE, history, None, lambda name, shape: noise / 5)
    assert torch.equal(painted, expected)


def test_a_teacher_does_not_learn() -> None:
    network = upsampler()
    noise, history = torch.randn(2, 3, 6, 8) * 5, torch.rand(2, 6, 6, 8) * 2 - 1
    teacher = Teacher.of(network, THREE)
    before = teacher(noise, history)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    assert torch.equal(teacher(noise, history), before)
    assert not any(p.requires_grad for p in teacher.network.parameters())


def test_taught_rows_are_held_against_the_painting_and_the_others_against_the_recording() -> None:
    network = upsampler()
    frames, enlarged = (torch.rand(4, 2, 3, 6, 8) * 2 - 1 for _ in range(2))
    painting = torch.rand(3, 6, 8) * 2 - 1
    valid = torch.ones(4, 2, dtype=torch.bool)

    def loss(start: PlayStart, target: torch.Tensor) -> float:
        shown = torch.stack((frames[:, 0], target.expand(4, -1, -1, -1)), dim=1)
        found = denoising_loss(
            network, shown, None, valid, drawing(), SigmaDistribution(), SigmaDistribution(), enlarged, start
        )
        return float(found)

    def teach(noise: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        return painting.expand(len(noise), -1, -1, -1)

    every, none = PlayStart(1.0, 5.0, 5.0, teach), PlayStart(0.0, 5.0, 5.0, teach)
    grey = torch.zeros(3, 6, 8)
    assert loss(every, grey) == pytest.approx(loss(replace(every, teach=None), painting), rel=1e-6)
    assert loss(every, grey) != pytest.approx(loss(replace(every, teach=None), grey), rel=1e-3)
    assert loss(none, grey) == pytest.approx(loss(replace(none, teach=None), grey), rel=1e-6)


def test_a_stopped_run_goes_on_with_its_teacher(recordings: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    info = prepare_run(request(whole, recordings, settings=DISTIL))
    assert train_network(whole, info, "upsampler", say=lambda line: None)
    saved = load_checkpoint(whole / "upsampler")
    assert any(not torch.equal(saved["teacher"][key], saved["ema"][key]) for key in saved["ema"])

    stopped = tmp_path / "stopped"
    shorter = (*DISTIL, "upsampler.distil_after=0.5", "upsampler.steps=4")  # the teacher of step 2, too
    info = prepare_run(request(stopped, recordings, settings=shorter))
    assert train_network(stopped, info, "upsampler", say=lambda line: None)
    info = prepare_run(request(stopped, None, resume=True, settings=DISTIL))
    assert train_network(stopped, info, "upsampler", resume=True, say=lambda line: None)
    assert_identical(weights(stopped, "upsampler"), weights(whole, "upsampler"))


def test_what_cannot_be_distilled_is_an_error() -> None:
    tiny = recipe("tiny")
    assert tiny.upsampler is not None
    assert teacher_sampler(tiny, "upsampler") is None

    def check(network: str, message: str, **settings: object) -> None:
        changed = replace(getattr(tiny, network), **settings)
        with pytest.raises(DiamondError, match=message):
            teacher_sampler(replace(tiny, **{network: changed}), network)

    check("denoiser", "distillation of an upsampler", distil="quality", start_fraction=0.5)
    check("upsampler", "no preset 'best' samples it", distil="best", start_fraction=0.5)
    check("upsampler", "without start_fraction", distil="quality")


def test_a_teacher_that_begins_elsewhere_is_an_error() -> None:
    tiny = recipe("tiny")
    assert tiny.upsampler is not None
    taught = replace(tiny.upsampler, distil="quality", start_fraction=0.5)
    for sampler, message in (
        (replace(THREE, initial_std=1.0), "begins with other noise"),
        (replace(THREE, s_churn=1.0), "adds noise"),
    ):
        presets = {**tiny.presets, "quality": {"denoiser": None, "upsampler": sampler}}
        with pytest.raises(DiamondError, match=message):
            teacher_sampler(replace(tiny, upsampler=taught, presets=presets), "upsampler")
