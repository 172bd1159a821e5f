"""The sampler in PyTorch, batched: for held-out pictures while training and as the reference of the export gate.

The same equations as engine/sampler.py, written out plainly for tensors (Karras 2022, Alg. 1 and 2), and used to
check it. Differs from the paper in the published ways (see engine/schedule.py).
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from engine.schedule import SamplerConfig, karras_sigmas
from train.model.denoiser import Denoiser

NamedDraw = Callable[[str, tuple[int, ...]], Tensor]
"""`draw(name, shape)` returns standard normals, e.g. for `step0/history`."""


@torch.no_grad()
def sample(
    network: Denoiser, cfg: SamplerConfig, history: Tensor, actions: Tensor | None, draw: NamedDraw
) -> Tensor:
    """One frame (B, C, H, W) in [-1, 1] from history (B, frames*C, H, W) and actions (B, T, A) or None."""
    B, _, H, W = history.shape
    C = network.cfg.inner_model.img_channels
    sigmas = [float(s) for s in karras_sigmas(cfg)]
    gamma_max = min(cfg.s_churn / cfg.steps, 2**0.5 - 1)
    sigma_cond = torch.full((B,), cfg.s_cond, device=history.device) if cfg.s_cond > 0 else None

    def denoise(x: Tensor, sigma: float) -> Tensor:
        level = torch.full((B,), sigma, device=history.device)
        return network.denoise(x, level, sigma_cond, history, actions)

    x = draw("init", (B, C, H, W)) * cfg.initial_std
    for step, (sigma, next_sigma) in enumerate(itertools.pairwise(sigmas)):
        gamma = gamma_max if cfg.s_tmin <= sigma <= cfg.s_tmax else 0.0
        sigma_hat = sigma * (1 + gamma)
        if gamma > 0:
            x = x + draw(f"step{step}/churn", (B, C, H, W)) * cfg.s_noise * (sigma_hat**2 - sigma**2) ** 0.5
        if cfg.s_cond > 0:
            history = history + cfg.s_cond * draw(f"step{step}/history", tuple(history.shape))
        denoised = denoise(x, sigma)
        if next_sigma == 0:
            return denoised
        slope = (x - denoised) / sigma_hat
        x_next = x + slope * (next_sigma - sigma_hat)
        if cfg.order == 2:
            slope_next = (x_next - denoise(x_next, next_sigma)) / next_sigma
            x_next = x + (slope + slope_next) / 2 * (next_sigma - sigma_hat)
        x = x_next
    raise AssertionError("the schedule ends in sigma 0")


@torch.no_grad()
def rollout(network: Denoiser, cfg: SamplerConfig, frames: Tensor, actions: Tensor, seed: int) -> Tensor:
    """Imagined frames (B, N, C, h, w) after `frames` (B, T, C, h, w) under actions (B, T + N - 1, A).

    Action t belongs to frame t: it is what was done while that frame was the newest.
    """
    B, T, C, h, w = frames.shape
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator).to(frames.device)

    seen = list(frames.unbind(dim=1))
    for t in range(actions.shape[1] - T + 1):
        history = torch.cat(seen[-T:], dim=1)
        seen.append(sample(network, cfg, history, actions[:, t : t + T], draw))
    return torch.stack(seen[T:], dim=1)
