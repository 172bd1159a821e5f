"""A GPU made of the CPU: cuda-python's calls that the engine uses, with memory, streams, capture and replay.

The kernels are the engine's own CUDA C, compiled by g++: every element, one thread after another. Stricter than a GPU
where that finds mistakes: copies must stay inside allocations, guard bytes around allocations must survive, and what a
capture must not do (allocate, synchronise) fails. It says nothing about speed, races or what a real driver thinks.
"""

import ctypes
import enum
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

COMPILER = shutil.which("g++")

_SHIM = r"""
#include <cmath>
#include <cstddef>
#include <tuple>
#include <utility>
using std::isfinite;
#define __global__
#define __device__
struct Index { unsigned x, y, z; };
static Index blockIdx, blockDim, threadIdx;
template <class... A, std::size_t... I>
static void call(void (*kernel)(A...), void** p, std::index_sequence<I...>) { kernel(*static_cast<A*>(p[I])...); }
template <class... A>
static void launch(void (*kernel)(A...), unsigned blocks, unsigned threads, void** p) {
    blockDim = {threads, 1, 1};
    for (unsigned b = 0; b < blocks; ++b)
        for (unsigned t = 0; t < threads; ++t) {
            blockIdx = {b, 0, 0};
            threadIdx = {t, 0, 0};
            call(kernel, p, std::index_sequence_for<A...>());
        }
}
"""
_GUARD_BYTES = 256
_GUARD = b"\xa5" * _GUARD_BYTES


class Error(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorStreamCaptureUnsupported = 900


class FakeCuda:
    """The three modules of `cuda.bindings`: `runtime`, `driver`, `nvrtc`.

    `failures` makes calls fail, by name; `count` counts them; `graphs` holds the executable graphs.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.failures: dict[str, Error] = {}
        self.count: dict[str, int] = {}
        self.devices = 1
        self._blocks: dict[int, tuple[Any, int]] = {}  # address -> memory with its guards, size
        self._handles = iter(range(1000, 10**9))
        self._capture: dict[int, list[Callable[[], None]]] = {}
        self._captured: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.streams: set[int] = set()
        self.events: dict[int, float] = {}
        self._libraries: dict[int, Any] = {}
        self._kernels: dict[int, Any] = {}
        self._keep: list[Any] = []
        self.runtime = SimpleNamespace(
            cudaError_t=Error,
            cudaDeviceAttr=SimpleNamespace(
                cudaDevAttrComputeCapabilityMajor="major", cudaDevAttrComputeCapabilityMinor="minor"
            ),
            cudaMemcpyKind=SimpleNamespace(
                cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out", cudaMemcpyDeviceToDevice="device"
            ),
            cudaStreamCaptureMode=SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread"),
            cudaHostAllocDefault=0,
            cudaStreamNonBlocking=1,
            cudaGetErrorString=lambda error: (Error.cudaSuccess, str(error).encode()),
        )
        for name in dir(self):
            if name.startswith("cuda"):
                setattr(self.runtime, name, self._checked(name, getattr(self, name)))
        self.driver = SimpleNamespace(CUfunction=int, cuLaunchKernel=self.cuLaunchKernel)
        self.nvrtc = SimpleNamespace(
            nvrtcGetSupportedArchs=lambda: (0, [89]),
            nvrtcVersion=lambda: (0, 13, 0),
            nvrtcCreateProgram=lambda source, name, n, headers, names: (0, [source, b"", b""]),
            nvrtcCompileProgram=self.nvrtcCompileProgram,
            nvrtcGetProgramLogSize=lambda program: (0, len(program[1])),
            nvrtcGetProgramLog=lambda program, log: (0,),
            nvrtcGetCUBINSize=lambda program: (0, len(program[2])),
            nvrtcGetCUBIN=self._fill,
            nvrtcDestroyProgram=lambda program: (0,),
        )

    def bindings(self) -> tuple[Any, Any, Any]:
        """In place of `engine.cuda.bindings.bindings`."""
        return self.runtime, self.driver, self.nvrtc

    @property
    def left(self) -> dict[str, int]:
        """What was not given back."""
        everything = {"memory": self._blocks, "graphs": self.graphs, "streams": self.streams}
        everything |= {"captured": self._captured, "events": self.events}
        return {name: len(things) for name, things in everything.items() if things}

    def _checked(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*arguments: Any) -> tuple[Any, ...]:
            self.count[name] = self.count.get(name, 0) + 1
            if name in self.failures:
                return self.failures[name], None
            forbidden = ("cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaFreeHost", "cudaStreamSynchronize")
            if self._capture and name in forbidden:
                return Error.cudaErrorStreamCaptureUnsupported, None
            result = call(*arguments)
            return (Error.cudaSuccess,) if result is None else (Error.cudaSuccess, result)

        return checked

    def submit(self, stream: int, work: Callable[[], None]) -> None:
        """Does work in stream order: at once, or when the graph that captures it is launched."""
        assert stream in self.streams, "no such stream"
        if stream in self._capture:
            self._capture[stream].append(work)
        else:
            work()

    # The device.

    def cudaGetDeviceCount(self) -> int:
        return self.devices

    def cudaSetDevice(self, device: int) -> None:
        assert device == 0

    def cudaDeviceGetAttribute(self, attribute: str, device: int) -> int:
        return {"major": 8, "minor": 9}[attribute]

    def cudaGetDeviceProperties(self, device: int) -> Any:
        return SimpleNamespace(name=b"A CPU in disguise\0")

    # Memory.

    def cudaMalloc(self, size: int) -> int:
        assert size > 0, "an empty buffer"
        memory = ctypes.create_string_buffer(size + 3 * _GUARD_BYTES)
        address = -(-(ctypes.addressof(memory) + _GUARD_BYTES) // 256) * 256
        self._blocks[address] = (memory, size)
        ctypes.memmove(address - _GUARD_BYTES, _GUARD, _GUARD_BYTES)
        ctypes.memset(address, 0xFF, size)  # NaN: whoever counts on zeros is found out
        ctypes.memmove(address + size, _GUARD, _GUARD_BYTES)
        return address

    def cudaHostAlloc(self, size: int, flags: int) -> int:
        return self.cudaMalloc(size)

    def cudaFree(self, address: int) -> None:
        self.check_guards()
        del self._blocks[address]

    def cudaFreeHost(self, address: int) -> None:
        self.cudaFree(address)

    def check_guards(self) -> None:
        for address, (_, size) in self._blocks.items():
            for guard in (address - _GUARD_BYTES, address + size):
                assert ctypes.string_at(guard, _GUARD_BYTES) == _GUARD, "written outside an allocation"

    def _inside(self, address: int, size: int) -> None:
        inside = any(
            start <= address and address + size <= start + n for start, (_, n) in self._blocks.items()
        )
        assert inside, f"{size} bytes at {address:#x} are not inside an allocation"

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: str, stream: int) -> None:
        if kind != "out":
            self._inside(target, size)
        if kind != "in":
            self._inside(source, size)
        if stream in self._capture:  # later, whatever lies there must still be there
            self._inside(target, size)
            self._inside(source, size)
        self.submit(stream, lambda: ctypes.memmove(target, source, size) and None)

    def cudaMemsetAsync(self, address: int, value: int, size: int, stream: int) -> None:
        self._inside(address, size)
        self.submit(stream, lambda: ctypes.memset(address, value, size) and None)

    # Streams and events.

    def cudaStreamCreateWithFlags(self, flags: int) -> int:
        self.streams.add(stream := next(self._handles))
        return stream

    def cudaStreamDestroy(self, stream: int) -> None:
        self.streams.remove(stream)

    def cudaStreamSynchronize(self, stream: int) -> None:
        assert stream in self.streams
        self.check_guards()

    def cudaEventCreate(self) -> int:
        self.events[event := next(self._handles)] = 0.0
        return event

    def cudaEventDestroy(self, event: int) -> None:
        del self.events[event]

    def cudaEventRecord(self, event: int, stream: int) -> None:
        self.submit(stream, lambda: self.events.__setitem__(event, time.perf_counter()))

    def cudaEventElapsedTime(self, start: int, end: int) -> float:
        return (self.events[end] - self.events[start]) * 1e3

    # Graphs.

    def cudaStreamBeginCapture(self, stream: int, mode: str) -> None:
        self._capture[stream] = []

    def cudaStreamEndCapture(self, stream: int) -> int:
        self._captured[graph := next(self._handles)] = self._capture.pop(stream)
        return graph

    def cudaGraphDestroy(self, graph: int) -> None:
        del self._captured[graph]

    def cudaGraphInstantiate(self, graph: int, flags: int) -> int:
        self.graphs[executable := next(self._handles)] = list(self._captured[graph])
        return executable

    def cudaGraphUpload(self, executable: int, stream: int) -> None:
        assert executable in self.graphs

    def cudaGraphLaunch(self, executable: int, stream: int) -> None:
        for work in self.graphs[executable]:
            work()

    def cudaGraphExecDestroy(self, executable: int) -> None:
        del self.graphs[executable]

    # Kernels.

    def nvrtcCompileProgram(self, program: list[bytes], count: int, options: list[bytes]) -> tuple[int]:
        source = program[0].decode()
        assert b"--fmad=false" in options
        names = re.findall(r'extern "C" __global__ void (\w+)\(', source)
        doors = [
            f'extern "C" void launch_{name}(unsigned blocks, unsigned threads, void** p)'
            f" {{ launch({name}, blocks, threads, p); }}"
            for name in names
        ]
        path = self.scratch / f"kernels{next(self._handles)}.cpp"
        path.write_text("\n".join([_SHIM, source, *doors]))
        library = path.with_suffix(".so")
        command = [
            str(COMPILER),
            "-std=c++17",
            "-O1",
            "-ffp-contract=off",
            "-fPIC",
            "-shared",
            "-Wall",
            "-Werror",
        ]
        done = subprocess.run(
            [*command, str(path), "-o", str(library)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        program[2] = str(library).encode()
        return (0,)

    def _fill(self, program: list[bytes], cubin: bytes) -> tuple[int]:
        # cuda-python writes into the bytes it is given, and so must this.
        ctypes.memmove(ctypes.c_char_p(cubin), program[2], len(cubin))
        return (0,)

    def cudaLibraryLoadData(self, code: bytes, *rest: Any) -> int:
        self._libraries[library := next(self._handles)] = ctypes.CDLL(code.decode())
        return library

    def cudaLibraryGetKernel(self, library: int, name: bytes) -> int:
        self._kernels[kernel := next(self._handles)] = getattr(
            self._libraries[library], f"launch_{name.decode()}"
        )
        return kernel

    def cuLaunchKernel(
        self,
        kernel: int,
        gx: int,
        gy: int,
        gz: int,
        bx: int,
        by: int,
        bz: int,
        shared: int,
        stream: int,
        at: int,
        extra: int,
    ) -> tuple[Error]:
        assert (gy, gz, by, bz, shared, extra) == (1, 1, 1, 1, 0, 0)
        assert 0 < bx <= 1024
        assert gx > 0
        if "cuLaunchKernel" in self.failures:
            return (self.failures["cuLaunchKernel"],)
        run = self._kernels[kernel]
        self.submit(
            stream, lambda: run(ctypes.c_uint32(gx), ctypes.c_uint32(bx), ctypes.c_void_p(at)) and None
        )
        return (Error.cudaSuccess,)
