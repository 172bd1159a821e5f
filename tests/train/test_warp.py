"""Settings that bend what a network sees, `history_warp` and its like; the frame that it has to paint is not bent."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.errors import DiamondError
from tests.export.worlds import random_agent
from train import loop
from train.config import NetworkTraining, override
from train.loop import batch_loss
from train.loss import SigmaDistribution, denoising_loss
from train.presets import recipe
from train.segments import Batch, to_unit
from train.warp import SURE, stretch, warp, warp_under_noise

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


def test_columns_are_stretched_from_a_height_that_stays() -> None:
    ramps = torch.stack([torch.arange(W).expand(H, W), torch.arange(H)[:, None].expand(H, W)]).float()
    moved = stretch(ramps.expand(200, 1, 2, H, W), 0.1, generator())[:, 0] - ramps
    assert moved[:, 0].abs().max() < 1e-3, "nothing moves sideways"
    down = moved[:, 1, 6:-6]  # where no edge is looked beyond
    factor = down.diff(dim=1)
    assert factor.std(dim=1).max() < 1e-3, "as far as from the height that stays"
    factor = factor.mean(dim=1)  # (200, W)
    size = factor.square().mean(dim=1).sqrt()
    assert size.min() < 0.01
    assert 0.08 < size.max() < 0.101
    assert 0.04 < size.mean() < 0.06
    across = torch.linspace(-1, 1, W)
    assert factor.mean(dim=1).abs().max() < 1e-4
    assert (factor @ across).abs().max() < 1e-2
    middle = (6 - (down[:, 0] / factor)).median(dim=1).values / (H - 1)
    assert middle.min() > 0.24
    assert middle.max() < 0.76
    assert middle.std() > 0.1
    assert (factor.diff(dim=1).square().mean(dim=1).sqrt() / size).max() < 0.6, "neighbours alike"


def test_all_frames_of_a_row_are_bent_alike() -> None:
    one = torch.rand(2, 1, 3, H, W, generator=generator())
    moved = warp(one.expand(2, 4, 3, H, W), 0.8, generator())
    assert (moved - one).abs().max() > 0.1
    stretched = stretch(one.expand(2, 4, 3, H, W), 0.2, generator())
    assert (stretched - one).abs().max() > 0.1
    for t in range(1, 4):
        assert torch.equal(moved[:, t], moved[:, 0])
        assert torch.equal(stretched[:, t], stretched[:, 0])
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
    batch_loss(network, batch, replace(CFG, history_stretch=0.2), 0, "cpu")
    plain, *bent = seen
    assert torch.equal(plain, to_unit(low_res))
    for frames in bent:
        assert torch.equal(frames[:, n:], plain[:, n:])
        assert (frames[:, :n] - plain[:, :n]).abs().mean() > 0.02


def test_below_little_noise_frames_are_bent_by_less() -> None:
    frames = torch.rand(4, 3, H, W, generator=generator()) * 2 - 1
    sigma = torch.tensor([20.0, SURE, SURE / 3, 0.0])
    bent = warp_under_noise(frames, sigma, 0.9, generator())
    all_bent = warp(frames[:, None], 0.9, generator())[:, 0]
    assert torch.allclose(bent[:2], all_bent[:2], atol=1e-6)
    moved, most = ((x - frames).square().mean(dim=(1, 2, 3)).sqrt() for x in (bent, all_bent))
    assert 0.1 * most[2] < moved[2] < 0.7 * most[2]
    assert moved[3] < 1e-5


def test_the_frame_under_the_noise_is_bent_and_the_target_is_not() -> None:
    """A network whose raw output is 0 everywhere: the loss tells what it was held against."""
    network = random_agent().denoiser
    torch.nn.init.zeros_(network.inner_model.conv_out.weight)
    torch.nn.init.zeros_(network.inner_model.conv_out.bias)
    n = network.cfg.inner_model.num_steps_conditioning
    frames = torch.rand(4, n + 1, 3, 16, 24, generator=generator()) * 2 - 1
    actions, valid = torch.zeros(4, n + 1, 3), torch.ones(4, n + 1, dtype=torch.bool)
    level = SigmaDistribution(loc=-2.0, scale=0.0)
    shift = 0.1

    def loss(bend: Any) -> float:
        def draw(shape: tuple[int, ...]) -> torch.Tensor:
            return torch.zeros(shape)

        return float(denoising_loss(network, frames, actions, valid, draw, level, level, bend=bend))

    sigma = torch.full((4,), 0.1353353)
    pre = network.preconditioning(sigma, sigma)
    found: list[torch.Tensor] = []

    def bend(frame: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        found.extend((frame, levels))
        return frame + shift

    target, c_skip, c_out = frames[:, n], pre.c_skip, pre.c_out
    for offset, how in ((0.0, None), (shift, bend)):
        expected = ((target - c_skip * (target + offset)) / c_out).square().mean()
        assert loss(how) == pytest.approx(float(expected), rel=1e-4)
    assert torch.equal(found[0], target)
    assert torch.allclose(found[1], sigma)


def test_only_a_recipe_that_says_so_bends_what_is_under_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_agent().denoiser
    n = network.cfg.inner_model.num_steps_conditioning
    low_res = torch.randint(0, 256, (4, n + 1, 3, 16, 24), generator=generator(), dtype=torch.uint8)
    batch = Batch(low_res, torch.zeros(4, n + 1, 3), torch.ones(4, n + 1, dtype=torch.bool), None)
    bends: list[Any] = []

    def spy(_: Any, frames: torch.Tensor, *rest: Any, bend: Any, **more: Any) -> torch.Tensor:
        assert torch.equal(frames, to_unit(low_res)), "the history is left alone"
        bends.append(bend)
        return frames.sum()

    monkeypatch.setattr(loop, "denoising_loss", spy)
    for most in (0.0, 0.5):
        batch_loss(network, batch, replace(CFG, noisy_warp=most), 0, "cpu")
    assert bends[0] is None
    frame = to_unit(low_res)[:, n]
    assert (bends[1](frame, torch.ones(4)) - frame).abs().mean() > 0.02


@pytest.mark.parametrize("setting", ["history_warp", "history_stretch", "noisy_warp"])
def test_a_recipe_bends_what_its_denoiser_sees_alone(setting: str) -> None:
    bent = override(recipe("tiny"), [f"denoiser.{setting}=0.8"])
    assert getattr(bent.denoiser, setting) == 0.8
    with pytest.raises(DiamondError, match=rf"upsampler\.{setting}"):
        override(recipe("tiny"), [f"upsampler.{setting}=0.8"])
    with pytest.raises(DiamondError, match=f"{setting} is -1"):
        replace(CFG, **{setting: -1.0})
