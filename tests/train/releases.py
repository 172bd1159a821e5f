"""Releases made on the spot: any sizes, a few kilobytes, and easy to damage."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.make_release import random_spawns, write_release
from engine.graphs import Sizes
from tests.conftest import GOLDEN
from train.model import AgentConfig, DenoiserConfig, InnerModelConfig
from train.release import action_space


def small_agent(
    history: int = 2, num_actions: int = 7, factor: int | None = 3, upsampler_history: int = 1
) -> AgentConfig:
    """Networks of two levels; `factor` None for no upsampler."""

    def inner(frames: int) -> InnerModelConfig:
        return InnerModelConfig(
            num_steps_conditioning=frames,
            cond_channels=8 * frames,
            depths=(1, 1),
            channels=(8, 16),
            attn_depths=(False, True),
        )

    upsampler = DenoiserConfig(inner(upsampler_history), noise_previous_obs=False, upsampling_factor=factor)
    return AgentConfig(DenoiserConfig(inner(history)), None if factor is None else upsampler, num_actions)


def make_release(
    out: Path, agent: AgentConfig | None = None, low_res: tuple[int, int] = (6, 10), spawns: int = 1
) -> Path:
    """Writes a release with random weights."""
    agent = agent or small_agent()
    upsampler = agent.upsampler
    factor = None if upsampler is None else upsampler.upsampling_factor
    sizes = Sizes(
        low_res=low_res,
        full_res=None if factor is None else (low_res[0] * factor, low_res[1] * factor),
        denoiser_history=agent.denoiser.inner_model.num_steps_conditioning,
        upsampler_history=None if upsampler is None else upsampler.inner_model.num_steps_conditioning,
        action_size=agent.num_actions,
    )
    return write_release(
        out, agent, random_spawns(sizes, action_space(agent.num_actions), spawns, seed=0), seed=0
    )


def cropped_golden_release(out: Path) -> Path:
    """The golden release with frames of 14x20 and 70x100: attention over its full ones takes seconds."""
    shutil.copytree(GOLDEN / "published_tiny", out)
    for name, (height, width) in (("low_res", (14, 20)), ("full_res", (70, 100))):
        for path in out.glob(f"spawn/*/{name}.npy"):
            np.save(path, np.load(path)[..., :height, :width])
    return out


def edit_yaml(path: Path, field: str, value: Any) -> None:
    """Sets a dotted field; a value of `...` removes it."""
    document = yaml.safe_load(path.read_text())
    *parents, name = field.split(".")
    section = document
    for parent in parents:
        section = section[parent]
    if value is ...:
        del section[name]
    else:
        section[name] = value
    path.write_text(yaml.safe_dump(document))
