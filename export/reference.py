"""What a world must paint, computed by PyTorch with the networks as they were trained.

Neither the exported graphs nor the engine's sampler is involved: plain `train.model` networks, `train.rollout`'s
sampler, and histories rolled here. Only the named noise is shared, so that frames can be compared one by one.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.noise import NoiseSource
from engine.schedule import SamplerConfig
from engine.spawn import Spawn
from train.model import Agent, Denoiser
from train.rollout import sample

Pixels = npt.NDArray[np.uint8]


class ReferenceFrame(NamedTuple):
    """uint8 RGB, 0-255: low_res (h, w, 3), full_res (H, W, 3) or None without an upsampler."""

    low_res: Pixels
    full_res: Pixels | None


def unit_range(pixels: Pixels) -> Tensor:
    """uint8 frames (T, 3, H, W), 0-255 -> a history, float32 (1, T*3, H, W) in [-1, 1]."""
    frames = torch.from_numpy(pixels).float().div(255).mul(2).sub(1)
    return frames.reshape(1, -1, *frames.shape[-2:])


def grey_levels(image: Tensor) -> Pixels:
    """float32 (1, 3, H, W) in [-1, 1] -> the nearest grey levels, uint8 (H, W, 3)."""
    return np.ascontiguousarray(((image[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def rollout(
    agent: Agent,
    samplers: Mapping[str, SamplerConfig],
    spawn: Spawn,
    actions: npt.NDArray[np.float32],
    noise: NoiseSource,
) -> Iterator[ReferenceFrame]:
    """The frames that follow `spawn` under `actions` (N, A), one at a time."""
    low_res = unit_range(spawn.low_res)
    full_res = None if spawn.full_res is None else unit_range(spawn.full_res)
    slots = torch.from_numpy(spawn.actions)[None].clone()  # (1, T, A)

    def paint(name: str, network: Denoiser, history: Tensor, action: Tensor | None, frame: int) -> Tensor:
        def draw(step: str, shape: tuple[int, ...]) -> Tensor:
            return torch.from_numpy(noise.normal(f"{name}/{step}", shape, frame).copy())

        return sample(network, samplers[name], history, action, draw)

    for frame, action in enumerate(actions):
        slots[0, -1] = torch.from_numpy(action)
        small = paint("denoiser", agent.denoiser, low_res, slots, frame)
        low_res, slots = _rolled(low_res, small), slots.roll(-1, dims=1)
        if agent.upsampler is None or full_res is None:
            yield ReferenceFrame(grey_levels(small), None)
            continue
        history = torch.cat((full_res, agent.upsampler.enlarge(small)), dim=1)
        large = paint("upsampler", agent.upsampler, history, None, frame)
        full_res = _rolled(full_res, large)
        yield ReferenceFrame(grey_levels(small), grey_levels(large))


def _rolled(history: Tensor, newest: Tensor) -> Tensor:
    return torch.cat((history[:, newest.shape[1] :], newest), dim=1)
