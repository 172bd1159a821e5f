"""The U-Net: down, middle, up, with skip connections from every block. Knows nothing of diffusion."""

import torch.nn.functional as F
from torch import Tensor, nn

from train.model.blocks import Downsample, ResBlocks, Upsample


class UNet(nn.Module):
    """(B, channels[0], H, W) and (B, cond_channels) -> (B, channels[0], H, W).

    `depths[i]` residual blocks at level i, which has `channels[i]` channels and 1/2^i of the size; the way up has
    one more block a level, because the level's input is a skip connection too. Frames are padded right and bottom
    to a multiple of 2^(levels - 1), and cropped back. The middle always has attention.
    """

    def __init__(
        self, cond_channels: int, depths: list[int], channels: list[int], attn_depths: list[bool]
    ) -> None:
        super().__init__()
        down, up = [], []
        for level, depth in enumerate(depths):
            above, here = channels[max(0, level - 1)], channels[level]
            down_pairs = [(above, here)] + [(here, here)] * (depth - 1)
            up_pairs = [(2 * here, here)] * depth + [(above + here, above)]
            down.append(ResBlocks(down_pairs, cond_channels, attn_depths[level]))
            up.append(ResBlocks(up_pairs, cond_channels, attn_depths[level]))
        self.d_blocks = nn.ModuleList(down)
        self.mid_blocks = ResBlocks([(channels[-1], channels[-1])] * 2, cond_channels, attention=True)
        self.u_blocks = nn.ModuleList(reversed(up))
        self.downsamples = nn.ModuleList([nn.Identity(), *(Downsample(c) for c in channels[:-1])])
        self.upsamples = nn.ModuleList([nn.Identity(), *(Upsample(c) for c in reversed(channels[:-1]))])
        self.size_multiple = 2 ** (len(channels) - 1)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        x = F.pad(x, (0, -W % self.size_multiple, 0, -H % self.size_multiple))

        skips: list[list[Tensor]] = []
        for downsample, blocks in zip(self.downsamples, self.d_blocks, strict=True):
            x = downsample(x)
            outputs = blocks(x, cond)
            skips.append([x, *outputs])
            x = outputs[-1]

        x = self.mid_blocks(x, cond)[-1]

        for upsample, blocks in zip(self.upsamples, self.u_blocks, strict=True):
            x = blocks(upsample(x), cond, skips.pop()[::-1])[-1]

        return x[..., :H, :W]
