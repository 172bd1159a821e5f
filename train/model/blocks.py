"""Layers of the U-Net: adaptive group norm, residual blocks, self-attention, resampling.

Knows nothing of noise levels, frames or actions: a block sees a feature map (B, C, H, W) and a conditioning
vector (B, cond_channels). Attribute names are those of the published checkpoint, so its state dict loads
strictly. `Differs from the paper` notes mark what the published weights expect.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUP_SIZE = 32
NORM_EPS = 1e-5
HEAD_DIM = 8


def num_groups(channels: int) -> int:
    """Groups of every norm in the family: one per 32 channels, at least one."""
    return max(1, channels // GROUP_SIZE)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size (or halves it with stride 2)."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1)


def conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A linear map of every pixel's channels."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=1)


class GroupNorm(nn.Module):
    """Group norm with a learned affine. (B, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(num_groups(channels), channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class AdaGroupNorm(nn.Module):
    """Group norm whose scale and shift are a linear function of the conditioning vector (Dhariwal 2021, app. B)."""

    def __init__(self, channels: int, cond_channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear = nn.Linear(cond_channels, 2 * channels)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.linear(cond)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        normed = F.group_norm(x, num_groups(self.channels), eps=NORM_EPS)
        return torch.addcmul(shift, normed, 1 + scale)


class SelfAttention2d(nn.Module):
    """Multi-head attention over the positions of a feature map, head dimension 8.

    Differs from the paper: the residual adds the normalised input, not the raw one; the published weights were
    trained so (`test_published_evaluations`).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_heads = max(1, channels // HEAD_DIM)
        if channels % self.num_heads:
            raise ValueError(
                f"attention over {channels} channels: they must divide into {self.num_heads} heads"
            )
        self.norm = GroupNorm(channels)
        self.qkv_proj = conv1x1(channels, 3 * channels)
        self.out_proj = conv1x1(channels, channels)
        nn.init.zeros_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        x = self.norm(x)
        qkv = self.qkv_proj(x).reshape(B, 3, self.num_heads, C // self.num_heads, H * W)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)  # (B, heads, H*W, head_dim) each
        y = attend(q, k, v)
        return x + self.out_proj(y.transpose(-1, -2).reshape(B, C, H, W))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention over (B, heads, positions, head_dim). On a CPU in fp32, whatever autocast says:
    there the backward pass in bf16 takes four times as long."""
    if q.device.type != "cpu" or q.dtype == torch.float32:
        return F.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)


class FourierFeatures(nn.Module):
    """Random Fourier features of a scalar: (B,) -> (B, features). Frequencies are fixed at creation and saved."""

    weight: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        if features % 2:
            raise ValueError(f"Fourier features come in pairs, got {features}")
        self.register_buffer("weight", torch.randn(1, features // 2))

    def forward(self, value: Tensor) -> Tensor:
        angle = 2 * math.pi * value[:, None] @ self.weight
        return torch.cat((angle.cos(), angle.sin()), dim=-1)


class Downsample(nn.Module):
    """Halves height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels, stride=2)
        nn.init.orthogonal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Doubles height and width: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class ResBlock(nn.Module):
    """Two adaptive-norm convolutions with a residual, then optional attention. Starts as the identity."""

    def __init__(self, in_channels: int, out_channels: int, cond_channels: int, attention: bool) -> None:
        super().__init__()
        self.proj = conv1x1(in_channels, out_channels) if in_channels != out_channels else nn.Identity()
        self.norm1 = AdaGroupNorm(in_channels, cond_channels)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.norm2 = AdaGroupNorm(out_channels, cond_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.attn = SelfAttention2d(out_channels) if attention else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x, cond)))
        h = self.conv2(F.silu(self.norm2(h, cond)))
        return self.attn(self.proj(x) + h)


class ResBlocks(nn.Module):
    """A chain of residual blocks at one resolution; returns every block's output, for the skip connections."""

    def __init__(self, in_out_channels: list[tuple[int, int]], cond_channels: int, attention: bool) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResBlock(i, o, cond_channels, attention) for i, o in in_out_channels)

    def forward(self, x: Tensor, cond: Tensor, skips: list[Tensor] | None = None) -> list[Tensor]:
        outputs = []
        for index, block in enumerate(self.resblocks):
            x = block(x if skips is None else torch.cat((x, skips[index]), dim=1), cond)
            outputs.append(x)
        return outputs
