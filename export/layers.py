"""Layers of the exported graphs: equal to those of `train.model.blocks`, in forms that run faster.

Which form is fastest was measured with ONNX Runtime on a CPU, see benchmarks/NOTES.md.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.model.blocks import NORM_EPS, GroupNorm, SelfAttention2d, num_groups

SMALL_GROUP = 2**16  # values


def group_norm(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Group norm and its affine. x (1, C, H, W), gain and shift (1, C, 1, 1) -> like x; statistics in fp32.

    Small groups use instance norm over flattened groups: the fewest nodes. Large ones fold norm and affine into one
    x * a + b, with statistics row by row and then over the rows, because ONNX Runtime's instance norm adds up a
    whole group in one go: over a million values that costs four digits of PyTorch's accuracy.
    """
    _, C, H, W = x.shape
    groups = num_groups(C)
    if C // groups * H * W <= SMALL_GROUP:
        return F.instance_norm(x.reshape(1, groups, -1), eps=NORM_EPS).reshape(x.shape) * gain + shift
    per_channel = (1, groups, C // groups)
    mean = x.mean(-1).mean(-1).reshape(per_channel).mean(-1, keepdim=True)  # (1, groups, 1)
    square = (x * x).mean(-1).mean(-1).reshape(per_channel).mean(-1, keepdim=True)
    variance = (square - mean * mean).clamp(min=0)
    a = gain.reshape(per_channel) * torch.rsqrt(variance + NORM_EPS)
    b = shift.reshape(per_channel) - mean * a
    return x * a.reshape(gain.shape) + b.reshape(gain.shape)


class HoistedNorm(nn.Module):
    """Stands in for the `index`-th adaptive norm: gain and shift come from the modulation, not from a projection."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        """x (1, C, H, W); modulation: gain, shift, gain, shift, ... of every norm, each (1, C, 1, 1)."""
        gain, shift = modulation[2 * self.index : 2 * self.index + 2]
        return group_norm(x, gain, shift)


class AffineNorm(nn.Module):
    """Stands in for a group norm with learned gain and shift."""

    gain: Tensor
    shift: Tensor

    def __init__(self, norm: GroupNorm) -> None:
        super().__init__()
        self.register_buffer("gain", norm.norm.weight.detach().reshape(1, -1, 1, 1))
        self.register_buffer("shift", norm.norm.bias.detach().reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return group_norm(x, self.gain, self.shift)


class FoldedAttention(nn.Module):
    """Stands in for self-attention: 1/sqrt(head dimension) is folded into the query weights, heads are a batch."""

    def __init__(self, attention: SelfAttention2d) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.norm = AffineNorm(attention.norm)
        self.qkv_proj, self.out_proj = attention.qkv_proj, attention.out_proj
        channels = self.out_proj.in_channels
        scale = math.sqrt(self.num_heads / channels)
        weight, bias = self.qkv_proj.weight.detach().clone(), self.qkv_proj.bias
        assert bias is not None
        bias = bias.detach().clone()
        weight[:channels] *= scale
        bias[:channels] *= scale
        self.qkv_proj.weight = nn.Parameter(weight, requires_grad=False)
        self.qkv_proj.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        _, C, H, W = x.shape
        x = self.norm(x)  # the residual adds the normalised input, as in training
        qkv = self.qkv_proj(x).reshape(3, self.num_heads, C // self.num_heads, H * W)
        q, k, v = qkv.split(1)  # (1, heads, head_dim, H*W) each
        weights = torch.softmax(q.transpose(2, 3) @ k, dim=-1)  # (1, heads, H*W, H*W)
        y = v @ weights.transpose(2, 3)
        return x + self.out_proj(y.reshape(x.shape))


def bicubic_matrix(size: int, factor: int) -> Tensor:
    """The matrix (size * factor, size) by which PyTorch's bicubic enlargement acts on one axis."""
    identity = torch.eye(size)[None, None]
    return F.interpolate(identity, scale_factor=(float(factor), 1.0), mode="bicubic")[0, 0]


def swap_layers(root: nn.Module, make: Callable[[str, nn.Module], nn.Module | None]) -> None:
    """Replaces, inside `root`, each layer for which `make(name, layer)` returns another one."""
    for name, layer in list(root.named_modules()):
        replacement = make(name, layer)
        if replacement is not None:
            parent, _, attribute = name.rpartition(".")
            setattr(root.get_submodule(parent), attribute, replacement)
