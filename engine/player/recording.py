"""A recording of play: the actions, and all that makes them give the same frames again.

A world is deterministic: the same seed, spawn, sampler settings and actions paint the same frames. So a
recording is an npz of a few kilobytes, from which video can be rendered later, at any preset. Resets and
changes of the sampler while recording are kept as events, each with the index of the action that it
precedes.
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.actions import ActionSpace
from engine.errors import DiamondError
from engine.player.playable import PlayableWorld
from engine.schedule import SamplerConfig
from engine.whole_file import WholeFile

_MALFORMED = OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile


@dataclass(frozen=True)
class Sampling:
    """Sampler settings: the name of a preset, and the effective settings of each network, which count."""

    preset: str
    networks: Mapping[str, SamplerConfig]

    @classmethod
    def of(cls, world: PlayableWorld) -> "Sampling":
        """The settings that a world runs with now."""
        return cls(world.preset, dict(world.samplers))

    def set(self, world: PlayableWorld) -> None:
        """Has a world run with these.

        Raises:
            DiamondError: the world lacks one of the networks.
        """
        if self.preset in world.presets:
            world.set_preset(self.preset)  # keeps its name where the settings are still those
        for network, config in self.networks.items():
            world.set_sampler(network, config)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {network: config.to_json() for network, config in self.networks.items()}

    @classmethod
    def from_json(cls, preset: str, data: Mapping[str, Any]) -> "Sampling":
        """The inverse of `to_json`."""
        return cls(preset, {network: SamplerConfig.from_json(config) for network, config in data.items()})


@dataclass(frozen=True)
class Event:
    """What happened just before action number `before`: a reset to `spawn`, or a change of `sampling`."""

    before: int
    spawn: int | None = None
    sampling: Sampling | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        if self.sampling is None:
            return {"before": self.before, "spawn": self.spawn}
        return {"before": self.before, "preset": self.sampling.preset, "sampler": self.sampling.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Event":
        """The inverse of `to_json`."""
        if "sampler" not in data:
            return cls(int(data["before"]), spawn=int(data["spawn"]))
        return cls(int(data["before"]), sampling=Sampling.from_json(data["preset"], data["sampler"]))


@dataclass(frozen=True)
class Recording:
    """Actions and their circumstances. Files of other makers may leave out whatever is None.

    Attributes:
        actions: (N, A), one action vector a frame, zeros and ones.
        action_space: what the vectors mean.
        fps: frames a second at which they were played.
        seed, spawn: what the world was made with, and reset to before the first action.
        world: its name, for the reader. bundle: SHA-256 of its world.json: with another one, frames differ.
        sampling: sampler settings at the first action.
        events: resets and changes of the sampler, in order.
        source: what errors call it.
    """

    actions: npt.NDArray[Any]
    action_space: ActionSpace
    fps: float
    seed: int | None = None
    spawn: int | None = None
    world: str | None = None
    bundle: str | None = None
    sampling: Sampling | None = None
    events: tuple[Event, ...] = ()
    source: str = "recording"

    def require_space(self, space: ActionSpace) -> None:
        """Checks that these actions mean the same in a world of action space `space` (labels may differ).

        Raises:
            DiamondError: they do not.
        """
        ours, theirs = ({**each.to_json(), "labels": {}} for each in (self.action_space, space))
        if different := [name for name in ours if ours[name] != theirs[name]]:
            raise DiamondError(
                f"{self.source}: recorded for another action space: {', '.join(different)} differ",
                f"actions of {space.size} entries: {len(space.keys)} keys, {len(space.buttons)} buttons, "
                f"{len(space.mouse_x)} + {len(space.mouse_y)} mouse bins",
                "play it in the world it was made in" + (f": {self.world}" if self.world else ""),
            )

    def save(self, path: Path) -> None:
        """Writes the npz, whole or not at all.

        Raises:
            DiamondError: it cannot be written.
        """
        fields = {
            "actions": self.actions,
            "action_space": json.dumps(self.action_space.to_json()),
            "fps": float(self.fps),
            "events": json.dumps([event.to_json() for event in self.events]),
            **{name: getattr(self, name) for name in ("seed", "spawn", "world", "bundle")},
        }
        if self.sampling is not None:
            fields |= {"preset": self.sampling.preset, "sampler": json.dumps(self.sampling.to_json())}
        arrays: dict[str, Any] = {name: np.asarray(v) for name, v in fields.items() if v is not None}
        with WholeFile(path) as output:
            np.savez_compressed(output.file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Recording":
        """Reads an npz of actions.

        Raises:
            DiamondError: no such file, not such a file, or its fields contradict each other.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                if not isinstance(archive, np.lib.npyio.NpzFile):
                    raise ValueError("a bare array, not an npz archive")
                fields = {name: archive[name] for name in archive.files}
            return cls._from_fields(fields, str(path))
        except FileNotFoundError as error:
            raise DiamondError(f"{path}: no such file", "an action recording (npz)") from error
        except (*_MALFORMED, DiamondError) as error:
            reason = error.what if isinstance(error, DiamondError) else f"{type(error).__name__}: {error}"
            raise DiamondError(
                f"{path}: not a usable action recording: {reason}",
                "an npz of actions (N, A), action_space and fps",
                "make one with diamond-play --record FILE.npz",
            ) from error

    @classmethod
    def _from_fields(cls, fields: Mapping[str, npt.NDArray[Any]], source: str) -> "Recording":
        def scalar(name: str, read: Callable[[Any], Any]) -> Any:
            return None if name not in fields else read(fields[name][()].item())

        actions = fields["actions"]
        space = ActionSpace.from_json(json.loads(fields["action_space"][()].item()))
        if actions.ndim != 2:
            raise ValueError(f"actions have shape {actions.shape}, not (N, {space.size})")
        if not len(actions):
            raise ValueError("there are no actions in it")
        for vector in actions:
            space.validate(vector)
        sampler = scalar("sampler", json.loads)
        return cls(
            actions=actions,
            action_space=space,
            fps=float(fields["fps"]),
            seed=scalar("seed", int),
            spawn=scalar("spawn", int),
            world=scalar("world", str),
            bundle=scalar("bundle", str),
            sampling=None
            if sampler is None
            else Sampling.from_json(scalar("preset", str) or "custom", sampler),
            events=tuple(Event.from_json(event) for event in scalar("events", json.loads) or ()),
            source=source,
        )
