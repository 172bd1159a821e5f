"""A world without networks: fulfils what the player needs and paints something that depends on everything it should.

A checkerboard that scrolls with the mouse and the keys, tinted by the spawn and the seed, lighter with more
sampler steps, with the frame number in the top left corner as sixteen black or white squares.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.actions import KEYBOARD_MOUSE_51, Action, ActionSpace
from engine.errors import DiamondError
from engine.schedule import SamplerConfig

H, W, FACTOR = 150, 280, 5
BITS, SQUARE = 16, 10
PRESETS: dict[str, dict[str, SamplerConfig]] = {
    "fast": {"denoiser": SamplerConfig(), "upsampler": SamplerConfig()},
    "quality": {"denoiser": SamplerConfig(steps=3), "upsampler": SamplerConfig(steps=10)},
}
# What the recorded players did: after spawn 0 nothing is known.
WALK = [Action(keys=["w"]), Action(keys=["d"], mouse_dx=30), Action(keys=["s"], left_click=True)]


@dataclass(frozen=True)
class FakeFrame:
    rgb: npt.NDArray[np.uint8]
    low_res: npt.NDArray[np.uint8]
    index: int


@dataclass(frozen=True)
class FakeSpawn:
    actions: npt.NDArray[Any]
    next_actions: npt.NDArray[Any]


@dataclass(frozen=True)
class FakeBundle:
    space: ActionSpace
    digest: str = "f" * 64

    def spawn(self, index: int) -> FakeSpawn:
        walk = np.array([self.space.encode(action) for action in WALK], np.uint8)
        return FakeSpawn(walk[:1], walk[1:] if index else walk[:0])


class FakeWorld:
    name, fps, spawn_count = "fake", 50.0, 3

    def __init__(self, seed: int = 0, step_s: float = 0.0, space: ActionSpace = KEYBOARD_MOUSE_51) -> None:
        self.seed, self.step_s, self.action_space = seed, step_s, space
        self.bundle = FakeBundle(space)
        self.horizon = 1000
        self.fail_at: int | None = None  # the step at which step() raises, counted over all resets
        self.steps = 0
        self.set_preset("fast")
        self.reset(0)

    @property
    def presets(self) -> tuple[str, ...]:
        return tuple(PRESETS)

    @property
    def samplers(self) -> Mapping[str, SamplerConfig]:
        return dict(self._samplers)

    def set_preset(self, name: str) -> None:
        if name not in PRESETS:
            raise DiamondError(f"preset {name!r}", f"one of {list(PRESETS)}")
        self.preset, self._samplers = name, dict(PRESETS[name])

    def set_sampler(self, network: str, config: SamplerConfig) -> None:
        if self._samplers[network] != config:
            self._samplers[network] = config
            self.preset = "custom"

    def reset(self, spawn: int | None = None) -> FakeFrame:
        self.spawn = (self.spawn + 1) % self.spawn_count if spawn is None else spawn
        self._x = self._y = 0.0
        self._index = 0
        return self._paint(0.0)

    def step(self, action: Any) -> FakeFrame:
        self.steps += 1
        if self.steps == self.fail_at:
            raise RuntimeError("the fake world broke, as asked")
        time.sleep(self.step_s)
        done = self.action_space.decode(self.action_space.encode(action))
        keys = frozenset(done.keys)
        self._x += done.mouse_dx / 5 + 4 * (("d" in keys) - ("a" in keys))
        self._y += done.mouse_dy / 5 + 4 * (("s" in keys) - ("w" in keys))
        self._index += 1
        return self._paint(40.0 * done.left_click)

    def _paint(self, flash: float) -> FakeFrame:
        y, x = np.mgrid[0:H, 0:W]
        board = ((x + int(self._x)) // 20 + (y + int(self._y)) // 15) % 2
        tint = np.random.RandomState(1000 * self.seed + self.spawn).uniform(0.4, 1, 3)
        light = 60 + 100 * board + 15 * self._samplers["denoiser"].steps + flash
        rgb = (light[..., None] * tint).clip(0, 255).astype(np.uint8)
        bits = [self._index >> bit & 1 for bit in range(BITS)]
        rgb[:SQUARE, : BITS * SQUARE] = np.repeat(bits, SQUARE)[None, :, None] * 255
        return FakeFrame(rgb, rgb[::FACTOR, ::FACTOR].copy(), self._index)
