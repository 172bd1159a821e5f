"""From a launch of a program to the call that puts it into a stream, with every address and argument bound."""

import ctypes
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy.typing as npt

from engine.cuda.enqueued import DeviceGraph
from engine.cuda.runtime import Cuda
from engine.program.launches import (
    BYTES,
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
    HeunStep,
    HeunTrial,
    Launch,
    Pack,
    Roll,
    SetNoise,
    Upload,
    View,
)

Call = Callable[[], None]
Argument = ctypes.c_void_p | ctypes.c_uint32

KERNELS = (
    *("set_noise", "add_noise", "euler_step", "heun_trial", "heun_step", "check_finite", "roll", "pack"),
)
THREADS = 256  # of a block; the kernels wait for memory, whatever their blocks
_MOST_ARGUMENTS = 9


class Calls:
    """Binds launches.

    Args:
        cuda, stream: where the calls go.
        kernels: handles by name, see `KERNELS`. graphs: by role.
        buffers, addresses: on the device, by name. hosts: the page-locked twins of inputs and outputs.
    """

    def __init__(
        self,
        cuda: Cuda,
        stream: int,
        kernels: Mapping[str, int],
        graphs: Mapping[str, DeviceGraph],
        buffers: Mapping[str, Buffer],
        addresses: Mapping[str, int],
        hosts: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        self._cuda, self._stream, self._kernels, self._graphs = cuda, stream, kernels, graphs
        self._buffers, self._addresses, self._hosts = buffers, addresses, hosts

    def of(self, launch: Launch) -> Call:
        """The call of one launch; arguments of kernels in the order of kernels.cu."""
        cuda, stream, count = self._cuda, self._stream, self._count
        match launch:
            case Upload(name):
                return partial(cuda.copy_in, self._address(name), self._host(name), self._bytes(name), stream)
            case Download(name):
                return partial(
                    cuda.copy_out, self._host(name), self._address(name), self._bytes(name), stream
                )
            case Clear(name):
                return partial(cuda.clear, self._address(name), self._bytes(name), stream)
            case Copy(source, target):
                size_bytes = source.count * BYTES[self._buffers[source.buffer].dtype]
                return partial(cuda.copy, self._view(target), self._view(source), size_bytes, stream)
            case Evaluate(role, inputs, outputs):
                addresses = {name: self._view(view) for name, view in {**inputs, **outputs}.items()}
                return partial(self._graphs[role].enqueue, stream, addresses)
            case SetNoise(target, draw, scale):
                noise = (NOISE, count(NOISE), OFFSETS, draw)
                return self._kernel("set_noise", target, *noise, COEFFICIENTS, scale, count(target))
            case AddNoise(target, draw, skip, scale):
                noise = (NOISE, count(NOISE), OFFSETS, draw)
                return self._kernel("add_noise", target, *noise, skip, COEFFICIENTS, scale, count(target))
            case EulerStep(x, denoised, sigma, d_sigma):
                return self._kernel("euler_step", x, denoised, COEFFICIENTS, sigma, d_sigma, count(x))
            case HeunTrial(x, denoised, slope, trial, sigma, d_sigma):
                images = (x, denoised, slope, trial)
                return self._kernel("heun_trial", *images, COEFFICIENTS, sigma, d_sigma, count(x))
            case HeunStep(x, denoised, slope, trial, sigma, half_d_sigma):
                images = (x, denoised, slope, trial)
                return self._kernel("heun_step", *images, COEFFICIENTS, sigma, half_d_sigma, count(x))
            case CheckFinite(image, flag):
                return self._kernel("check_finite", image, NOT_FINITE, flag, count(image))
            case Roll(history, newest):
                frames, flags = count(history) // count(newest), count(NOT_FINITE)
                return self._kernel("roll", history, newest, NOT_FINITE, flags, frames, count(newest))
            case Pack(image, pixels):
                return self._kernel("pack", image, pixels, count(image) // 3)

    def _kernel(self, name: str, *arguments: str | int) -> Call:
        """A kernel: buffers by name, unsigned numbers, and as the last of these the number of threads."""
        threads = arguments[-1]
        assert isinstance(threads, int), "a kernel's last argument is the number of its threads"
        values: list[Argument] = [
            ctypes.c_void_p(self._address(argument))
            if isinstance(argument, str)
            else ctypes.c_uint32(argument)
            for argument in arguments
        ]
        blocks = -(-threads // THREADS)
        return _KernelCall(self._cuda, self._kernels[name], blocks, tuple(values), self._stream)

    def _address(self, name: str) -> int:
        return self._addresses[name]

    def _host(self, name: str) -> int:
        return self._hosts[name].ctypes.data

    def _count(self, name: str) -> int:
        return self._buffers[name].count

    def _bytes(self, name: str) -> int:
        return self._buffers[name].size_bytes

    def _view(self, view: View) -> int:
        return self._addresses[view.buffer] + view.start * BYTES[self._buffers[view.buffer].dtype]


def wake(cuda: Cuda, kernels: Iterable[int], stream: int) -> None:
    """Launches each kernel for no element: CUDA loads it at its first launch, which no capture should have to do."""
    zeros = tuple(
        ctypes.c_void_p(0) for _ in range(_MOST_ARGUMENTS)
    )  # as a pointer and as a count, 0 is safe
    for kernel in kernels:
        _KernelCall(cuda, kernel, 1, zeros, stream)()
    cuda.wait(stream)


class _KernelCall:
    """Launches a kernel with arguments that stay where they are: CUDA reads them through their addresses."""

    def __init__(
        self, cuda: Cuda, kernel: int, blocks: int, values: tuple[Argument, ...], stream: int
    ) -> None:
        self._values = values  # kept alive: `_places` holds bare addresses
        self._places = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        self._launch = partial(cuda.launch, kernel, blocks, THREADS, ctypes.addressof(self._places), stream)

    def __call__(self) -> None:
        self._launch()
