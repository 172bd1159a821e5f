"""Memory and disk, asked for before they are spent, and sizes in words. Standard library only."""

import os
import shutil
from pathlib import Path

from engine.errors import DiamondError

SPARE_BYTES = 64 << 20  # left free on a disk


def size_text(size_bytes: float) -> str:
    """1.53 GB, 436.50 kB."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.2f} {name}"
    return f"{size_bytes:.0f} bytes"


def free_disk_bytes(path: Path) -> int:
    """Room on the disk that `path` lies on, or would lie on once its directories are made."""
    path = path.absolute()
    existing = next(place for place in (path, *path.parents) if place.exists())
    return shutil.disk_usage(existing).free


def require_disk(path: Path, needed_bytes: int, what: str, fix: str) -> None:
    """Checks that there is room for `needed_bytes` at `path`.

    Raises:
        DiamondError: there is not, naming what it is for.
    """
    free_bytes = free_disk_bytes(path)
    if free_bytes < needed_bytes + SPARE_BYTES:
        raise DiamondError(
            f"{path}: {size_text(free_bytes)} free",
            f"{size_text(needed_bytes + SPARE_BYTES)} for {what}",
            fix,
        )


def available_memory_bytes() -> int | None:
    """Memory that programs can still have without swapping; None where the system does not say.

    On Linux MemAvailable, but no more than a container's limit leaves (cgroup version 2, then 1).
    """
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        available = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return _free_pages_bytes()
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        folder = Path("/sys/fs/cgroup") / ("memory" if limit.endswith("bytes") else "")
        try:
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        available = min(available, max(0, left))
    return available


def require_memory(needed_bytes: int, what: str, fix: str) -> None:
    """Checks that there is memory for `needed_bytes`, where the system says how much there is.

    Raises:
        DiamondError: there is not, naming what it is for.
    """
    available = available_memory_bytes()
    if available is not None and available < needed_bytes:
        raise DiamondError(
            f"{size_text(available)} of memory available", f"about {size_text(needed_bytes)} for {what}", fix
        )


def _free_pages_bytes() -> int | None:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def memory_text(needed_bytes: float) -> str:
    """What is about to be needed, beside what there is: one line, with a warning where it will not do."""
    text = f"about {size_text(needed_bytes)} of memory"
    available = available_memory_bytes()
    if available is None:
        return text
    text += f", {size_text(available)} available"
    return text if available >= needed_bytes else text + ": TOO LITTLE, it will swap or be killed"
