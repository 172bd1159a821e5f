"""PyTorch, the extra `torch`: the same graphs as exported programs, on NVIDIA, AMD and Apple GPUs, and on the CPU.

Each graph is read once, exported, and kept in the user's own directory; `diamond-export --target torch` keeps a
compiled form beside it, which later starts take. On an NVIDIA GPU a world is played as one CUDA graph a frame, as
with `trt`; elsewhere, or where cuda-python is missing, graph by graph.
"""

from collections import Counter
from collections.abc import Mapping
from typing import ClassVar

from engine.backends.base import Arrays, Backend, Graph
from engine.bundle import Bundle
from engine.cuda.device_runner import device_runner
from engine.cuda.runtime import Cuda
from engine.errors import DiamondError
from engine.graphs import GraphSpec
from engine.kept import Say
from engine.noise import NoiseSource
from engine.runner import FrameRunner, Samplers
from engine.torch_graph.bindings import onnx_library, torch_library
from engine.torch_graph.buffers import Buffers
from engine.torch_graph.device import Device
from engine.torch_graph.enqueued import Enqueued
from engine.torch_graph.program import Program
from engine.torch_graph.programs import Programs


class TorchBackend(Backend):
    """Graphs as programs of PyTorch.

    Args:
        threads: CPU threads; None for one a physical core.
        say: takes one line of progress at a time, such as why a kept program does not fit.

    Raises:
        DiamondError: PyTorch or ONNX is missing or broken.
    """

    name: ClassVar[str] = "torch"

    def __init__(self, threads: int | None = None, say: Say = print) -> None:
        super().__init__()
        self._device = Device(threads)
        onnx_library()
        self._programs = Programs(self._device, say=say)
        self.precisions = self._device.precisions
        self.last_resort = (
            "it would run on the CPU, where others are faster" if self._device.kind == "cpu" else ""
        )
        self._forms: Counter[str] = Counter()
        self._types: Counter[str] = Counter()
        self._cuda, self._no_frames = self._frames()

    def probe(self) -> None:
        """As every backend; the probe's own program is no part of what `describe` counts."""
        before = Counter(self._forms), Counter(self._types)
        super().probe()
        self._forms, self._types = before

    def describe(self) -> str:
        """PyTorch and device; convolutions and products by type, as read from the programs; exported or compiled."""
        parts = [f"PyTorch {torch_library().__version__}", self._device.name]
        if self._types:
            parts.append(f"layers: {', '.join(f'{count} {type_}' for type_, count in self._types.items())}")
        if self._forms:
            parts.append(" and ".join(f"{count} {form}" for form, count in self._forms.items()))
        return ", ".join(parts + [self._no_frames] * bool(self._no_frames))

    def frame_runner(
        self, bundle: Bundle, precision: str, samplers: Samplers, noise: NoiseSource, cuda_graph: bool
    ) -> FrameRunner | None:
        """Whole frames on an NVIDIA GPU, see `Backend.frame_runner`; elsewhere none."""
        if self._cuda is None:
            return None
        return device_runner(self._cuda, self._load, bundle, precision, samplers, noise, cuda_graph)

    def _load(self, spec: GraphSpec) -> "TorchGraph":
        program = self._programs.obtain(spec)
        self._forms[program.form] += 1
        self._types.update(program.types)
        return TorchGraph(spec, program, self._device)

    def _frames(self) -> tuple[Cuda | None, str]:
        """What whole frames need, or why there are none."""
        if self._device.kind != "cuda":
            return None, ""
        if self._device.is_rocm:
            return None, "graph by graph: frames are captured on NVIDIA GPUs only"
        try:
            return Cuda(), ""
        except DiamondError as error:
            return None, f"graph by graph, which is slower ({error.what}; {error.fix})"


class TorchGraph(Graph):
    """A program: called with arrays, or enqueued as an `engine.cuda.enqueued.DeviceGraph`."""

    def __init__(self, spec: GraphSpec, program: Program, device: Device) -> None:
        super().__init__(spec)
        self._program: Program | None = program
        self._device = device
        self._buffers: Buffers | None = Buffers(spec, device)
        self._enqueued: Enqueued | None = None  # inside a frame only

    def prepare(self, evaluations: int) -> None:
        """Fixes every free axis, see `DeviceGraph`."""
        assert self._program is not None, "closed"
        if self._enqueued is None:
            self._enqueued = Enqueued(self.spec, self._program.run)
        self._enqueued.prepare(evaluations)

    def enqueue(self, stream: int, addresses: Mapping[str, int]) -> None:
        """Puts one evaluation into a stream and returns at once, see `DeviceGraph`."""
        assert self._enqueued is not None, "prepared before"
        try:
            with self._device.computing():
                self._enqueued.enqueue(stream, addresses)
        except RuntimeError as error:  # PyTorch's
            raise self._refused(error) from error

    def _run(self, inputs: Arrays) -> Arrays:
        assert self._program is not None, "closed"
        assert self._buffers is not None, "closed"
        try:
            with self._device.computing():
                return self._buffers.give(self._program.run(*self._buffers.take(inputs)))
        except RuntimeError as error:
            raise self._refused(error) from error

    def _refused(self, error: RuntimeError) -> DiamondError:
        text = str(error).strip().splitlines() or [type(error).__name__]
        return DiamondError(
            f"{self.spec}: PyTorch cannot run it: {text[0]}",
            "an evaluation",
            "choose a smaller precision, or play with --backend ort",
        )

    def _close(self) -> None:
        if self._enqueued is not None:
            self._enqueued.close()
        self._program = self._buffers = self._enqueued = None
