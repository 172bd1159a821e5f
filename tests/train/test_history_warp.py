"""`history_warp`: a denoiser's history is bent, all frames of a row alike; the frame that it has to paint is not."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.errors import DiamondError
from tests.export.worlds import random_agent
from train import loop
from train.config import NetworkTraining, override
from train.loop import batch_loss
from train.presets import recipe
from train.segments import Batch, to_unit
from train.warp import warp

CFG = NetworkTraining(steps=1, batch_size=4, bf16=False)
H, W = 30, 56


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def displacements(most: float, rows: int = 100) -> torch.Tensor:
    """(rows, 2, h, w): pixels to the right and down, away from the edges, read off warped ramps."""
    ramps = torch.stack(
        [torch.arange(W).expand(H, W), torch.arange(H)[:, None].expand(H, W)]
    ).float()  # (2, H, W)
    moved = warp(ramps.expand(rows, 1, 2, H, W), most, generator())[:, 0] - ramps
    return moved[:, :, 4:-4, 4:-4]


def test_nothing_moves_by_zero_pixels() -> None:
    frames = torch.rand(2, 3, 3, H, W, generator=generator()) * 2 - 1
    assert torch.allclose(warp(frames, 0.0, generator()), frames, atol=1e-5)


def test_rows_are_bent_by_up_to_the_most_smoothly_and_not_shifted() -> None:
    found = displacements(0.8)
    size = found.square().mean(dim=(1, 2, 3)).sqrt()
    assert size.min() < 0.05
    assert 0.6 < size.max() < 1.1
    assert 0.3 < size.mean() < 0.5
    assert found.mean(dim=(2, 3)).abs().max() < 0.4 * 0.8, "the mean over the whole frame is 0"
    steps = found.diff(dim=-1).square().mean(dim=(1, 2, 3)).sqrt()
    assert (steps / size).max() < 0.5, "neighbours move alike"
    assert torch.corrcoef(found.flatten(1)).fill_diagonal_(0).abs().max() < 0.9, "every row in its own way"


def test_all_frames_of_a_row_are_bent_alike() -> None:
    one = torch.rand(2, 1, 3, H, W, generator=generator())
    moved = warp(one.expand(2, 4, 3, H, W), 0.8, generator())
    assert (moved - one).abs().max() > 0.1
    for t in range(1, 4):
        assert torch.equal(moved[:, t], moved[:, 0])
    assert torch.equal(moved, warp(one.expand(2, 4, 3, H, W), 0.8, generator()))
    assert not torch.equal(moved, warp(one.expand(2, 4, 3, H, W), 0.8, generator(4)))


def test_the_history_is_bent_and_the_target_is_as_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_agent().denoiser
    n = network.cfg.inner_model.num_steps_conditioning
    shape = (4, n + 1, 3, 16, 24)
    low_res = torch.randint(0, 256, shape, generator=generator(), dtype=torch.uint8)
    actions = torch.zeros(4, n + 1, 3)
    batch = Batch(low_res, actions, torch.ones(4, n + 1, dtype=torch.bool), None)
    seen: list[torch.Tensor] = []

    def spy(_: Any, frames: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        seen.append(frames)
        return frames.sum()

    monkeypatch.setattr(loop, "denoising_loss", spy)
    batch_loss(network, batch, CFG, 0, "cpu")
    batch_loss(network, batch, replace(CFG, history_warp=0.8), 0, "cpu")
    plain, bent = seen
    assert torch.equal(plain, to_unit(low_res))
    assert torch.equal(bent[:, n:], plain[:, n:])
    assert (bent[:, :n] - plain[:, :n]).abs().mean() > 0.02


def test_a_recipe_bends_the_history_of_its_denoiser_alone() -> None:
    assert override(recipe("tiny"), ["denoiser.history_warp=0.8"]).denoiser.history_warp == 0.8
    with pytest.raises(DiamondError, match=r"upsampler\.history_warp"):
        override(recipe("tiny"), ["upsampler.history_warp=0.8"])
    with pytest.raises(DiamondError, match="history_warp is -1"):
        replace(CFG, history_warp=-1.0)
