"""A network made wider without changing what it computes (Chen 2016, "Net2Net"; here new channels are not copies).

Every group of 32 channels that the narrow network has keeps its place, its norm and its weights. New groups see
everything and are seen by nobody: what reads them does so with weights of zero, which training moves from its first
step on. What a narrow network learned in hours so begins a wider one. Not in the published training.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from engine.errors import DiamondError
from train.model import Denoiser, DenoiserConfig
from train.model.blocks import GROUP_SIZE, ResBlock, ResBlocks, SelfAttention2d

Widths = Sequence[tuple[int, int]]
"""(narrow, wide) of every part of a feature map, in the order in which they are concatenated."""


def can_grow(narrow: DenoiserConfig, wide: DenoiserConfig) -> bool:
    """Whether `wide` is `narrow` with more channels in some levels.

    Those levels and the ones beside them, which they are concatenated with, must be whole groups of a norm.
    """
    before, after = narrow.inner_model.channels, wide.inner_model.channels
    if len(before) != len(after):
        return False
    inner = dataclasses.replace(narrow.inner_model, channels=after)
    levels = list(zip(before, after, strict=True))
    whole = all(
        c % GROUP_SIZE == 0
        for level, (b, a) in enumerate(levels)
        if b != a
        for beside in levels[max(0, level - 1) : level + 2]
        for c in beside
    )
    return dataclasses.replace(narrow, inner_model=inner) == wide and all(b <= a for b, a in levels) and whole


@torch.no_grad()
def grow(narrow: Denoiser, wide: Denoiser) -> None:
    """Puts the weights of `narrow` into `wide`, a new network, so that both compute the same, up to rounding.

    Raises DiamondError if `can_grow` says no, or if a block would lose the projection around it.
    """
    if not can_grow(narrow.cfg, wide.cfg):
        raise DiamondError(
            f"channels {narrow.cfg.inner_model.channels} don't grow into {wide.cfg.inner_model.channels}",
            expected=f"the same network, wider in some levels, there and beside them multiples of {GROUP_SIZE}",
        )
    levels = list(zip(narrow.cfg.inner_model.channels, wide.cfg.inner_model.channels, strict=True))
    old, new = narrow.inner_model, wide.inner_model
    for shared in ("noise_emb", "noise_cond_emb", "act_emb", "cond_proj"):
        if getattr(old, shared) is not None:
            getattr(new, shared).load_state_dict(getattr(old, shared).state_dict())

    # 1. Into the U-Net and out of it.
    first = _positions(levels[:1])
    _copy_convolution(old.conv_in, new.conv_in, torch.arange(old.conv_in.in_channels), first)
    _copy_rows(old.norm_out.norm, new.norm_out.norm, first)
    _copy_convolution(old.conv_out, new.conv_out, first, torch.arange(old.conv_out.out_channels))

    # 2. The U-Net, level by level; see `UNet.__init__` for the widths.
    blocks: list[tuple[ResBlocks, ResBlocks, list[tuple[Widths, tuple[int, int]]]]] = []
    depths = narrow.cfg.inner_model.depths
    for level, depth in enumerate(depths):
        above, here = levels[max(0, level - 1)], levels[level]
        down: list[tuple[Widths, tuple[int, int]]] = [([above], here), *[([here], here)] * (depth - 1)]
        up: list[tuple[Widths, tuple[int, int]]] = [*[([here, here], here)] * depth, ([here, above], above)]
        last = len(depths) - 1 - level  # the way up is listed from the deepest level on
        blocks.append((_blocks(old.unet.d_blocks[level]), _blocks(new.unet.d_blocks[level]), down))
        blocks.append((_blocks(old.unet.u_blocks[last]), _blocks(new.unet.u_blocks[last]), up))
    deepest = levels[-1]
    blocks.append((old.unet.mid_blocks, new.unet.mid_blocks, [([deepest], deepest)] * 2))
    for olds, news, widths in blocks:
        for a, b, (inward, outward) in zip(olds.resblocks, news.resblocks, widths, strict=True):
            _copy_block(a, b, _positions(inward), _positions([outward]))
    for resamplings in ("downsamples", "upsamples"):
        for a, b in zip(getattr(old.unet, resamplings), getattr(new.unet, resamplings), strict=True):
            if not isinstance(a, nn.Identity):
                kept = _positions([(a.conv.in_channels, b.conv.in_channels)])
                _copy_convolution(a.conv, b.conv, kept, kept)


def _blocks(module: nn.Module) -> ResBlocks:
    assert isinstance(module, ResBlocks)
    return module


def _positions(widths: Widths) -> Tensor:
    """Where the channels of a narrow feature map lie in the wide one, (narrow channels,) of int64."""
    offsets = itertools.accumulate((wide for _, wide in widths), initial=0)
    return torch.cat(
        [offset + torch.arange(narrow) for offset, (narrow, _) in zip(offsets, widths, strict=False)]
    )


def _copy_block(old: nn.Module, new: nn.Module, inward: Tensor, outward: Tensor) -> None:
    assert isinstance(old, ResBlock)
    assert isinstance(new, ResBlock)
    for norm, at in (("norm1", inward), ("norm2", outward)):
        wide = getattr(new, norm)
        _copy_rows(getattr(old, norm).linear, wide.linear, torch.cat((at, wide.channels + at)))
    _copy_convolution(old.conv1, new.conv1, inward, outward)
    _copy_convolution(old.conv2, new.conv2, outward, outward)
    if isinstance(new.proj, nn.Conv2d):
        proj = old.proj
        if not isinstance(proj, nn.Conv2d):  # what passed by unchanged is now projected, onto itself
            proj = nn.Conv2d(len(inward), len(outward), 1)
            nn.init.dirac_(proj.weight)
            nn.init.zeros_(proj.bias)  # type: ignore[arg-type]
        _copy_convolution(proj, new.proj, inward, outward)
    elif isinstance(old.proj, nn.Conv2d):
        raise DiamondError(
            f"a block from {len(inward)} to {len(outward)} channels has no projection any more",
            expected="neighbouring levels that keep different widths",
        )
    if isinstance(old.attn, SelfAttention2d) and isinstance(new.attn, SelfAttention2d):
        width = new.attn.out_proj.in_channels
        _copy_rows(old.attn.norm.norm, new.attn.norm.norm, outward)
        queries_keys_values = torch.cat([part * width + outward for part in range(3)])
        _copy_convolution(old.attn.qkv_proj, new.attn.qkv_proj, outward, queries_keys_values)
        _copy_convolution(old.attn.out_proj, new.attn.out_proj, outward, outward)


def _copy_convolution(old: nn.Conv2d, new: nn.Conv2d, inward: Tensor, outward: Tensor) -> None:
    """Old channels read old channels as before, and new ones not at all. New channels keep what they began with."""
    rows = torch.zeros_like(new.weight[outward])
    rows[:, inward] = old.weight
    new.weight[outward] = rows
    if old.bias is not None and new.bias is not None:
        new.bias[outward] = old.bias


def _copy_rows(old: nn.Linear | nn.GroupNorm, new: nn.Linear | nn.GroupNorm, at: Tensor) -> None:
    new.weight[at] = old.weight
    new.bias[at] = old.bias
