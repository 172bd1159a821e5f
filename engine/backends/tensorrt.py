"""TensorRT on an NVIDIA GPU, the extra `trt`: each graph compiled into a plan for this GPU, kept, and checked.

Both TensorRTs, see `engine.tensorrt`. The first load of a graph builds its plan, which takes seconds to minutes and
says so. A world is played as one CUDA graph a frame, with the frame's own buffers (`engine.cuda.device_runner`);
called graph by graph, as benchmarks and the probe do, inputs and outputs cross the bus each time.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from engine.backends.base import Arrays, Backend, Graph
from engine.bundle import Bundle
from engine.cuda.device_runner import device_runner
from engine.cuda.gpu import describe_gpu, free_bytes
from engine.cuda.runtime import Cuda
from engine.errors import DiamondError
from engine.graphs import GraphSpec, TensorSpec
from engine.noise import NoiseSource
from engine.runner import FrameRunner, Samplers
from engine.tensorrt.flavour import installed, load_flavour
from engine.tensorrt.network import ROWS
from engine.tensorrt.opened import OpenPlan
from engine.tensorrt.plans import Plans
from engine.tensorrt.precisions import PRECISIONS, counted
from engine.tensorrt.progress import Say


class TensorRtBackend(Backend):
    """Graphs as TensorRT plans.

    Args:
        say: takes one line of progress at a time, while a plan is built.

    Raises:
        DiamondError: TensorRT, cuda-python, the driver or a GPU is missing, or TensorRT does not run on this GPU.
    """

    name: ClassVar[str] = "trt"
    precisions: tuple[str, ...] = PRECISIONS

    def __init__(self, say: Say = print) -> None:
        super().__init__()
        if not installed():
            load_flavour()  # says what to install
        try:
            self._cuda = Cuda()  # first, for TensorRT takes longer to import
        except DiamondError as error:
            raise DiamondError(f"backend trt: {error.what}", error.expected, error.fix) from error
        self._flavour = load_flavour()
        self._flavour.target(self._cuda.capability)
        self._plans = Plans(self._flavour, describe_gpu(self._cuda), say=say)
        self._types: dict[str, int] = {}

    def probe(self) -> None:
        """As every backend; the probe's own plan is no part of what `describe` counts."""
        before = dict(self._types)
        super().probe()
        self._types = before

    def describe(self) -> str:
        """TensorRT and GPU; the types of convolutions and products, as read back from the plans."""
        types = counted(self._types) or "types as in the graph; the plan does not tell them"
        return f"{self._flavour}, {self._cuda.device}, {types}"

    def frame_runner(
        self, bundle: Bundle, precision: str, samplers: Samplers, noise: NoiseSource, cuda_graph: bool
    ) -> FrameRunner:
        """Whole frames on the GPU, see `Backend.frame_runner`."""
        return device_runner(self._cuda, self._load, bundle, precision, samplers, noise, cuda_graph)

    def _load(self, spec: GraphSpec) -> "TensorRtGraph":
        plan = self._plans.obtain(spec)
        try:
            plan.ready(free_bytes(), self._plans.kernels(plan))
        except BaseException:
            plan.close()
            raise
        for type_, count in plan.types.items():
            self._types[type_] = self._types.get(type_, 0) + count
        return TensorRtGraph(spec, plan, self._plans, self._cuda)


class TensorRtGraph(Graph):
    """A plan as an `engine.cuda.enqueued.DeviceGraph`; for `run` it gets a stream and buffers of its own."""

    def __init__(self, spec: GraphSpec, plan: OpenPlan, plans: Plans, cuda: Cuda) -> None:
        super().__init__(spec)
        self._plan, self._plans, self._cuda = plan, plans, cuda
        self._stream: int | None = None  # until the first `run`; inside a frame there is none
        self._addresses: dict[str, int] = {}
        self._results: dict[str, npt.NDArray[Any]] = {}

    def prepare(self, evaluations: int) -> None:
        """Fixes every free axis, see `DeviceGraph`."""
        self._plan.prepare(evaluations)

    def enqueue(self, stream: int, addresses: Mapping[str, int]) -> None:
        """Puts one evaluation into a stream and returns at once, see `DeviceGraph`."""
        self._plan.enqueue(stream, addresses)

    def _run(self, inputs: Arrays) -> Arrays:
        stream = self._own_stream()
        rows = _rows(self.spec, inputs)
        self._plan.prepare(rows)
        for name, array in inputs.items():
            self._cuda.copy_in(self._addresses[name], array.ctypes.data, array.nbytes, stream)
        self._plan.enqueue(stream, self._addresses)
        outputs = {name: self._result(name, tensor, rows) for name, tensor in self.spec.outputs.items()}
        for name, array in outputs.items():
            self._cuda.copy_out(array.ctypes.data, self._addresses[name], array.nbytes, stream)
        self._cuda.wait(stream)
        return outputs

    def _own_stream(self) -> int:
        """A stream, and device buffers with room for the most rows that a plan takes: addresses never change."""
        if self._stream is None:
            self._stream = self._cuda.create_stream()
            for name, tensor in (*self.spec.inputs.items(), *self.spec.outputs.items()):
                self._addresses[name] = self._cuda.allocate(_largest_bytes(tensor), self._stream)
        return self._stream

    def _result(self, name: str, tensor: TensorSpec, rows: int) -> npt.NDArray[Any]:
        """The host's buffer for an output; made anew only where the number of rows changes."""
        shape = tuple(rows if axis is None else axis for axis in tensor.shape)
        kept = self._results.get(name)
        if kept is None or kept.shape != shape:
            kept = self._results[name] = np.empty(shape, tensor.dtype)
        return kept

    def _close(self) -> None:
        self._plans.keep_kernels(self._plan)
        self._plan.close()
        while self._addresses:
            self._cuda.free(self._addresses.popitem()[1])
        if self._stream is not None:
            self._cuda.destroy_stream(self._stream)
            self._stream = None


def _rows(spec: GraphSpec, inputs: Arrays) -> int:
    """The length of the free axes; 1 where there is none."""
    for name, tensor in spec.inputs.items():
        for axis, length in zip(tensor.shape, inputs[name].shape, strict=True):
            if axis is None:
                return int(length)
    return 1


def _largest_bytes(tensor: TensorSpec) -> int:
    shape = [ROWS[-1] if axis is None else axis for axis in tensor.shape]
    return int(np.prod(shape)) * int(np.dtype(tensor.dtype).itemsize)
