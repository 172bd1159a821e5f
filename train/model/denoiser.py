"""One network of the family with its EDM preconditioning (Karras et al. 2022, sec. 5 and table 1).

`Denoiser` is both networks of a world: the denoiser proper (history of low-res frames and their actions) and,
when `upsampling_factor` is set, the upsampler (previous full-res frame and the enlarged new low-res frame).
Knows nothing of sampling loops, losses or files.
"""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import DiamondError
from train.model.blocks import HEAD_DIM, FourierFeatures, GroupNorm, conv3x3, num_groups
from train.model.unet import UNet

FRAME_STD = 0.5  # of images in [-1, 1]


@dataclass(frozen=True)
class InnerModelConfig:
    """Sizes of the U-Net and its conditioning. `attn_depths[i]` puts attention into level i.

    Differs from the paper: with a `patch_size` of p the U-Net works on patches of p x p pixels, at 1/p of the size
    (as in Dosovitskiy 2021 on the way in, Shi 2016 on the way out). The published networks have 1.
    """

    num_steps_conditioning: int = 4
    cond_channels: int = 256
    depths: tuple[int, ...] = (2, 2, 2, 2)
    channels: tuple[int, ...] = (32, 32, 64, 96)
    attn_depths: tuple[bool, ...] = (False, False, True, True)
    img_channels: int = 3
    patch_size: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(int(d) for d in self.depths))
        object.__setattr__(self, "channels", tuple(int(c) for c in self.channels))
        object.__setattr__(self, "attn_depths", tuple(bool(a) for a in self.attn_depths))
        levels = {len(self.depths), len(self.channels), len(self.attn_depths)}
        if len(levels) != 1 or 0 in levels:
            raise DiamondError(
                "model sizes: depths, channels and attn_depths have different lengths",
                expected="one entry a level in each",
                fix=f"got {self.depths}, {self.channels}, {self.attn_depths}",
            )
        if min(self.depths) < 1 or min(self.channels) < 1 or self.img_channels < 1:
            raise DiamondError("model sizes: depths, channels and img_channels must be at least 1")
        if self.patch_size != 1 and (self.patch_size < 1 or self.patch_size % 2):
            raise DiamondError(f"model sizes: patch_size {self.patch_size}", expected="1, or an even number")
        if self.num_steps_conditioning < 1 or self.cond_channels % (2 * self.num_steps_conditioning):
            raise DiamondError(
                f"model sizes: cond_channels {self.cond_channels} with {self.num_steps_conditioning} history frames",
                expected="cond_channels even and divisible by num_steps_conditioning",
                fix="change cond_channels",
            )
        widths = {c for level, c in enumerate(self.channels) for c in self._norm_widths(level)}
        for width in sorted(widths):
            if width % num_groups(width):
                raise DiamondError(
                    f"model sizes: a group norm over {width} channels can't be split into {num_groups(width)} groups",
                    expected="neighbouring levels whose channels add up to a multiple of 32, or to less than 64",
                    fix=f"change channels {self.channels}",
                )
        for level, c in enumerate(self.channels):
            heads = max(1, c // HEAD_DIM)
            if (self.attn_depths[level] or level == len(self.channels) - 1) and c % heads:
                raise DiamondError(
                    f"model sizes: attention over {c} channels can't be split into {heads} heads"
                )

    def _norm_widths(self, level: int) -> tuple[int, ...]:
        here, above = self.channels[level], self.channels[max(0, level - 1)]
        return (here, above, 2 * here, here + above)


@dataclass(frozen=True)
class DenoiserConfig:
    """One network: its sizes, its noise scales, and the enlargement if it is an upsampler.

    Differs from the paper: with `predict_change` what is diffused is a frame's difference from the newest of its
    history (for an upsampler: from the enlarged frame), whose deviation `sigma_data` then is. A network that knows
    nothing yet repeats what it was given, and a still picture stays as it is. The published networks predict frames.
    """

    inner_model: InnerModelConfig = InnerModelConfig()
    sigma_data: float = 0.5
    sigma_offset_noise: float = 0.1
    noise_previous_obs: bool = True
    upsampling_factor: int | None = None
    predict_change: bool = False

    @property
    def history_std(self) -> float:
        """What the history's frames are divided by: their deviation."""
        return FRAME_STD if self.predict_change else self.sigma_data

    @property
    def is_upsampler(self) -> bool:
        return self.upsampling_factor is not None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "DenoiserConfig":
        fields = dict(data)
        return cls(inner_model=InnerModelConfig(**fields.pop("inner_model")), **fields)


class Preconditioning(NamedTuple):
    """Scalars of each batch row, (B, 1, 1, 1) for the c_in, c_out, c_skip, and (B,) for the two noise inputs."""

    c_in: Tensor
    c_out: Tensor
    c_skip: Tensor
    c_noise: Tensor
    c_noise_cond: Tensor


class InnerModel(nn.Module):
    """F_theta of EDM: the U-Net with its embeddings of noise level, history noise and actions."""

    def __init__(self, cfg: InnerModelConfig, num_actions: int, is_upsampler: bool) -> None:
        super().__init__()
        frames_in = cfg.num_steps_conditioning + 1 + int(is_upsampler)
        self.noise_emb = FourierFeatures(cfg.cond_channels)
        self.noise_cond_emb = FourierFeatures(cfg.cond_channels)
        self.act_emb = (
            None
            if is_upsampler
            else nn.Sequential(nn.Embedding(num_actions, cfg.cond_channels // cfg.num_steps_conditioning))
        )
        self.cond_proj = nn.Sequential(
            nn.Linear(cfg.cond_channels, cfg.cond_channels),
            nn.SiLU(),
            nn.Linear(cfg.cond_channels, cfg.cond_channels),
        )
        self.patch_size = p = cfg.patch_size
        self.conv_in = (
            conv3x3(frames_in * cfg.img_channels, cfg.channels[0])
            if p == 1
            else nn.Conv2d(frames_in * cfg.img_channels, cfg.channels[0], 2 * p, stride=p, padding=p // 2)
        )
        self.unet = UNet(cfg.cond_channels, list(cfg.depths), list(cfg.channels), list(cfg.attn_depths))
        self.norm_out = GroupNorm(cfg.channels[0])
        self.conv_out = conv3x3(cfg.channels[0], cfg.img_channels * p * p)
        nn.init.zeros_(self.conv_out.weight)

    def conditioning(self, c_noise: Tensor, c_noise_cond: Tensor, actions: Tensor | None) -> Tensor:
        """(B,), (B,), multi-hot actions (B, T, A) or None -> the vector that modulates every norm (B, cond)."""
        cond = self.noise_emb(c_noise) + self.noise_cond_emb(c_noise_cond)
        if self.act_emb is not None:
            if actions is None:
                raise ValueError("the denoiser needs the actions of its history frames")
            embedding: Tensor = self.act_emb[0].weight  # type: ignore[assignment]
            cond = cond + (actions.to(cond.dtype) @ embedding).flatten(1)
        return self.cond_proj(cond)

    def forward(
        self, x: Tensor, history: Tensor, c_noise: Tensor, c_noise_cond: Tensor, actions: Tensor | None
    ) -> Tensor:
        if x.shape[-2] % self.patch_size or x.shape[-1] % self.patch_size:
            raise ValueError(
                f"frames of {tuple(x.shape[-2:])} do not divide into patches of {self.patch_size}"
            )
        cond = self.conditioning(c_noise, c_noise_cond, actions)
        h = self.unet(self.conv_in(torch.cat((history, x), dim=1)), cond)
        raw = self.conv_out(F.silu(self.norm_out(h)))
        return raw if self.patch_size == 1 else F.pixel_shuffle(raw, self.patch_size)


class Denoiser(nn.Module):
    """A network of the world. Frames are float32 RGB in [-1, 1], (B, C, H, W)."""

    def __init__(self, cfg: DenoiserConfig, num_actions: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.inner_model = InnerModel(cfg.inner_model, num_actions, cfg.is_upsampler)

    def preconditioning(self, sigma: Tensor, sigma_cond: Tensor | None) -> Preconditioning:
        """Table 1 of Karras 2022 for noise levels (B,).

        Differs from the paper: the offset noise of training enters the level, sigma_eff^2 = sigma^2 + offset^2;
        and the noise of the history is a second input, 0 when there is none.
        """
        level = (sigma**2 + self.cfg.sigma_offset_noise**2).sqrt()
        variance = level**2 + self.cfg.sigma_data**2
        c_skip = self.cfg.sigma_data**2 / variance
        c_noise = level.log() / 4
        c_noise_cond = torch.zeros_like(c_noise) if sigma_cond is None else sigma_cond.log() / 4
        c_in, c_out = 1 / variance.sqrt(), level * c_skip.sqrt()
        c_in, c_out, c_skip = (c[:, None, None, None] for c in (c_in, c_out, c_skip))
        return Preconditioning(c_in, c_out, c_skip, c_noise, c_noise_cond)

    def raw_output(self, x: Tensor, history: Tensor, actions: Tensor | None, pre: Preconditioning) -> Tensor:
        """F_theta on a noisy frame x (B, C, H, W) and its history (B, frames*C, H, W), oldest frame first."""
        x = x - self.origin(history)
        return self.inner_model(
            x * pre.c_in, history / self.cfg.history_std, pre.c_noise, pre.c_noise_cond, actions
        )

    def origin(self, history: Tensor) -> Tensor:
        """What predictions are relative to: the newest frame of the history (B, C, H, W), or 0."""
        channels = self.cfg.inner_model.img_channels
        newest = history[:, -channels:]
        return newest if self.cfg.predict_change else torch.zeros_like(newest)

    @torch.no_grad()
    def quantised_prediction(self, x: Tensor, raw: Tensor, pre: Preconditioning, origin: Tensor) -> Tensor:
        """Eq. 7 of Karras 2022 around `origin`, then clamped to [-1, 1] and truncated to 256 grey levels."""
        d = (origin + pre.c_skip * (x - origin) + pre.c_out * raw).clamp(-1, 1)
        return ((d + 1) / 2 * 255).trunc() / 255 * 2 - 1

    @torch.no_grad()
    def denoise(
        self, x: Tensor, sigma: Tensor, sigma_cond: Tensor | None, history: Tensor, actions: Tensor | None
    ) -> Tensor:
        """The predicted clean frame for noise levels sigma (B,): (B, C, H, W), quantised, in [-1, 1]."""
        pre = self.preconditioning(sigma, sigma_cond)
        raw = self.raw_output(x, history, actions, pre)
        return self.quantised_prediction(x, raw, pre, self.origin(history))

    def enlarge(self, low_res: Tensor) -> Tensor:
        """Bicubic enlargement of low-res frames (B, C, h, w) to the upsampler's size."""
        if self.cfg.upsampling_factor is None:
            raise ValueError("not an upsampler")
        return F.interpolate(low_res, scale_factor=float(self.cfg.upsampling_factor), mode="bicubic")
