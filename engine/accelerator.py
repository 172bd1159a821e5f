"""Is there anything but a CPU that PyTorch could compute on? Looked up in files: importing PyTorch takes seconds.

A driver that is there may still not work, which shows when a backend is opened; without one there is no use in trying.
"""

import os
import platform
import sys
from pathlib import Path

_LINUX = (
    "proc/driver/nvidia/version",  # NVIDIA's driver
    "dev/nvidiactl",  # ... in a container that does not show the above
    "dev/dxg",  # ... under Windows, in WSL
    "dev/kfd",  # AMD's
)
_WINDOWS = "System32/nvcuda.dll"


def found_accelerator(root: Path = Path("/")) -> bool:
    """Whether there is a driver of NVIDIA's or AMD's, or an Apple GPU.

    Args:
        root: of the file system; a test gives its own.
    """
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / _WINDOWS).exists()
    return any((root / name).exists() for name in _LINUX)
