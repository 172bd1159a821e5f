"""The one import of cuda-python: CUDA's runtime, with every result checked.

Its functions return an error code and then their results, and raise nothing; an unchecked code is a later riddle. So
everything goes through `Cuda.call`, which names the function that failed. Addresses and handles are plain integers.
"""

from functools import cache
from types import ModuleType
from typing import Any

from engine.errors import DiamondError

INSTALL = 'pip install "diamond-engine[trt]"'
_TO_DEVICE, _TO_HOST = "cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"


class Cuda:
    """CUDA's runtime on the current device. Args: `api`, the module, or a double of it."""

    def __init__(self, api: Any) -> None:
        self._api = api

    def call(self, function: str, *arguments: Any) -> Any:
        """Calls a function of the runtime.

        Returns:
            None, its one result, or a tuple of its results.

        Raises:
            DiamondError: it failed, with CUDA's name for the failure and its explanation.
        """
        code, *results = getattr(self._api, function)(*arguments)
        if int(code) != 0:
            raise DiamondError(
                f"CUDA: {function} failed: {self._name(code)}",
                "",
                "diamond-play --doctor says what is missing; or play with --backend ort",
            )
        return None if not results else results[0] if len(results) == 1 else tuple(results)

    def allocate(self, size_bytes: int) -> int:
        """Device memory, 256-byte aligned; not cleared."""
        return int(self.call("cudaMalloc", max(1, size_bytes)))

    def free(self, address: int) -> None:
        """Gives device memory back."""
        self.call("cudaFree", address)

    def new_stream(self) -> int:
        """A stream that does not wait for the default stream."""
        return int(self.call("cudaStreamCreateWithFlags", self._api.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        """Gives a stream back; work that is in it still ends."""
        self.call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Waits until all work in a stream is done. A failure of that work is reported here."""
        self.call("cudaStreamSynchronize", stream)

    def to_device(self, address: int, host: int, size_bytes: int, stream: int) -> None:
        """Copies host memory to the device, in a stream."""
        kind = getattr(self._api.cudaMemcpyKind, _TO_DEVICE)
        self.call("cudaMemcpyAsync", address, host, size_bytes, kind, stream)

    def to_host(self, host: int, address: int, size_bytes: int, stream: int) -> None:
        """Copies device memory to the host, in a stream; it is there after `synchronize`."""
        kind = getattr(self._api.cudaMemcpyKind, _TO_HOST)
        self.call("cudaMemcpyAsync", host, address, size_bytes, kind, stream)

    def _name(self, code: Any) -> str:
        name, text = (getattr(self._api, function)(code)[1] for function in _NAMING)
        return f"{_decoded(name)} ({_decoded(text)})"


_NAMING = ("cudaGetErrorName", "cudaGetErrorString")


@cache
def load_cuda() -> Cuda:
    """CUDA's runtime, imported once.

    Raises:
        DiamondError: cuda-python is missing or broken.
    """
    return Cuda(_import())


def _import() -> ModuleType:
    try:
        from cuda.bindings import runtime
    except (ImportError, OSError, RuntimeError) as error:
        raise DiamondError(
            f"CUDA: cuda-python cannot be imported ({error})", "the package cuda-python, version 13", INSTALL
        ) from error
    module: ModuleType = runtime
    return module


def _decoded(text: bytes | str) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else text
