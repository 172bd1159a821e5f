"""How many cores this process may compute on: the right number of threads for arithmetic.

Hyper-threads share one arithmetic unit, so they are counted once; the process's affinity and its container's
quota are respected, since threads beyond them only wait for one another.
"""

import os
from pathlib import Path


def physical_cores(root: Path = Path("/sys")) -> int | None:
    """Physical cores this process may use, at least 1; None where the system does not say (not Linux).

    Args:
        root: where sysfs is; a test gives its own.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = {_core(root, cpu) for cpu in os.sched_getaffinity(0)}
    quota = _quota_cores(root / "fs" / "cgroup")
    return max(1, len(cores) if quota is None else min(len(cores), int(quota)))


def threads_in_words(threads: int | None) -> str:
    """For people: "2 threads"; None is what the runtime chooses."""
    return {None: "its own choice of threads", 1: "1 thread"}.get(threads, f"{threads} threads")


def _core(root: Path, cpu: int) -> str:
    """A name for the physical core that a logical cpu belongs to: the list of its hyper-threads."""
    siblings = _read(root / "devices" / "system" / "cpu" / f"cpu{cpu}" / "topology" / "thread_siblings_list")
    return siblings or f"{cpu}"


def _quota_cores(cgroup: Path) -> float | None:
    """The container's limit in cores; None without one. Version 2 in one file, version 1 in two."""
    fields = (_read(cgroup / "cpu.max") or "").split()
    if len(fields) != 2:
        fields = [
            _read(cgroup / "cpu" / "cpu.cfs_quota_us") or "",
            _read(cgroup / "cpu" / "cpu.cfs_period_us") or "",
        ]
    quota, period = fields
    if not quota.isdigit() or not period.isdigit():  # "max", "-1" or nothing: no limit
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
