"""Runs diffusion world models: load a bundle, reset, step.

    from engine import Action, load_world

    world = load_world("freedoom")
    frame = world.reset()
    frame = world.step(Action(keys={"w"}, mouse_dx=30))

The public names load on first use, so that `import engine` costs nothing; behind them are numpy and the
standard library only, until a backend is opened.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.actions import Action, ActionSpace
    from engine.bundle import Bundle
    from engine.errors import DiamondError
    from engine.frame import Frame
    from engine.history import Snapshot
    from engine.loading import load_world
    from engine.schedule import SamplerConfig
    from engine.spawn import Spawn
    from engine.world import World

__all__ = [
    "Action",
    "ActionSpace",
    "Bundle",
    "DiamondError",
    "Frame",
    "SamplerConfig",
    "Snapshot",
    "Spawn",
    "World",
    "load_world",
]

_HOME = {
    "Action": "actions",
    "ActionSpace": "actions",
    "Bundle": "bundle",
    "DiamondError": "errors",
    "Frame": "frame",
    "SamplerConfig": "schedule",
    "Snapshot": "history",
    "Spawn": "spawn",
    "World": "world",
    "load_world": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(import_module(f"engine.{_HOME[name]}"), name)
