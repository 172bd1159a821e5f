"""Choosing what runs a world's graphs.

A backend asked for by name is opened or the reason is given; nothing falls back in silence. `auto` goes down
a list, looking for one that works, found out by having it compute something small, and that runs the precision asked
for well; it says what it picked and why. Runtimes are imported only when their backend is opened.
"""

from collections.abc import Callable

from engine.backends.base import Backend
from engine.errors import DiamondError

Opener = Callable[[int | None], Backend]


def _open_trt(threads: int | None) -> Backend:
    from engine.backends.tensorrt import TensorRtBackend

    return TensorRtBackend()


def _open_ort(threads: int | None) -> Backend:
    from engine.backends.ort import OrtBackend

    return OrtBackend(threads)


def _open_openvino(threads: int | None) -> Backend:
    from engine.backends.openvino import OpenVinoBackend

    return OpenVinoBackend(threads)


# In the order in which `auto` tries them.
_OPENERS: dict[str, Opener] = {"trt": _open_trt, "ort": _open_ort, "openvino": _open_openvino}
BACKENDS = ("auto", *_OPENERS)


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
    second_best: Backend | None = None
    for name, opener in _OPENERS.items():
        try:
            backend = _working(opener, threads)
        except DiamondError as error:
            failures[name] = error
            passed_over.append(f"{name}: {error.what.removeprefix(f'backend {name}: ')}")
            continue
        if precision is None or precision in backend.precisions:
            reasons = "; ".join(passed_over)
            backend.why = "picked by auto: " + (f"not {reasons}" if reasons else "the first that runs here")
            return backend
        passed_over.append(f"{name}: runs {' and '.join(backend.precisions)} well, not {precision}")
        second_best = second_best or backend
    if second_best is not None:
        second_best.why = f"picked by auto: the first that runs here; {'; '.join(passed_over)}"
        return second_best
    raise DiamondError(
        f"backend auto: none runs here: {'; '.join(passed_over)}",
        f"one of {list(_OPENERS)} installed",
        "; or ".join(error.fix for error in failures.values() if error.fix),
    )
