"""Imagined rows: what the denoiser paints after recorded frames, the same after a resume; never what is taught."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train.loop
from engine.errors import DiamondError
from engine.schedule import SamplerConfig
from tests.export.worlds import random_agent
from tests.train.test_loop import assert_identical, request, weights
from tests.train.test_loss import drawing
from train.config import override
from train.imagined import _STREAM, Imagination
from train.loop import batch_loss, train_network
from train.loss import PlayStart, SigmaDistribution, denoising_loss
from train.presets import recipe
from train.rollout import sample
from train.run import prepare_run, train_world
from train.segments import SegmentSampler, open_episodes

TWO = SamplerConfig(steps=2, sigma_min=0.3, s_cond=0.005, initial_std=5.0)
BRIEF = (
    "denoiser.steps=2",
    "denoiser.sheet_every=100",
    "upsampler.sheet_every=100",
    "upsampler.steps=4",
    "upsampler.crop=[40,60]",
    "upsampler.checkpoint_every=2",
    "upsampler.imagined_fraction=0.5",
)


def imagination(fraction: float) -> Imagination:
    """A denoiser with a history of three frames."""
    return Imagination(
        random_agent(history=3, num_actions=51).denoiser.eval().requires_grad_(False),
        TWO,
        fraction,
        bf16=False,
    )


def segments(count: int = 4, length: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    frames = torch.rand(count, length, 3, 8, 10, generator=generator) * 2 - 1
    actions = torch.randint(0, 2, (count, length, 51), generator=generator).float()
    return frames, actions, torch.ones(count, length, dtype=torch.bool)


def test_the_denoiser_paints_each_frame_from_the_recorded_ones_before_it() -> None:
    frames, actions, valid = segments()
    imagined = imagination(1.0)
    painted = imagined(frames, actions, valid, 2, seed=9)
    generator = torch.Generator().manual_seed(9 + _STREAM)
    torch.rand((4,), generator=generator)  # which rows
    for k in (0, 1):
        expected = sample(
            imagined.denoiser,
            TWO,
            frames[:, k : k + 3].flatten(1, 2),
            actions[:, k : k + 3],
            lambda name, shape: torch.randn(shape, generator=generator),
        )
        assert torch.equal(painted[:, k], expected)
    assert torch.equal(painted, imagined(frames, actions, valid, 2, seed=9))
    assert not torch.equal(painted, imagined(frames, actions, valid, 2, seed=10))


def test_a_part_of_the_rows_is_imagined_and_none_without_a_history() -> None:
    frames, actions, valid = segments(count=400)
    valid[::2, 0] = False
    kept = (imagination(0.5)(frames, actions, valid, 1, seed=0) == frames[:, -1:]).flatten(1).all(dim=1)
    assert kept[::2].all()
    assert 0.35 < kept[1::2].float().mean() < 0.65
    assert torch.equal(imagination(0.0)(frames, actions, valid, 2, seed=0), frames[:, -2:])


def test_longer_segments_without_an_imagined_row_give_the_loss_of_the_short_ones(recordings: Path) -> None:
    agent = random_agent(upsampling_factor=5)
    assert agent.upsampler is not None
    cfg = replace(recipe("tiny").upsampler, crop=(40, 60), bf16=False)  # type: ignore[type-var]
    episodes, _ = open_episodes(recordings, "train")
    long = SegmentSampler(episodes, 4, 3, 1, full_res=True).batch(2)
    short = replace(
        long, **{name: getattr(long, name)[:, -2:] for name in ("low_res", "actions", "valid", "full_res")}
    )
    plain = batch_loss(agent.upsampler, short, cfg, 0, "cpu")
    assert batch_loss(agent.upsampler, long, cfg, 0, "cpu", imagination=imagination(0.0)) == plain
    assert batch_loss(agent.upsampler, long, cfg, 0, "cpu", imagination=imagination(1.0)) != plain


def test_a_teacher_sees_the_recorded_frame_and_its_pupil_the_imagined_one() -> None:
    network = random_agent(upsampling_factor=2).upsampler
    assert network is not None
    frames, imagined, recorded = (torch.rand(4, 2, 3, 6, 8) * 2 - 1 for _ in range(3))
    seen: list[torch.Tensor] = []

    def teach(noise: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        seen.append(history)
        return torch.zeros_like(noise)

    def loss(enlarged: torch.Tensor, *taught_from: torch.Tensor) -> float:
        every = PlayStart(1.0, 5.0, 5.0, teach)
        valid, sigmas = torch.ones(4, 2, dtype=torch.bool), SigmaDistribution()
        return float(
            denoising_loss(
                network, frames, None, valid, drawing(), sigmas, sigmas, enlarged, every, *taught_from
            )
        )

    both = loss(imagined, recorded)
    assert torch.equal(seen[-1][:, 3:], recorded[:, 1])
    assert both == loss(imagined) != loss(recorded)
    assert torch.equal(seen[-1][:, 3:], recorded[:, 1])


def test_a_stopped_run_imagines_on(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped, plain = (tmp_path / name for name in ("whole", "stopped", "plain"))
    train_world(request(whole, recordings, settings=BRIEF))
    train_world(request(stopped, recordings, settings=(*BRIEF, "upsampler.steps=2")))
    train_world(request(stopped, None, resume=True, settings=BRIEF))
    assert_identical(weights(stopped, "upsampler"), weights(whole, "upsampler"))
    train_world(request(plain, recordings, settings=(*BRIEF, "upsampler.imagined_fraction=0")))
    assert_identical(weights(plain), weights(whole))
    apart = [
        key
        for key, value in weights(plain, "upsampler").items()
        if not torch.equal(value, weights(whole, "upsampler")[key])
    ]
    assert apart

    used: list[float] = []
    real = Imagination.__call__
    monkeypatch.setattr(
        Imagination, "__call__", lambda self, *rest: used.append(self.fraction) or real(self, *rest)
    )
    info = prepare_run(request(whole, None, resume=True, settings=("upsampler.steps=5",)))
    assert train.loop.train_network(whole, info, "upsampler", resume=True, say=lambda line: None)
    assert used == [0.5]


def test_what_cannot_be_imagined_is_an_error(recordings: Path, tmp_path: Path) -> None:
    info = prepare_run(request(tmp_path / "run", recordings, settings=BRIEF))
    with pytest.raises(DiamondError, match=r"denoiser.*checkpoint\.pt"):
        train_network(tmp_path / "run", info, "upsampler", say=lambda line: None)
    wrong = replace(info, recipe=override(info.recipe, ["denoiser.imagined_fraction=0.5"]))
    with pytest.raises(DiamondError, match=r"denoiser\.imagined_fraction"):
        train_network(tmp_path / "run", wrong, "denoiser", say=lambda line: None)
    with pytest.raises(DiamondError, match=r"imagined_fraction is 1\.5"):
        override(info.recipe, ["upsampler.imagined_fraction=1.5"])
