"""Bent frames for a denoiser's history, so that what it paints becomes straight again.

A sampled frame bends lines a little, the next one is painted from it, and nothing in the recordings says that bent
lines become straight: every recorded history is. So the history is bent here, all its frames alike, and the frame to
predict is not. Not in the published training, whose noise on the history moves no line.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CELL = 8  # pixels between the places whose displacement is drawn: bends are as wide as two cells or more


def warp(frames: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Frames moved about by a smooth field that is drawn a row, the same for all frames of the row.

    Args:
        frames: float32 (B, T, C, H, W).
        most: pixels; a row's field has a root mean square, of either direction, from 0 to this.
        generator: on the frames' device.

    Returns:
        The same shape, bilinear; beyond the edges the nearest pixel. A field has no mean: it bends and does not shift.
    """
    B, T, C, H, W = frames.shape
    device = frames.device
    coarse = torch.randn((B, 2, H // CELL + 2, W // CELL + 2), generator=generator, device=device)
    field = F.interpolate(coarse, size=(H, W), mode="bicubic", align_corners=True)
    field = field - field.mean(dim=(2, 3), keepdim=True)
    field = field / field.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    field = field * most * torch.rand((B, 1, 1, 1), generator=generator, device=device)

    right = torch.arange(W, device=device) + field[:, 0]  # (B, H, W), pixels
    down = torch.arange(H, device=device)[:, None] + field[:, 1]
    grid = torch.stack([(2 * right + 1) / W - 1, (2 * down + 1) / H - 1], dim=-1)
    moved = F.grid_sample(
        frames.flatten(1, 2), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return moved.unflatten(1, (T, C))
