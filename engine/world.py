"""A world that is being played: its history, and one step after another.

Step t writes the player's action into the newest slot, has the denoiser paint the next low-res frame and the
upsampler enlarge it, then rolls both histories: the work of a runner, the backend's own where it has one. A world
knows nothing of windows or time; it is deterministic: the same seed, spawn, settings and actions give the same
frames. Not for use by two threads at once.
"""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from engine.actions import Action, ActionSpace
from engine.backends.base import Backend
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.frame import Frame
from engine.history import History, Snapshot, read_only
from engine.host_runner import HostRunner
from engine.manifest import Manifest
from engine.noise import NoiseSource, SeededNoise
from engine.runner import Painted
from engine.schedule import SamplerConfig, Step
from engine.spawn import Spawn, check_spawn

_NOTHING_PAINTED_MS = {"conditioner": 0.0, "denoiser": 0.0, "upsampler": 0.0, "sampler": 0.0}


class World:
    """A loaded world; `engine.loading.load_world` makes one. Arguments as there; it owns the backend from now on."""

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        precision: str | None = None,
        preset: str | None = None,
        seed: int = 0,
        noise: NoiseSource | None = None,
        cuda_graph: bool = True,
    ) -> None:
        self.bundle = bundle
        self.seed = seed
        self.precision = precision or _best_precision(bundle, backend)
        self._backend = backend
        self._preset = bundle.manifest.default_preset if preset is None else preset
        self._history = History(bundle.manifest.sizes)
        settings = bundle.manifest.samplers(self._preset)
        noise = _seeded_noise(seed) if noise is None else noise
        self._runner = backend.frame_runner(
            bundle, self.precision, settings, noise, cuda_graph
        ) or HostRunner(bundle, self.precision, backend, settings, noise, self._history)
        self._next_actions = np.zeros((0, bundle.manifest.sizes.action_size), np.float32)
        self._closed = False

    # What it is.

    @property
    def manifest(self) -> Manifest:
        """The world's description."""
        return self.bundle.manifest

    @property
    def name(self) -> str:
        """The world's name, safe in file names."""
        return self.manifest.name

    @property
    def action_space(self) -> ActionSpace:
        """Keys, buttons and mouse bins."""
        return self.manifest.action_space

    @property
    def graphs_precision(self) -> str:
        """The precision of the files that are run: `precision`, unless the backend computes that from others."""
        return self._backend.source(self.bundle, self.precision)

    @property
    def fps(self) -> float:
        """Frames a second at which the world was recorded."""
        return self.manifest.fps

    @property
    def horizon(self) -> int:
        """Number of steps after which a rollout should be reset; `step` itself goes on."""
        return self.manifest.horizon

    @property
    def spawn_count(self) -> int:
        """Number of places to start from."""
        return len(self.manifest.spawns)

    @property
    def spawn(self) -> int | None:
        """The spawn of the latest reset; None before the first."""
        return self._history.spawn

    @property
    def next_actions(self) -> npt.NDArray[np.float32]:
        """What was really done after this spawn: float32 (N, A), read-only; N may be 0."""
        return self._next_actions

    def describe(self) -> str:
        """One line: what runs this world, and how that was chosen."""
        return f"{self.name}: {self.precision} on {self._backend.describe()} ({self._backend.why})"

    # Sampler settings; a change holds from the next step on.

    @property
    def presets(self) -> tuple[str, ...]:
        """The names of the world's presets."""
        return tuple(self.manifest.presets)

    @property
    def preset(self) -> str:
        """The current preset, or "custom" once `set_sampler` has changed it."""
        return self._preset

    @property
    def samplers(self) -> Mapping[str, SamplerConfig]:
        """The current settings by network: "denoiser" and, where there is one, "upsampler"."""
        return dict(self._runner.samplers.items())

    @property
    def schedules(self) -> Mapping[str, tuple[Step, ...]]:
        """The current settings laid out step by step, by network."""
        return dict(self._runner.schedules.items())

    def set_preset(self, name: str) -> None:
        """Takes the settings of a preset.

        Raises:
            DiamondError: the world has no such preset.
        """
        self._require_open()
        self._runner.configure(self.manifest.samplers(name))
        self._preset = name

    def set_sampler(self, network: str, config: SamplerConfig) -> None:
        """Changes the settings of one network.

        Raises:
            DiamondError: the world has no such network.
        """
        self._require_open()
        current = self._runner.samplers
        if network not in current:
            raise DiamondError(f"world {self.name!r}: has no network {network!r}", f"one of {list(current)}")
        changed = {name: config if name == network else mine for name, mine in current.items()}
        if changed != current:
            self._runner.configure(changed)
            self._preset = "custom"

    # Playing.

    def reset(self, spawn: int | None = None) -> Frame:
        """Starts from a spawn.

        Args:
            spawn: 0 to `spawn_count` - 1; None takes the one after the current, 0 at first.

        Returns:
            The newest frame of the spawn, with index 0.

        Raises:
            DiamondError: no such spawn, or it cannot be read; the world is then as it was.
        """
        self._require_open()
        began = time.perf_counter()
        if spawn is None:
            spawn = 0 if self.spawn is None else (self.spawn + 1) % self.spawn_count
        start = self.bundle.spawn(spawn)
        self._history.begin(spawn, start)
        self._runner.load(self._history)
        self._next_actions = read_only(start.next_actions)
        return self._frame(began)

    def begin(self, start: Spawn) -> Frame:
        """Starts from frames of the caller's own, such as a moment of a recording.

        Args:
            start: histories of this world's sizes.

        Returns:
            The newest frame of `start`, with index 0.

        Raises:
            DiamondError: arrays of other sizes, or invalid actions; the world is then as it was.
        """
        self._require_open()
        began = time.perf_counter()
        check_spawn(start, self.manifest.sizes, self.action_space)
        self._history.begin(None, start)
        self._runner.load(self._history)
        self._next_actions = read_only(start.next_actions)
        return self._frame(began)

    def step(self, action: Action | npt.ArrayLike) -> Frame:
        """Plays one frame.

        Args:
            action: an `Action`, or an action vector (A,), see `ActionSpace.validate`.

        Returns:
            The new frame.

        Raises:
            DiamondError: an invalid action, no reset yet, or a network painted NaN; the world is then as it
                was.
        """
        self._require_open()
        history = self._history
        if not history.started:
            raise DiamondError("step: the world has no history yet", "a reset first", "call world.reset()")
        began = time.perf_counter()
        painted = self._runner.step(self.action_space.encode(action), history.index)
        if painted.not_finite is not None:
            raise DiamondError(
                f"frame {history.index + 1}: the {painted.not_finite} painted NaN or infinity",
                "finite pixels",
                f"use another precision than {self.precision}, or another preset than {self.preset}",
            )
        history.index += 1
        return self._frame(began, painted)

    # Coming back.

    def snapshot(self) -> Snapshot:
        """A copy of the state; `restore` continues from it bit for bit.

        Raises:
            DiamondError: no reset yet.
        """
        self._require_open()
        if self._history.started:
            self._runner.save(self._history)
        return self._history.snapshot()

    def restore(self, snapshot: Snapshot) -> Frame:
        """Goes back to a snapshot of this world.

        Returns:
            The frame that was current when it was taken.

        Raises:
            DiamondError: a snapshot of a world with other sizes.
        """
        self._require_open()
        began = time.perf_counter()
        next_actions = np.zeros((0, self.action_space.size), np.float32)
        if snapshot.spawn is not None:
            next_actions = self.bundle.spawn(snapshot.spawn).next_actions
        self._history.restore(snapshot)
        self._runner.load(self._history)
        self._next_actions = read_only(next_actions)
        return self._frame(began)

    def close(self) -> None:
        """Frees the networks; closing twice is harmless, any other use afterwards is a `DiamondError`."""
        self._closed = True
        self._runner.close()
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _frame(self, began: float, painted: Painted | None = None) -> Frame:
        """The current frame: what was painted, or the newest of the history; `began` is when the work on it did."""
        if painted is None:
            painted = Painted(*self._history.pictures(), _NOTHING_PAINTED_MS)
        total_ms = (time.perf_counter() - began) * 1e3
        parts_ms = painted.timings_ms
        timings_ms = {**parts_ms, "other": total_ms - sum(parts_ms.values()), "total": total_ms}
        return Frame(painted.rgb, painted.low_res, self._history.index, timings_ms)

    def _require_open(self) -> None:
        if self._closed:
            raise DiamondError(
                f"world {self.name!r}: closed", "an open world", "load it again with load_world"
            )


def _seeded_noise(seed: int) -> SeededNoise:
    """Seeded noise whose table is made now rather than during the first frame."""
    noise = SeededNoise(seed)
    assert len(noise.table)
    return noise


def _best_precision(bundle: Bundle, backend: Backend) -> str:
    """The first precision that the backend likes and the world has; otherwise the world's first."""
    return next((name for name in backend.precisions if name in bundle.precisions), bundle.precisions[0])
