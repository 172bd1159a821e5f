"""What a measurement ran on: hardware, versions, how busy it was, memory used. Plain data for reports."""

import datetime
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine.backends.cores import physical_cores
from engine.errors import DiamondError

LIBRARIES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt-rtx-cu13-libs", "torch")
BUSY_SHARE = 0.1  # of the cores, in use by others before a measurement
WATCHED_S = 2.0


def hardware() -> dict[str, object]:
    """Processor, cores that this process may use, memory in GB, NVIDIA GPUs."""
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "gpus": _gpus(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "instructions": _instructions(),
    }


def cores() -> int:
    """What a CPU backend takes by itself: one thread a physical core that this process may use."""
    return physical_cores() or os.cpu_count() or 1


def load() -> dict[str, object]:
    """Cores that others keep busy while this process sleeps for a moment, and whether that is much.

    The load average would count a benchmark that ended a minute ago; it decides only where /proc does not say.
    """
    before = _busy_ticks()
    time.sleep(WATCHED_S)
    after = _busy_ticks()
    minute = os.getloadavg()[0]
    busy_cores = (
        minute if before is None or after is None else (after - before) / os.sysconf("SC_CLK_TCK") / WATCHED_S
    )
    return {
        "load_average": round(minute, 2),
        "busy_cores": round(busy_cores, 2),
        "busy": busy_cores > BUSY_SHARE * cores(),
    }


def circumstances(benchmark: str) -> dict[str, object]:
    """What every report begins with: the benchmark's name, what was typed, when, on what, and beside what else."""
    return {
        "benchmark": benchmark,
        "command": command(benchmark),
        "date": today(),
        "hardware": hardware(),
        "versions": versions(),
        "load": load(),
    }


def command(script: str) -> str:
    """The command that is running, to be typed again; of a path that begins at the root only the last part is told."""
    return " ".join([f"python benchmarks/{script}.py", *map(_portable, sys.argv[1:])])


def today() -> str:
    """The date, as 2026-01-31."""
    return datetime.date.today().isoformat()


def versions() -> dict[str, str]:
    """Python, system, and the libraries that are installed."""
    found = {"python": platform.python_version(), "system": _system()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident.

    On Linux from /proc: what getrusage says includes the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Memory that this process has resident now.

    Raises:
        DiamondError: not on Linux.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError as error:
        raise DiamondError("resident memory: this system does not say", "Linux, with /proc") from error
    return pages * os.sysconf("SC_PAGE_SIZE")


def _portable(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    path = Path(value)
    return f"{option}{equals}{path.name}" if path.is_absolute() else argument


def _busy_ticks() -> int | None:
    """What all processors together have worked since the system started, in clock ticks; None off Linux."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, fields[:8])
    return user + nice + system + irq + softirq + steal


def _system() -> str:
    name = f"{platform.system()} {platform.release()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {name}"
    except (OSError, KeyError):
        return name


def _gpus() -> list[str]:
    """Name, driver and power limit of each, as the driver says it; none without its tool."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,power.limit", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def _cpu_model() -> str:
    """The processor's name; with the numbers of its generation, because clouds call several "AMD EPYC"."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    family, model = _cpuinfo("cpu family"), _cpuinfo("model\t")
    return f"{name} (family {family}, model {model})" if family and model else name


def _instructions() -> list[str]:
    """The extensions that decide how fast convolutions can be."""
    flags = _cpuinfo("flags").split()
    return [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if name in flags]


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
