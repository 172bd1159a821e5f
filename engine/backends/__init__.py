"""Choosing what runs a world's graphs.

A backend asked for by name is opened or the reason is given; nothing falls back in silence. `auto` goes down
a list, looking for one that works, found out by having it compute something small, and that runs the precision asked
for well; it says what it picked and why. One that works, but not as well as those behind it, is a last resort. Runtimes
are imported only when their backend is opened; PyTorch's, which takes seconds, by `auto` only where there may be a GPU.
"""

from collections.abc import Callable
from importlib.util import find_spec

from engine.accelerator import found_accelerator
from engine.backends.base import Backend
from engine.errors import DiamondError

Opener = Callable[[int | None], Backend]


def _open_trt(threads: int | None) -> Backend:
    from engine.backends.tensorrt import TensorRtBackend

    return TensorRtBackend()


def _open_torch(threads: int | None) -> Backend:
    from engine.backends.torch_graph import TorchBackend

    return TorchBackend(threads)


def _open_ort(threads: int | None) -> Backend:
    from engine.backends.ort import OrtBackend

    return OrtBackend(threads)


def _open_openvino(threads: int | None) -> Backend:
    from engine.backends.openvino import OpenVinoBackend

    return OpenVinoBackend(threads)


# In the order in which `auto` tries them.
_OPENERS: dict[str, Opener] = {
    "trt": _open_trt,
    "torch": _open_torch,
    "ort": _open_ort,
    "openvino": _open_openvino,
}
BACKENDS = ("auto", *_OPENERS)


def _torch_waits() -> str | None:
    if find_spec("torch") is None or found_accelerator():
        return None
    return "no GPU that PyTorch could use"


# Why a backend is not even opened while another works, found out in no time; None where it is.
_WAITS: dict[str, Callable[[], str | None]] = {"torch": _torch_waits}


def open_backend(name: str = "auto", threads: int | None = None, precision: str | None = None) -> Backend:
    """Opens a backend.

    Args:
        name: one of `BACKENDS`.
        threads: CPU threads; None lets the backend decide. One on a GPU has no use for it.
        precision: what will be loaded, for `auto`; None leaves the choice to the backend.

    Raises:
        DiamondError: no such backend, its runtime is missing, or, for `auto`, none can be opened: then with
            every reason.
    """
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise DiamondError(f"threads: {threads!r}", "1 or more, or None for one a physical core")
    if name == "auto":
        return _pick(threads, precision)
    if name not in _OPENERS:
        raise DiamondError(
            f"backend {name!r}: this version of diamond-engine has none", f"one of {list(BACKENDS)}"
        )
    backend = _OPENERS[name](threads)
    backend.why = "asked for by name"
    return backend


def _working(opener: Opener, threads: int | None) -> Backend:
    """Opens a backend and has it prove itself."""
    backend = opener(threads)
    try:
        backend.probe()
    except BaseException:
        backend.close()
        raise
    return backend


def _pick(threads: int | None, precision: str | None) -> Backend:
    """The first that works and runs the precision well; where none does, the first that works."""
    failures: dict[str, DiamondError] = {}
    passed_over: list[str] = []
    second_best: list[Backend] = []
    waiting = {name: why for name, waits in _WAITS.items() if name in _OPENERS and (why := waits())}
    last_resort = [name for name in _OPENERS if name in waiting]
    for name in [*(name for name in _OPENERS if name not in waiting), *last_resort]:
        if name in waiting and second_best:
            break
        try:
            backend = _working(_OPENERS[name], threads)
        except DiamondError as error:
            failures[name] = error
            passed_over.append(f"{name}: {error.what.removeprefix(f'backend {name}: ')}")
            continue
        if backend.last_resort or not (precision is None or precision in backend.precisions):
            well = f"runs {' and '.join(backend.precisions)} well, not {precision}"
            passed_over.append(f"{name}: {backend.last_resort or well}")
            second_best.append(backend)
            continue
        _close(second_best)
        reasons = "; ".join([*passed_over, *_unopened(waiting)])
        backend.why = "picked by auto: " + (f"not {reasons}" if reasons else "the first that runs here")
        return backend
    if second_best:
        # One that is no last resort, if there is one; else the first.
        best = min(second_best, key=lambda backend: bool(backend.last_resort))
        _close([backend for backend in second_best if backend is not best])
        reasons = "; ".join([*passed_over, *(() if best.name in waiting else _unopened(waiting))])
        best.why = f"picked by auto: the first that runs here; {reasons}"
        return best
    raise DiamondError(
        f"backend auto: none runs here: {'; '.join(passed_over)}",
        f"one of {list(_OPENERS)} installed",
        "; or ".join(error.fix for error in failures.values() if error.fix),
    )


def _unopened(waiting: dict[str, str]) -> list[str]:
    return [f"{name}: {why}" for name, why in waiting.items()]


def _close(backends: list[Backend]) -> None:
    for backend in backends:
        backend.close()
