"""The training objective: EDM's weighted denoising loss over a few frames predicted one after the other.

Each predicted frame (quantised, as the player will see it) replaces the true one in the history of the next, so
the network meets its own mistakes (DIAMOND, sec. 3.2 and app. A). Knows nothing of optimisers, data or devices.
Draws come from the caller, in a fixed order, so a test can pass recorded ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from train.model.denoiser import Denoiser

Draw = Callable[[tuple[int, ...]], Tensor]
"""`draw(shape)` returns float32 standard normals on the network's device."""


@dataclass(frozen=True)
class SigmaDistribution:
    """Log-normal noise levels of training (Karras 2022, table 1: P_mean, P_std), clipped."""

    loc: float = -1.2
    scale: float = 1.2
    sigma_min: float = 2e-3
    sigma_max: float = 20.0

    def sample(self, batch: int, draw: Draw) -> Tensor:
        return (draw((batch,)) * self.scale + self.loc).exp().clip(self.sigma_min, self.sigma_max)


@dataclass(frozen=True)
class PlayStart:
    """Rows of a batch that are given what a sampler gives first: noise without a frame in it.

    Not in the published training. A noisy frame of sigma 5 still tells how bright its large areas are; pure noise,
    which play begins with, then says that all is grey, and a rollout fades (as in Lin 2024 for images).

    Attributes:
        fraction: of the rows, 0 to 1.
        sigma: the level that the network is told. std: of the noise; `SamplerConfig.sigma_max` and `initial_std`.
        teach: what these rows are to become, from their noise and history, both (B, C, H, W), instead of the recorded
            frame: a teacher's painting (train/distil.py).
    """

    fraction: float
    sigma: float
    std: float
    teach: Callable[[Tensor, Tensor], Tensor] | None = None

    def mix_in(self, sigma: Tensor, noisy: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        """Replaces the chosen rows of sigma (B,) and noisy (B, C, H, W); the third result says which, bool (B,)."""
        chosen = torch.special.ndtr(draw(tuple(sigma.shape))) < self.fraction
        noise = self.std * draw(tuple(noisy.shape))
        level = torch.full_like(sigma, self.sigma)
        noisy = torch.where(chosen[:, None, None, None], noise, noisy)
        return torch.where(chosen, level, sigma), noisy, chosen


def add_noise(x: Tensor, sigma: Tensor, sigma_offset: float, draw: Draw) -> Tensor:
    """x (B, C, H, W) plus normals of deviation sigma (B,), plus one offset a channel of deviation sigma_offset."""
    B, C, _, _ = x.shape
    offset = sigma_offset * draw((B, C, 1, 1))
    return x + offset + draw(tuple(x.shape)) * sigma[:, None, None, None]


def denoising_loss(
    denoiser: Denoiser,
    frames: Tensor,
    actions: Tensor | None,
    valid: Tensor,
    draw: Draw,
    sigmas: SigmaDistribution,
    history_sigmas: SigmaDistribution,
    enlarged: Tensor | None = None,
    start: PlayStart | None = None,
    clean: Tensor | None = None,
    bend: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Mean loss over the predicted frames of a batch of segments.

    frames: float32 (B, T, C, H, W) in [-1, 1], at the network's own resolution; the first
        `num_steps_conditioning` are history, each later one is predicted in turn. actions: (B, T, A) multi-hot, None
        for the upsampler. valid: bool (B, T), False where a segment was padded. sigmas, history_sigmas: noise levels of
        the predicted frame and of its history (published: the same distribution). enlarged: for the upsampler, the
        bicubic enlargement of the low-res frames, same shape as frames. start: rows that begin where play begins.
        clean: the enlargement of the low-res frames before noise was added, for a teacher; None if there was none.
        bend: what becomes of a frame (B, C, H, W) before noise of levels (B,) is added; the frame to predict stays.
    """
    cfg = denoiser.cfg
    history_length = cfg.inner_model.num_steps_conditioning
    B, T, C, H, W = frames.shape
    if T <= history_length:
        raise ValueError(f"a segment of {T} frames has nothing to predict after {history_length} of history")
    seen = list(frames.unbind(dim=1))
    total = frames.new_zeros(())
    for t in range(history_length, T):
        history = torch.cat(seen[t - history_length : t], dim=1)  # (B, frames*C, H, W)
        sigma_cond = None
        if cfg.noise_previous_obs:
            sigma_cond = history_sigmas.sample(B, draw)
            history = add_noise(history, sigma_cond, cfg.sigma_offset_noise, draw)
        taught_from = None if clean is None else torch.cat((history, clean[:, t]), dim=1)
        if enlarged is not None:
            history = torch.cat((history, enlarged[:, t]), dim=1)

        sigma = sigmas.sample(B, draw)
        target_frame = frames[:, t]
        beneath = target_frame if bend is None else bend(target_frame, sigma)
        noisy = add_noise(beneath, sigma, cfg.sigma_offset_noise, draw)
        if start is not None:
            sigma, noisy, chosen = start.mix_in(sigma, noisy, draw)
            if start.teach is not None and chosen.any():
                target_frame = target_frame.clone()
                target_frame[chosen] = start.teach(
                    noisy[chosen], (history if taught_from is None else taught_from)[chosen]
                )
        pre = denoiser.preconditioning(sigma, sigma_cond)
        frame_actions = None if actions is None else actions[:, t - history_length : t]
        raw = denoiser.raw_output(noisy, history, frame_actions, pre).float()

        # Eq. 8 of Karras 2022: the effective target of F_theta, so that the loss is weighted by 1 / c_out^2.
        origin = denoiser.origin(history)
        target = (target_frame - origin - pre.c_skip * (noisy - origin)) / pre.c_out
        mask = valid[:, t]
        if mask.any():
            total = total + F.mse_loss(raw[mask], target[mask])
        seen[t] = denoiser.quantised_prediction(noisy, raw, pre, origin)
    return total / (T - history_length)
