"""Bent frames for a denoiser to start from, so that what it paints becomes straight again.

A sampled frame bends lines a little, the next one is painted from it, and nothing in the recordings says that bent
lines become straight: every recorded history is. So what the network sees is bent here, and the frame to predict is
not: the history, all its frames alike, and the frame under the noise, which in play is a prediction of the step before.
Not in the published training, whose noise on the history moves no line.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CELL = 8  # pixels between the places whose displacement is drawn: bends are as wide as two cells or more
SURE = 0.3  # below this noise level frames are bent by less, in proportion: the loss weighs errors there the more


def warp(frames: Tensor, most: float | Tensor, generator: torch.Generator) -> Tensor:
    """Frames moved about by a smooth field that is drawn a row, the same for all frames of the row.

    Args:
        frames: float32 (B, T, C, H, W).
        most: pixels, for all rows or (B,); a row's field has a root mean square, of either direction, from 0 to this.
        generator: on the frames' device.

    Returns:
        The same shape, bilinear; beyond the edges the nearest pixel. A field has no mean: it bends and does not shift.
    """
    B, _, _, H, W = frames.shape
    device = frames.device
    coarse = torch.randn((B, 2, H // CELL + 2, W // CELL + 2), generator=generator, device=device)
    field = F.interpolate(coarse, size=(H, W), mode="bicubic", align_corners=True)
    field = field - field.mean(dim=(2, 3), keepdim=True)
    field = field / field.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    if isinstance(most, Tensor):
        most = most[:, None, None, None]
    field = field * most * torch.rand((B, 1, 1, 1), generator=generator, device=device)

    right = torch.arange(W, device=device) + field[:, 0]  # (B, H, W), pixels
    down = torch.arange(H, device=device)[:, None] + field[:, 1]
    return _looked_up(frames, right, down)


def stretch(frames: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Frames whose columns are stretched up and down, neighbours alike, all frames of a row in the same way.

    That is what a wall looks like whose distance is wrong by so much here and by as much less there: its top and its
    foot are curves, and the nearer it is the more they bend.

    Args:
        frames: float32 (B, T, C, H, W).
        most: a fraction; the factors of a row's columns differ from 1 by a root mean square from 0 to this.
        generator: on the frames' device.

    Returns:
        The same shape. The height that stays is drawn a row, in the middle half. The factors have no mean and no
        slope, which would be another view and not a bent one.
    """
    B, _, _, H, W = frames.shape
    device = frames.device
    coarse = torch.randn((B, 1, 1, W // CELL + 2), generator=generator, device=device)
    factor = F.interpolate(coarse, size=(1, W), mode="bicubic", align_corners=True)[:, 0, 0]  # (B, W)
    slope = torch.linspace(-1, 1, W, device=device)
    factor = factor - factor.mean(dim=1, keepdim=True)
    factor = factor - (factor @ slope / slope.square().sum())[:, None] * slope
    factor = factor / factor.square().mean(dim=1, keepdim=True).sqrt()
    factor = factor * most * torch.rand((B, 1), generator=generator, device=device)

    horizon = (0.25 + 0.5 * torch.rand((B, 1, 1), generator=generator, device=device)) * (H - 1)
    rows = torch.arange(H, device=device)[:, None].expand(B, H, 1)
    down = horizon + (rows - horizon) * (1 + factor[:, None])
    return _looked_up(frames, torch.arange(W, device=device).expand(B, H, W), down)


def _looked_up(frames: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Frames (B, T, C, H, W) at the pixels (right, down), both (B, H, W): bilinear, beyond the edges the nearest."""
    T, (H, W) = frames.shape[1], frames.shape[-2:]
    grid = torch.stack([(2 * right + 1) / W - 1, (2 * down + 1) / H - 1], dim=-1)
    moved = F.grid_sample(
        frames.flatten(1, 2), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return moved.unflatten(1, (T, -1))


def warp_under_noise(frames: Tensor, sigma: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Frames (B, C, H, W) that are to get noise of levels sigma (B,), bent as by `warp`, by less below `SURE`.

    A sampler's later steps begin with what its earlier ones painted, where lines are bent; in training they would begin
    with the frame to predict.
    """
    return warp(frames[:, None], most * (sigma / SURE).clamp(max=1), generator)[:, 0]
