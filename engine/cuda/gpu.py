"""The GPU that CUDA sees first: what it is, and the driver it has. Nothing is allocated to find out.

Which GPU comes first is CUDA's business: CUDA_VISIBLE_DEVICES chooses.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.cuda.runtime import Cuda, load_cuda
from engine.errors import DiamondError

_DRIVER_FILE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: "NVIDIA GeForce RTX 4090". capability: its compute capability, such as (8, 9).
        memory_bytes: all of its memory.
        driver: the driver's version and the newest CUDA it knows: "580.95.05, CUDA 13.0".
        cuda: version of the CUDA runtime in use here: "13.4".
    """

    name: str
    capability: tuple[int, int]
    memory_bytes: int
    driver: str
    cuda: str
    _cuda: Cuda = field(repr=False, compare=False)

    @property
    def capability_text(self) -> str:
        """8.9"""
        return f"{self.capability[0]}.{self.capability[1]}"

    def free_bytes(self) -> int:
        """Memory that is free at the moment."""
        free_bytes, _ = self._cuda.call("cudaMemGetInfo")
        return int(free_bytes)


def find_gpu(cuda: Cuda | None = None, driver_file: Path = _DRIVER_FILE) -> Gpu:
    """The GPU that programs run on unless they choose another.

    Args:
        cuda: the runtime; None imports it. driver_file: where Linux keeps the driver's version; a test gives its own.

    Raises:
        DiamondError: cuda-python, the driver or a GPU is missing.
    """
    cuda = load_cuda() if cuda is None else cuda
    try:
        count = cuda.call("cudaGetDeviceCount")
    except DiamondError as error:
        own = own_driver_version(driver_file)
        driver = "no NVIDIA driver found" if own is None else f"the NVIDIA driver {own} does not work"
        raise DiamondError(
            driver,
            f"an NVIDIA GPU and its driver, 580 or newer. {error.what}",
            "install the driver and look with nvidia-smi; or play with --backend ort",
        ) from error
    if not count:
        raise DiamondError(
            "the NVIDIA driver shows no GPU", "at least one", "check CUDA_VISIBLE_DEVICES and nvidia-smi"
        )
    found: Any = cuda.call("cudaGetDeviceProperties", 0)
    name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
    driver = _version(cuda.call("cudaDriverGetVersion"))
    own = own_driver_version(driver_file)
    return Gpu(
        name=name.rstrip("\0"),
        capability=(int(found.major), int(found.minor)),
        memory_bytes=int(found.totalGlobalMem),
        driver=f"{own}, CUDA {driver}" if own else f"CUDA {driver}",
        cuda=_version(cuda.call("cudaRuntimeGetVersion")),
        _cuda=cuda,
    )


def own_driver_version(driver_file: Path = _DRIVER_FILE) -> str | None:
    """NVIDIA's version of its kernel driver, such as "580.95.05"; None where Linux says nothing of one."""
    try:
        text = driver_file.read_text("utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", text)
    return found[1] if found else None


def _version(number: int) -> str:
    """13040 -> 13.4, as CUDA counts."""
    return f"{number // 1000}.{number % 1000 // 10}"
