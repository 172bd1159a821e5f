"""Several sampler steps of an upsampler distilled into one.

A single evaluation, trained on recorded frames, paints the mean of all frames that the low-res one could belong to:
soft. With several steps the noise decides for one of them. So the noise that play begins with and what a teacher paints
from it, step after step, are given to the network as a pair to learn, with which one evaluation decides as well (one
stage of Salimans 2022, "Progressive Distillation"). The teacher is what the averaged weights were when it began.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import DiamondError
from engine.schedule import SamplerConfig
from train.config import NetworkTraining, WorldRecipe
from train.model import Denoiser
from train.rollout import sample


@dataclass(frozen=True)
class Teacher:
    """Frozen weights and the sampler that they paint with."""

    network: Denoiser
    sampler: SamplerConfig

    @classmethod
    def of(cls, network: Denoiser, sampler: SamplerConfig) -> "Teacher":
        """A teacher that knows what `network` knows now."""
        return cls(copy.deepcopy(network).requires_grad_(False), sampler)

    @torch.no_grad()
    def __call__(self, noise: Tensor, history: Tensor) -> Tensor:
        """The frame (B, C, H, W) in [-1, 1] that play paints, beginning with `noise` (B, C, H, W).

        history: (B, frames*C, H, W), for an upsampler the previous full-res frame and the enlarged low-res one.
        """

        def draw(name: str, shape: tuple[int, ...]) -> Tensor:
            return (
                noise / self.sampler.initial_std
            )  # the only draw: `teacher_sampler` takes none that adds noise

        return sample(self.network, self.sampler, history, None, draw)


def teacher_sampler(recipe: WorldRecipe, name: str) -> SamplerConfig | None:
    """How the teacher of a network samples: the preset `distil`, or None if there is none.

    Raises DiamondError for a network that is not an upsampler, a preset that is unknown or begins with other noise than
    the default one, noise in its later steps, or no `start_fraction` of rows to teach.
    """
    cfg: NetworkTraining = getattr(recipe, name)
    if not cfg.distil:
        return None
    if not getattr(recipe.agent, name).is_upsampler:
        raise DiamondError(f"{name}.distil", expected="distillation of an upsampler")
    taught = recipe.presets.get(cfg.distil, {}).get(name)
    if taught is None:
        raise DiamondError(
            f"{name}.distil: no preset {cfg.distil!r} samples it",
            expected="one of " + ", ".join(recipe.presets),
        )
    own = recipe.default_sampler(name)
    if (taught.sigma_max, taught.initial_std) != (own.sigma_max, own.initial_std):
        raise DiamondError(
            f"{name}.distil: preset {cfg.distil} begins with other noise than {recipe.default_preset}",
            expected="the same sigma_max and initial_std",
        )
    if taught.s_churn > 0 or taught.s_cond > 0:
        raise DiamondError(
            f"{name}.distil: preset {cfg.distil} adds noise", expected="s_churn and s_cond of 0"
        )
    if cfg.start_fraction == 0:
        raise DiamondError(f"{name}.distil without start_fraction", fix=f"--set {name}.start_fraction=0.5")
    return taught
