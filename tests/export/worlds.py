"""Very small networks and worlds for the exporter's tests: seconds to export, and easy to vary."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from engine.actions import ActionSpace
from engine.schedule import SamplerConfig
from engine.spawn import Spawn
from export.assemble import WorldParts
from export.graphs import GraphDefinition
from train.model import Agent, AgentConfig, DenoiserConfig, InnerModelConfig

SPACE = ActionSpace(keys=("left", "right", "jump"), mouse_x=(), mouse_y=(), buttons=())


def random_agent(
    *,
    levels: int = 1,
    history: int = 2,
    num_actions: int = SPACE.size,
    upsampling_factor: int | None = None,
    sigma_data: float = 0.5,
    patch_size: int = 1,
    predict_change: bool = False,
) -> Agent:
    """Networks of `levels` levels with weights that are random everywhere, also where training starts from zero."""

    def sizes(frames: int) -> InnerModelConfig:
        return InnerModelConfig(
            num_steps_conditioning=frames,
            cond_channels=8 * frames,
            depths=(1,) * levels,
            channels=(8, 16, 72)[:levels],
            attn_depths=(False,) * levels,
            patch_size=patch_size if frames == 1 else 1,
        )

    upsampler = None
    if upsampling_factor is not None:
        upsampler = DenoiserConfig(
            sizes(1),
            sigma_data,
            noise_previous_obs=False,
            upsampling_factor=upsampling_factor,
            predict_change=predict_change,
        )
    # Seeded before each use, and the denoiser comes first: it is the same with and without an upsampler.
    torch.manual_seed(1)
    denoiser = DenoiserConfig(sizes(history), sigma_data, predict_change=predict_change)
    agent = Agent(AgentConfig(denoiser, upsampler, num_actions))
    torch.manual_seed(2)
    for parameter in agent.parameters():
        nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2)
    return agent.eval().requires_grad_(False)


def small_parts(agent: Agent, low_res: tuple[int, int]) -> WorldParts:
    """A world of such networks, from two spawns of random pixels."""
    random = np.random.default_rng(0)
    history = agent.cfg.denoiser.inner_model.num_steps_conditioning
    actions = np.eye(SPACE.size, dtype=np.float32)[random.integers(0, SPACE.size, 20)]
    upsampler = agent.cfg.upsampler
    full_res = None
    if upsampler is not None and upsampler.upsampling_factor is not None:
        size = [side * upsampler.upsampling_factor for side in low_res]
        full_res = random.integers(0, 256, (1, 3, *size), np.uint8)
    spawn = Spawn(
        low_res=random.integers(0, 256, (history, 3, *low_res), np.uint8),
        full_res=full_res,
        actions=actions[:history],
        next_actions=actions,
    )
    fast = {
        "denoiser": SamplerConfig(steps=2, s_cond=0.005),
        "upsampler": None if upsampler is None else SamplerConfig(steps=1, sigma_min=1.0),
    }
    return WorldParts(
        agent=agent,
        name="small",
        title="A small world",
        fps=10.0,
        low_res=low_res,
        action_space=SPACE,
        presets={"fast": fast},
        default_preset="fast",
        spawns=(spawn, dataclasses.replace(spawn, next_actions=actions[:0])),
    )


def exported_before(graphs: Mapping[str, Path]) -> Callable[[GraphDefinition, Path], list[Path]]:
    """Stands in for `export_graph` where the graphs, by role, are there already."""

    def copy(definition: GraphDefinition, path: Path) -> list[Path]:
        path.parent.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(graphs[definition.role], path))]

    return copy
