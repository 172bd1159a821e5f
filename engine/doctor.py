"""What this machine can play worlds on, and what is in the way: `diamond-play --doctor`.

Backends are tried, not looked up: each is opened and has to compute something. Every finding that stands in somebody's
way comes with the one command that puts it right. Nothing is changed.
"""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine import native
from engine.backends import BACKENDS, open_backend
from engine.catalog import own_home, own_worlds
from engine.cuda.gpu import describe_gpu, driver_version
from engine.cuda.runtime import Cuda
from engine.errors import DiamondError
from engine.own_files import folder_bytes
from engine.space import available_memory_bytes, free_disk_bytes, size_text
from engine.tensorrt import flavour
from engine.tensorrt.plan_cache import PLANS
from engine.torch_graph.programs import PROGRAMS

CPU_WHEEL, GPU_WHEEL = "onnxruntime", "onnxruntime-gpu"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what it is about. text: what was found. fix: the command that puts it right; empty where all is well.
    """

    subject: str
    text: str
    fix: str = ""

    def lines(self, width: int) -> list[str]:
        """As printed, the subject in a column of its own."""
        lines = [f"{self.subject:<{width}} {self.text}"]
        return lines + [f"{'':<{width}} fix: {self.fix}"] * bool(self.fix)


def examine() -> Iterator[Finding]:
    """Everything, one finding after the other: some take a second or two."""
    yield Finding("system", f"{platform.platform()}, Python {platform.python_version()}")
    if (available := available_memory_bytes()) is not None:
        yield Finding("memory", f"{size_text(available)} available")
    yield from _gpu()
    for name in BACKENDS:
        if name != "auto":
            yield _backend(name)
    yield _native()
    yield from _clashes()
    yield from _caches()


def report() -> str:
    """All findings as text."""
    findings = list(examine())
    width = max(len(finding.subject) for finding in findings)
    return "\n".join(line for finding in findings for line in finding.lines(width))


def _gpu() -> Iterator[Finding]:
    own = driver_version()
    try:
        gpu = describe_gpu(Cuda())
    except DiamondError as error:
        yield Finding("GPU", f"not usable: {error.what}", error.fix)
        yield Finding("driver", own or "none found")
        yield Finding("CUDA", f"cuda-python {_version('cuda-python') or 'is not installed'}")
        return
    yield Finding(
        "GPU", f"{gpu.name}, compute capability {gpu.capability_text}, {size_text(gpu.memory_bytes)}"
    )
    yield Finding("driver", gpu.driver)
    yield Finding("CUDA", f"runtime {gpu.cuda}, cuda-python {_version('cuda-python')}")


def _backend(name: str) -> Finding:
    """Opens it and has it compute."""
    subject = f"backend {name}"
    try:
        backend = open_backend(name)
    except DiamondError as error:
        return Finding(subject, f"not usable: {error.what.removeprefix(f'{subject}: ')}", error.fix)
    try:
        backend.probe()
        return Finding(subject, f"usable: {backend.describe()}; runs {', '.join(backend.precisions)}")
    except DiamondError as error:
        return Finding(subject, f"not usable: {error.what.removeprefix(f'{subject}: ')}", error.fix)
    finally:
        backend.close()


def _native() -> Finding:
    """Whether ONNX Runtime's convolutions are ours here."""
    reason = native.missing()
    if not reason:
        found = [(products, native.kernels(products)) for products in native.PRODUCTS]
        kernels = ", ".join(f"{products} for {kind}" for products, kind in found if kind)
        return Finding("native", f"convolutions in {kernels}, used by backend ort")
    compiled = native.LIBRARY.is_file() or reason.startswith(native.SWITCH)
    again = "" if compiled else 'pip install --force-reinstall --no-deps "diamond-engine"'
    return Finding(
        "native",
        f"none: {reason}; backend ort is slower",
        again and f"install a C++ compiler such as g++, then {again}",
    )


def _clashes() -> Iterator[Finding]:
    """Wheels that must not be installed together."""
    found = [wheel for wheel in (CPU_WHEEL, GPU_WHEEL) if _version(wheel) is not None]
    if len(found) == 2:
        fix = f'pip uninstall -y {CPU_WHEEL} {GPU_WHEEL} && pip install "diamond-engine[cpu]"'
        yield Finding("clash", f"{' and '.join(found)} overwrite each other's files", fix)
    if len(flavour.installed()) == 2:
        text = (
            "TensorRT and TensorRT-RTX are both installed; the extra trt needs TensorRT-RTX, trt11 the other"
        )
        yield Finding("clash", text, flavour.UNINSTALL_RTX if _needs_full() else flavour.UNINSTALL_FULL)


def _needs_full() -> bool:
    """Whether the GPU here is one that TensorRT-RTX does not run on; without a GPU nobody knows."""
    try:
        return Cuda().capability not in flavour.RTX_CAPABILITIES
    except DiamondError:
        return False


def _caches() -> Iterator[Finding]:
    for name, folder in (
        ("worlds", own_worlds()),
        ("plans", own_home() / PLANS),
        ("programs", own_home() / PROGRAMS),
    ):
        size_bytes = folder_bytes(folder)
        text = f"{folder}: {size_text(size_bytes)}" + ("" if size_bytes else ", nothing yet")
        yield Finding(name, text + (f"; to be rid of them: rm -r {folder}" if size_bytes else ""))
    yield Finding("disk", f"{size_text(free_disk_bytes(Path(own_home())))} free there")


def _version(wheel: str) -> str | None:
    try:
        return version(wheel)
    except PackageNotFoundError:
        return None
