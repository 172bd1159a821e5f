"""A frame's program carried out in numpy, with any backend's graphs: what every launch means, and a check of the order.

Scratch is filled with NaN before every frame: whoever reads what nobody has written is found out.
"""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend, Graph
from engine.bundle import Bundle
from engine.frame import to_pixels
from engine.graphs import GraphSpec, roles
from engine.noise import NoiseSource
from engine.program.launches import (
    COEFFICIENTS,
    NOISE,
    NOT_FINITE,
    OFFSETS,
    AddNoise,
    Buffer,
    CheckFinite,
    Clear,
    Copy,
    Download,
    EulerStep,
    Evaluate,
    FrameProgram,
    HeunStep,
    HeunTrial,
    Launch,
    Pack,
    Roll,
    SetNoise,
    Upload,
    View,
    stage,
)
from engine.program.program_runner import ProgramRunner
from engine.runner import FrameRunner, Samplers
from tests.engine.doubles import NumpyBackend

Array = npt.NDArray[Any]


class Interpreter:
    """An `Executor` over graphs that take and give numpy arrays. `installed` collects the programs."""

    def __init__(self, graphs: Mapping[str, Graph]) -> None:
        self._graphs = graphs
        self.installed: list[FrameProgram] = []
        self.arrays: dict[str, Array] = {}
        self._hosts: dict[str, Array] = {}
        self._kept: set[str] = set()
        self.closed = False

    def install(self, program: FrameProgram) -> None:
        before = self.installed[-1].buffers if self.installed else {}
        self.installed.append(program)
        self.arrays = {
            name: self.arrays[name] if before.get(name) == buffer else _empty(buffer)
            for name, buffer in program.buffers.items()
        }
        twins = [b for b in program.buffers.values() if b.kind in ("input", "output")]
        self._hosts = {buffer.name: _empty(buffer) for buffer in twins}
        self._kept = {name for launch in program.setup for name in _written(launch)}

    def write(self, buffer: str, values: Array) -> None:
        assert (values.shape, values.dtype) == (self.arrays[buffer].shape, self.arrays[buffer].dtype)
        self.arrays[buffer][...] = values

    def read(self, buffer: str) -> Array:
        return self.arrays[buffer].copy()

    def host(self, buffer: str) -> Array:
        return self._hosts[buffer]

    def set_up(self) -> None:
        self._poison(kept=set())
        for launch in self.installed[-1].setup:
            self.do(launch)

    def run(self) -> Mapping[str, float]:
        self._poison(self._kept)
        stages_ms: dict[str, float] = {}
        for launch in self.installed[-1].frame:
            began = time.perf_counter()
            self.do(launch)
            name = stage(launch)
            stages_ms[name] = stages_ms.get(name, 0.0) + (time.perf_counter() - began) * 1e3
        return stages_ms

    def close(self) -> None:
        self.closed = True
        self.arrays.clear()

    def _poison(self, kept: set[str]) -> None:
        for name, buffer in self.installed[-1].buffers.items():
            if buffer.kind == "scratch" and name not in kept:
                self.arrays[name].fill(np.nan)

    def _view(self, view: View) -> Array:
        flat = self.arrays[view.buffer].reshape(-1)
        assert view.start + view.count <= flat.size, f"{view} reaches beyond its buffer"
        return flat[view.start : view.start + view.count].reshape(view.shape)

    def _draw(self, number: int, skip: int, like: Array) -> Array:
        table = self.arrays[NOISE]
        start = int(self.arrays[OFFSETS][number]) + skip
        draw: Array = table[(start + np.arange(like.size)) % table.size].reshape(like.shape)
        return draw

    def do(self, launch: Launch) -> None:
        """One launch, as engine/program/launches.py writes it down."""
        a, c = self.arrays, self.arrays[COEFFICIENTS]
        match launch:
            case Upload(buffer):
                a[buffer][...] = self._hosts[buffer]
            case Download(buffer):
                self._hosts[buffer][...] = a[buffer]
            case Clear(buffer):
                a[buffer].fill(0)
            case Copy(source, target):
                self._view(target)[...] = self._view(source)
            case Evaluate(role, inputs, outputs):
                made = self._graphs[role].run({name: self._view(view) for name, view in inputs.items()})
                for name, view in outputs.items():
                    self._view(view)[...] = made[name]
            case SetNoise(target, draw, scale):
                a[target][...] = self._draw(draw, 0, a[target]) * c[scale]
            case AddNoise(target, draw, skip, scale):
                a[target] += self._draw(draw, skip, a[target]) * c[scale]
            case EulerStep(x, denoised, sigma, d_sigma):
                a[x] += (a[x] - a[denoised]) / c[sigma] * c[d_sigma]
            case HeunTrial(x, denoised, slope, trial, sigma, d_sigma):
                a[slope][...] = (a[x] - a[denoised]) / c[sigma]
                a[trial][...] = a[slope] * c[d_sigma] + a[x]
            case HeunStep(x, denoised, slope, trial, sigma, half_d_sigma):
                a[x] += (a[slope] + (a[trial] - a[denoised]) / c[sigma]) * c[half_d_sigma]
            case CheckFinite(image, flag):
                if not np.isfinite(a[image]).all():
                    a[NOT_FINITE][flag] = 1
            case Roll(history, newest):
                if not a[NOT_FINITE].any():
                    flat, new = a[history].reshape(-1), a[newest].reshape(-1)
                    flat[: -new.size] = flat[new.size :].copy()
                    flat[-new.size :] = new
            case Pack(image, pixels):
                with np.errstate(invalid="ignore"):  # a broken frame's pixels mean nothing
                    a[pixels][...] = to_pixels(a[image])


def _empty(buffer: Buffer) -> Array:
    return np.full(buffer.shape, np.nan if buffer.dtype == "float32" else 77, buffer.dtype)


def _written(launch: Launch) -> list[str]:
    match launch:
        case Evaluate(outputs=outputs):
            return [view.buffer for view in outputs.values()]
        case Clear(buffer):
            return [buffer]
        case Copy(target=target):
            return [target.buffer]
    raise AssertionError(f"no setup has {launch}")


class ProgramBackend(Backend):
    """Another backend's graphs, run as whole frames."""

    name: ClassVar[str] = "program"

    def __init__(self, inner: Backend) -> None:
        super().__init__()
        self.inner, self.precisions = inner, inner.precisions
        self.interpreters: list[Interpreter] = []

    def describe(self) -> str:
        return self.inner.describe()

    def _load(self, spec: GraphSpec) -> Graph:
        return self.inner._load(spec)

    def frame_runner(
        self, bundle: Bundle, precision: str, samplers: Samplers, noise: NoiseSource, cuda_graph: bool
    ) -> FrameRunner | None:
        specs = {role: bundle.graph(precision, role) for role in roles(bundle.manifest.sizes)}
        self.interpreters.append(Interpreter({role: self.load(spec) for role, spec in specs.items()}))
        return ProgramRunner(self.interpreters[-1], specs, bundle.manifest.noise, samplers, noise)

    def close(self) -> None:
        super().close()
        self.inner.close()


class NumpyProgramBackend(NumpyBackend):
    """`NumpyBackend` with a runner of its own, so that every test of a world can be held against it."""

    def frame_runner(
        self, bundle: Bundle, precision: str, samplers: Samplers, noise: NoiseSource, cuda_graph: bool
    ) -> FrameRunner | None:
        return ProgramBackend(self).frame_runner(bundle, precision, samplers, noise, cuda_graph)
