"""The GPU that CUDA lists first, as far as a plan depends on it: what it is, its driver, and the memory it has left."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.cuda.bindings import bindings
from engine.cuda.runtime import Cuda
from engine.errors import DiamondError

DRIVER_FILE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: "NVIDIA GeForce RTX 4090". capability: its compute capability, such as (8, 9).
        memory_bytes: all of its memory.
        driver: the driver's version and the newest CUDA that it knows: "580.95.05, CUDA 13.0".
        cuda: version of the CUDA runtime that calls it: "13.4".
    """

    name: str
    capability: tuple[int, int]
    memory_bytes: int
    driver: str
    cuda: str

    @property
    def capability_text(self) -> str:
        """8.9"""
        return f"{self.capability[0]}.{self.capability[1]}"


def describe_gpu(cuda: Cuda, driver_file: Path = DRIVER_FILE) -> Gpu:
    """The GPU behind `cuda`.

    Args:
        driver_file: where Linux keeps the driver's version; a test gives its own.
    """
    (driver_cuda,), (runtime_cuda,) = _ask("cudaDriverGetVersion"), _ask("cudaRuntimeGetVersion")
    _, memory_bytes = _ask("cudaMemGetInfo")
    own, newest = driver_version(driver_file), f"CUDA {version_text(driver_cuda)}"
    driver = f"{own}, {newest}" if own else newest
    return Gpu(cuda.device, cuda.capability, int(memory_bytes), driver, version_text(runtime_cuda))


def free_bytes() -> int:
    """Memory of the current GPU that nobody has at the moment."""
    free, _ = _ask("cudaMemGetInfo")
    return int(free)


def driver_version(driver_file: Path = DRIVER_FILE) -> str | None:
    """NVIDIA's version of its kernel driver, such as "580.95.05"; None where Linux says nothing of one."""
    try:
        text = driver_file.read_text("utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", text)
    return found[1] if found else None


def version_text(number: int) -> str:
    """13040 -> 13.4, as CUDA counts."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _ask(function: str) -> list[Any]:
    """The results of a question to the runtime, behind the error code."""
    error, *found = getattr(bindings()[0], function)()
    if int(error) != 0:
        raise DiamondError(
            f"CUDA: {function} failed: {getattr(error, 'name', error)}", "", "diamond-play --doctor"
        )
    results: list[Any] = found
    return results
