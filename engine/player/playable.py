"""What the player needs of a world: a narrow seam, which `engine.World` and the tests' double both fit."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.actions import Action, ActionSpace
from engine.schedule import SamplerConfig

Pixels = npt.NDArray[np.uint8]


class PlayableFrame(Protocol):
    """One frame of a world; see `engine.Frame`."""

    @property
    def rgb(self) -> Pixels: ...
    @property
    def low_res(self) -> Pixels: ...
    @property
    def index(self) -> int: ...


class PlayableSpawn(Protocol):
    """A place to start from; see `engine.spawn.Spawn`."""

    @property
    def actions(self) -> npt.NDArray[Any]: ...
    @property
    def next_actions(self) -> npt.NDArray[Any]: ...


class PlayableBundle(Protocol):
    """A world on disk; see `engine.Bundle`."""

    @property
    def digest(self) -> str: ...
    def spawn(self, index: int) -> PlayableSpawn: ...


class PlayableWorld(Protocol):
    """One world, loaded; see `engine.World`."""

    @property
    def name(self) -> str: ...
    @property
    def bundle(self) -> PlayableBundle: ...
    @property
    def action_space(self) -> ActionSpace: ...
    @property
    def fps(self) -> float: ...
    @property
    def horizon(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def spawn_count(self) -> int: ...
    @property
    def preset(self) -> str: ...
    @property
    def presets(self) -> tuple[str, ...]: ...
    @property
    def samplers(self) -> Mapping[str, SamplerConfig]: ...
    def reset(self, spawn: int | None = None) -> PlayableFrame: ...
    def step(self, action: Action | npt.ArrayLike) -> PlayableFrame: ...
    def set_preset(self, name: str) -> None: ...
    def set_sampler(self, network: str, config: SamplerConfig) -> None: ...


def recorded_actions(world: PlayableWorld, spawn: int) -> npt.NDArray[Any]:
    """What the recorded player of a spawn did, one row a frame to come: (N, A), N may be 0.

    The spawn's newest action is the first: the published world writes the action of frame t into the newest
    slot, which a spawn has filled already with what its player did there.
    """
    start = world.bundle.spawn(spawn)
    if not len(start.next_actions):
        return start.next_actions
    return np.concatenate([start.actions[-1:], start.next_actions])


def sampler_text(world: PlayableWorld) -> str:
    """The sampler settings in a few words: "quality (3 + 10 steps)"."""
    return f"{world.preset} ({' + '.join(str(config.steps) for config in world.samplers.values())} steps)"
