"""A program on a GPU: static buffers, and the frame captured as one CUDA graph, or its calls made one by one.

Everything that a frame needs is allocated, compiled and bound in `install`. What is captured are the same calls that
the direct mode makes: kernels, copies and the networks' evaluations, in one stream, in the program's order. A replay
costs the host one call and one wait; nothing in it allocates or synchronises.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.cuda.calls import KERNELS, Calls, wake
from engine.cuda.compile import compile_kernels, kernel_source
from engine.cuda.enqueued import DeviceGraph
from engine.cuda.runtime import Cuda
from engine.errors import DiamondError
from engine.program.launches import Buffer, Evaluate, FrameProgram, stage

Array = npt.NDArray[Any]
Call = Callable[[], None]


class FrameGraph:
    """An `engine.program.executor.Executor` on a GPU.

    Args:
        cuda: the device.
        graphs: the world's graphs by role; closed with the frame.
        capture: replay a CUDA graph; False makes the calls one by one, and takes the time of each stage.

    Raises:
        DiamondError: the kernels cannot be compiled for this device.
    """

    def __init__(self, cuda: Cuda, graphs: Mapping[str, DeviceGraph], capture: bool = True) -> None:
        self._cuda, self._graphs, self._capture = cuda, graphs, capture
        cubin, _ = compile_kernels(kernel_source(), cuda.capability)
        self._kernels = cuda.load_kernels(cubin, KERNELS)
        self._stream = cuda.create_stream()
        wake(cuda, self._kernels.values(), self._stream)
        self._buffers: dict[str, Buffer] = {}
        self._addresses: dict[str, int] = {}
        self._hosts: dict[str, Array] = {}
        self._evaluations: dict[str, int] = {}
        self._setup: list[Call] = []
        self._stages: list[tuple[str, list[Call]]] = []  # the frame, cut where the stage changes
        self._events: list[int] = []  # before, between and after the stages; direct mode only
        self._executable: int | None = None
        self._ready = self._closed = False

    def install(self, program: FrameProgram) -> None:
        """Makes ready for a program, see `Executor.install`."""
        cuda, stream = self._cuda, self._stream
        cuda.activate()
        cuda.wait(stream)
        self._ready = False

        # 1. Buffers: those that stay as they are keep address and content.
        self._forget_frame()
        for name in [name for name, buffer in self._buffers.items() if program.buffers.get(name) != buffer]:
            self._free(name)
        for buffer in program.buffers.values():
            if buffer.name not in self._buffers:
                self._allocate(buffer)

        # 2. Graphs; the first evaluation directly, because runtimes leave work to it that cannot be captured.
        for role, evaluations in program.evaluations.items():
            if self._evaluations.get(role) != evaluations:
                self._evaluations.pop(role, None)
                self._graphs[role].prepare(evaluations)
                self._evaluations[role] = evaluations
        calls = Calls(cuda, stream, self._kernels, self._graphs, self._buffers, self._addresses, self._hosts)
        launches = (*program.setup, *program.frame)
        first = {launch.role: launch for launch in reversed(launches) if isinstance(launch, Evaluate)}
        for launch in first.values():
            calls.of(launch)()
        cuda.wait(stream)

        # 3. The calls.
        self._setup = [calls.of(launch) for launch in program.setup]
        self._stages = [
            (name, [calls.of(launch) for launch in group]) for name, group in groupby(program.frame, stage)
        ]

        # 4. The capture, or the clock of the direct mode.
        if self._capture:
            self._executable = self._captured(call for _, calls in self._stages for call in calls)
        else:
            self._events = [cuda.create_event() for _ in range(len(self._stages) + 1)]
        self._ready = True

    def write(self, buffer: str, values: Array) -> None:
        """Fills a buffer from an array of its shape and dtype."""
        self._require_ready()
        spec, source = self._buffers[buffer], np.ascontiguousarray(values)
        assert (source.shape, source.dtype.name) == (spec.shape, spec.dtype), f"{buffer} is {spec}"
        self._cuda.copy_in(self._addresses[buffer], source.ctypes.data, spec.size_bytes, self._stream)
        self._cuda.wait(self._stream)

    def read(self, buffer: str) -> Array:
        """A copy of a buffer."""
        self._require_ready()
        spec = self._buffers[buffer]
        array: Array = np.empty(spec.shape, spec.dtype)
        self._cuda.copy_out(array.ctypes.data, self._addresses[buffer], spec.size_bytes, self._stream)
        self._cuda.wait(self._stream)
        return array

    def host(self, buffer: str) -> Array:
        """The page-locked twin of an input or output."""
        return self._hosts[buffer]

    def set_up(self) -> None:
        """Runs the program's setup, never captured, and waits for it."""
        self._require_ready()
        for call in self._setup:
            call()
        self._cuda.wait(self._stream)

    def run(self) -> Mapping[str, float]:
        """Runs a frame and waits for it; milliseconds by stage in the direct mode, nothing in a replay."""
        self._require_ready()
        cuda, stream = self._cuda, self._stream
        if self._executable is not None:
            cuda.launch_graph(self._executable, stream)
            cuda.wait(stream)
            return {}
        cuda.record(self._events[0], stream)
        for (_, calls), event in zip(self._stages, self._events[1:], strict=True):
            for call in calls:
                call()
            cuda.record(event, stream)
        cuda.wait(stream)
        stages_ms: dict[str, float] = {}
        for (name, _), (start, end) in zip(self._stages, pairwise(self._events), strict=True):
            stages_ms[name] = stages_ms.get(name, 0.0) + cuda.elapsed_ms(start, end)
        return stages_ms

    def close(self) -> None:
        """Frees everything, the graphs included."""
        if self._closed:
            return
        self._closed, self._ready = True, False
        steps: list[Call] = [self._cuda.activate, self._forget_frame]
        steps += [graph.close for graph in self._graphs.values()]
        steps += [partial(self._free, name) for name in self._buffers]
        steps += [partial(self._cuda.destroy_stream, self._stream)]
        for step in steps:
            with suppress(
                DiamondError
            ):  # a device that has failed refuses this too; its failure has been told
                step()

    # Memory.

    def _allocate(self, buffer: Buffer) -> None:
        self._addresses[buffer.name] = self._cuda.allocate(buffer.size_bytes, self._stream)
        self._buffers[buffer.name] = buffer
        if buffer.kind in ("input", "output"):
            self._hosts[buffer.name] = self._cuda.allocate_host(buffer.shape, buffer.dtype)

    def _free(self, name: str) -> None:
        del self._buffers[name]
        self._cuda.free(self._addresses.pop(name))
        if name in self._hosts:
            self._cuda.free_host(self._hosts.pop(name))

    def _forget_frame(self) -> None:
        """Drops the capture and the calls of the program before."""
        executable, self._executable = self._executable, None
        events, self._events = self._events, []
        self._setup, self._stages = [], []
        if executable is not None:
            self._cuda.destroy_graph(executable)
        for event in events:
            self._cuda.destroy_event(event)

    def _require_ready(self) -> None:
        if not self._ready:
            raise DiamondError(
                "CUDA: there is no frame to run: it is closed, or its latest settings could not be captured",
                "a frame that was installed",
                "choose a preset, or load the world again",
            )
        self._cuda.activate()

    # Capture.

    def _captured(self, calls: Iterable[Call]) -> int:
        self._cuda.begin_capture(self._stream)
        try:
            for call in calls:
                call()
        except BaseException:
            self._cuda.abandon_capture(self._stream)
            raise
        return self._cuda.instantiate(self._cuda.end_capture(self._stream), self._stream)
