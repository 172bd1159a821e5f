"""An upsampler's rows whose low-res frame is imagined: what the run's denoiser paints where a recorded frame was.

A recorded low-res frame says to a hundredth of a pixel where an edge is, an imagined one wavers by a tenth. An
upsampler that has seen only recorded ones draws what wavers as faithfully as what is there. Here the denoiser paints
the low-res frame, as play samples it, from the recorded frames before it, and the frame to predict is the recorded one:
the upsampler learns which edges are straight. Cascades of diffusion models add noise to that end (Ho 2022, "Cascaded
Diffusion Models", sec. 3.1); a trained denoiser's own mistakes are nearer to those of play. Not in the published
training.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.errors import DiamondError
from engine.schedule import SamplerConfig
from train.checkpoint import RunInfo, load_average
from train.config import NetworkTraining
from train.model import Denoiser
from train.rollout import sample

_STREAM = 1 << 41  # added to a seed: far from the loss's draws and from those of rollouts


@dataclass(frozen=True)
class Imagination:
    """A trained denoiser, and how play samples it."""

    denoiser: Denoiser
    sampler: SamplerConfig
    fraction: float
    bf16: bool

    @classmethod
    def of(cls, run_dir: Path, info: RunInfo, name: str, device: str) -> "Imagination | None":
        """What imagines rows for the network `name` of a run: its denoiser's averaged weights. None if no row is to be.

        Raises DiamondError for another network than the upsampler, and where the denoiser is not trained yet.
        """
        cfg: NetworkTraining = getattr(info.recipe, name)
        if cfg.imagined_fraction == 0:
            return None
        if not getattr(info.recipe.agent, name).is_upsampler:
            raise DiamondError(
                f"{name}.imagined_fraction", expected="an upsampler, which has low-res frames to enlarge"
            )
        agent = info.recipe.agent
        denoiser = Denoiser(agent.denoiser, agent.num_actions)
        load_average(run_dir / "denoiser", denoiser)
        sampler = info.recipe.default_sampler("denoiser")
        return cls(denoiser.to(device).eval().requires_grad_(False), sampler, cfg.imagined_fraction, cfg.bf16)

    @property
    def history(self) -> int:
        """Frames that the denoiser needs before the one that it paints."""
        return self.denoiser.cfg.inner_model.num_steps_conditioning

    @torch.no_grad()
    def __call__(self, low_res: Tensor, actions: Tensor, valid: Tensor, count: int, seed: int) -> Tensor:
        """The last `count` frames of segments, in a part of the rows imagined, each from the recorded ones before it.

        low_res: float32 (B, T, C, h, w) in [-1, 1], T = history + count at least. actions: (B, T, A). valid: bool
        (B, T); a row that began before its episode stays as recorded. seed: of all draws. Returns (B, count, C, h, w).
        """
        B, T = valid.shape
        generator = torch.Generator(low_res.device).manual_seed(seed + _STREAM)

        def draw(name: str, shape: tuple[int, ...]) -> Tensor:
            return torch.randn(shape, generator=generator, device=low_res.device)

        chosen = torch.rand((B,), generator=generator, device=low_res.device) < self.fraction
        chosen &= valid.all(dim=1)
        frames = low_res[:, T - count :].clone()
        if not chosen.any():
            return frames
        for k, t in enumerate(range(T - count, T)):
            before = slice(t - self.history, t)
            with torch.autocast(low_res.device.type, torch.bfloat16, enabled=self.bf16):
                painted = sample(
                    self.denoiser,
                    self.sampler,
                    low_res[chosen, before].flatten(1, 2),
                    actions[chosen, before],
                    draw,
                )
            frames[chosen, k] = painted.float()
        return frames
