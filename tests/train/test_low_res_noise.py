"""`low_res_noise`: what the upsampler enlarges is noisy, what it is held against and what a teacher sees is not."""

from dataclasses import replace

import pytest
import torch

from engine.errors import DiamondError
from engine.schedule import SamplerConfig
from tests.export.worlds import random_agent
from train.config import NetworkTraining, override
from train.distil import Teacher
from train.loop import batch_loss, noisy_low_res
from train.model import Denoiser
from train.presets import recipe
from train.segments import Batch

CFG = NetworkTraining(steps=1, batch_size=4, bf16=False, start_fraction=1.0, crop=(8, 8))
START = SamplerConfig(steps=1, initial_std=5.0)


def upsampler() -> Denoiser:
    network = random_agent(upsampling_factor=2).upsampler
    assert network is not None
    return network


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    low, full = (
        torch.randint(0, 256, (4, 2, 3, *size), generator=generator, dtype=torch.uint8)
        for size in ((6, 8), (12, 16))
    )
    return Batch(low, torch.zeros(4, 2, 3), torch.ones(4, 2, dtype=torch.bool), full)


def noisy(low_res: torch.Tensor, most: float = 0.2, seed: int = 5) -> torch.Tensor:
    return noisy_low_res(low_res, most, torch.Generator().manual_seed(seed))


def test_every_row_has_its_own_deviation_up_to_the_most() -> None:
    grey = torch.zeros(200, 2, 3, 30, 56)
    deviations = noisy(grey).flatten(1).std(dim=1)
    assert deviations.max() < 0.205
    assert deviations.min() < 0.01
    assert 0.08 < deviations.mean() < 0.12
    assert torch.equal(noisy(grey), noisy(grey))
    assert not torch.equal(noisy(grey), noisy(grey, seed=6))


def test_noisy_frames_stay_frames() -> None:
    assert noisy(torch.ones(4, 2, 3, 6, 8), most=1.0).max() == 1


def test_the_network_sees_noisy_frames_and_its_teacher_clean_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, torch.Tensor] = {}
    network = upsampler()

    class Spy(Teacher):
        def __call__(self, noise: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
            seen["teacher"] = history.clone()
            return super().__call__(noise, history)

    def raw_output(x: torch.Tensor, history: torch.Tensor, *rest: object) -> torch.Tensor:
        seen["student"] = history.clone()
        return original(x, history, *rest)  # type: ignore[arg-type]

    teacher = Spy(upsampler(), START)
    original = network.raw_output
    monkeypatch.setattr(network, "raw_output", raw_output)
    previous, enlarged = slice(0, 3), slice(3, 6)
    batch_loss(network, batch(), CFG, 0, "cpu", START, teacher)
    clean = seen["student"]
    assert torch.equal(seen["teacher"], clean)
    batch_loss(network, batch(), replace(CFG, low_res_noise=0.2), 0, "cpu", START, teacher)
    assert torch.equal(seen["teacher"], clean)
    assert torch.equal(seen["student"][:, previous], clean[:, previous])
    difference = (seen["student"] - clean)[:, enlarged].flatten(1).std(dim=1)
    assert (difference > 0).all()
    assert difference.max() < 0.3


def test_a_denoiser_has_nothing_to_enlarge() -> None:
    with pytest.raises(DiamondError, match=r"denoiser\.low_res_noise"):
        override(recipe("tiny"), ["denoiser.low_res_noise=0.1"])
    assert override(recipe("tiny"), ["upsampler.low_res_noise=0.1"])


def test_a_deviation_beyond_1_is_an_error() -> None:
    with pytest.raises(DiamondError, match="low_res_noise"):
        replace(CFG, low_res_noise=1.5)
