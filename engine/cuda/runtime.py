"""The CUDA runtime, checked: every call that fails becomes one clear message that names the call.

Memory, streams, graphs and events come from the runtime API; to launch a kernel takes the driver API. Handles and
addresses are plain integers. A missing package, driver or device is told apart, and told in words.
"""

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.cuda.bindings import bindings
from engine.errors import DiamondError

Array = npt.NDArray[Any]

_NO_GPU = "play on the CPU with --backend ort, or see that nvidia-smi lists the GPU"


class Cuda:
    """One device, the first that CUDA lists (CUDA_VISIBLE_DEVICES chooses), and the calls that a frame takes.

    Attributes:
        device: its name. capability: such as (8, 9).

    Raises:
        DiamondError: no cuda-python, no driver, or no GPU.
    """

    def __init__(self) -> None:
        self._runtime, self._driver, _ = bindings()
        count = self._device_count()
        if count == 0:
            raise DiamondError("CUDA: there is no NVIDIA GPU here", "at least one", _NO_GPU)
        self.activate()
        attributes = self._runtime.cudaDeviceAttr
        major = self._call("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMajor, 0)
        minor = self._call("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMinor, 0)
        self.capability: tuple[int, int] = (major, minor)
        name: bytes = self._call("cudaGetDeviceProperties", 0).name
        self.device = name.split(b"\0")[0].decode(errors="replace")

    def activate(self) -> None:
        """Makes the device current in the calling thread, which the driver API asks for."""
        self._call("cudaSetDevice", 0)

    # Memory.

    def allocate(self, size_bytes: int, stream: int) -> int:
        """Device memory, 256-byte aligned, that is zero for what comes later in the stream; its address."""
        address: int = self._call("cudaMalloc", size_bytes)
        try:
            self.clear(address, size_bytes, stream)
        except DiamondError:
            self.free(address)
            raise
        return address

    def free(self, address: int) -> None:
        """Gives device memory back."""
        self._call("cudaFree", address)

    def allocate_host(self, shape: tuple[int, ...], dtype: str) -> Array:
        """A zeroed array in page-locked memory, which the device reads and writes on its own; `free_host` frees it."""
        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        address: int = self._call("cudaHostAlloc", size_bytes, self._runtime.cudaHostAllocDefault)
        memory = (ctypes.c_ubyte * size_bytes).from_address(address)
        array: Array = np.frombuffer(memoryview(memory), dtype).reshape(shape)
        array[...] = 0
        return array

    def free_host(self, array: Array) -> None:
        """Frees an array of `allocate_host`; it must not be used any more."""
        self._call("cudaFreeHost", array.ctypes.data)

    def copy_in(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Host to device, in stream order."""
        self._copy(target, source, size_bytes, "cudaMemcpyHostToDevice", stream)

    def copy_out(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Device to host, in stream order."""
        self._copy(target, source, size_bytes, "cudaMemcpyDeviceToHost", stream)

    def copy(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Device to device, in stream order."""
        self._copy(target, source, size_bytes, "cudaMemcpyDeviceToDevice", stream)

    def clear(self, address: int, size_bytes: int, stream: int) -> None:
        """Sets bytes to 0, in stream order."""
        self._call("cudaMemsetAsync", address, 0, size_bytes, stream)

    def _copy(self, target: int, source: int, size_bytes: int, kind: str, stream: int) -> None:
        direction = getattr(self._runtime.cudaMemcpyKind, kind)
        self._call("cudaMemcpyAsync", target, source, size_bytes, direction, stream)

    # Streams and events.

    def create_stream(self) -> int:
        """A stream that does not wait for the default one."""
        return int(self._call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        """Destroys a stream."""
        self._call("cudaStreamDestroy", stream)

    def wait(self, stream: int) -> None:
        """Waits until the stream has done everything. Errors of work that ran asynchronously show up here."""
        self._call("cudaStreamSynchronize", stream)

    def create_event(self) -> int:
        """An event that takes the time."""
        return int(self._call("cudaEventCreate"))

    def destroy_event(self, event: int) -> None:
        """Destroys an event."""
        self._call("cudaEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        """Has the stream note the time when it gets here."""
        self._call("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds between two events that have passed."""
        return float(self._call("cudaEventElapsedTime", start, end))

    # Graphs.

    def begin_capture(self, stream: int) -> None:
        """From now on, what this thread puts into the stream is written down instead of done."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> int:
        """The graph that was written down; `instantiate` makes it executable."""
        return int(self._call("cudaStreamEndCapture", stream))

    def abandon_capture(self, stream: int) -> None:
        """Ends a capture in which something has failed; that failure is the one to report, not this call's."""
        error, graph = self._runtime.cudaStreamEndCapture(stream)
        if int(error) == 0 and int(graph):
            self._runtime.cudaGraphDestroy(graph)

    def instantiate(self, graph: int, stream: int) -> int:
        """Makes a captured graph executable and sends it to the device; the captured one is destroyed."""
        try:
            executable = int(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)
        self._call("cudaGraphUpload", executable, stream)
        return executable

    def launch_graph(self, executable: int, stream: int) -> None:
        """Enqueues a whole graph."""
        self._call("cudaGraphLaunch", executable, stream)

    def destroy_graph(self, executable: int) -> None:
        """Destroys an executable graph."""
        self._call("cudaGraphExecDestroy", executable)

    # Kernels.

    def load_kernels(self, cubin: bytes, names: Sequence[str]) -> dict[str, int]:
        """Loads compiled code, for good; the kernels by name."""
        library = self._call("cudaLibraryLoadData", cubin, [], [], 0, [], [], 0)
        return {name: int(self._call("cudaLibraryGetKernel", library, name.encode())) for name in names}

    def launch(self, kernel: int, blocks: int, threads: int, arguments: int, stream: int) -> None:
        """Enqueues a kernel. `arguments`: the address of an array of addresses, one an argument."""
        (error,) = self._driver.cuLaunchKernel(
            self._driver.CUfunction(kernel), blocks, 1, 1, threads, 1, 1, 0, stream, arguments, 0
        )
        if int(error) != 0:
            raise DiamondError(f"CUDA: cuLaunchKernel failed: {getattr(error, 'name', error)}")

    # Calling.

    def _device_count(self) -> int:
        error, count = self._runtime.cudaGetDeviceCount()
        names = self._runtime.cudaError_t
        if error == names.cudaErrorInsufficientDriver:
            raise DiamondError(
                "CUDA: there is no NVIDIA driver here, or it is older than CUDA 13",
                "an NVIDIA GPU with driver 580 or newer",
                _NO_GPU,
            )
        if error == names.cudaErrorNoDevice:
            return 0
        self._check("cudaGetDeviceCount", error)
        return int(count)

    def _call(self, name: str, *arguments: object) -> Any:
        """Calls the runtime API; what it returns behind the error code."""
        error, *results = getattr(self._runtime, name)(*arguments)
        self._check(name, error)
        return results[0] if results else None

    def _check(self, name: str, error: Any) -> None:
        if int(error) == 0:
            return
        _, text = self._runtime.cudaGetErrorString(error)
        what = f"CUDA: {name} failed: {getattr(error, 'name', error)} ({text.decode(errors='replace')})"
        if error == self._runtime.cudaError_t.cudaErrorMemoryAllocation:
            raise DiamondError(
                what, "free GPU memory", "close what else uses the GPU, or choose a smaller precision"
            )
        raise DiamondError(what)
