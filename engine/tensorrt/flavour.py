"""The one import of TensorRT, whichever there is: TensorRT-RTX for RTX cards, or TensorRT 11.

Both have the same API, and both type a network strongly: precision is what the graph says, no flag changes it. They
report failures as None or False and say why only in their log, so every such result passes through `require`.
"""

from collections import deque
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeVar

from engine.errors import DiamondError

RTX_MODULE, FULL_MODULE = "tensorrt_rtx_bindings", "tensorrt"
INSTALL = 'pip install "diamond-engine[trt]"'
INSTALL_FULL = 'pip install "diamond-engine[trt11]"'
UNINSTALL_RTX = "pip uninstall -y tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs"
UNINSTALL_FULL = "pip uninstall -y tensorrt tensorrt-cu13 tensorrt-cu13-bindings tensorrt-cu13-libs"
RTX_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))  # of 1.7, see `Flavour.target`
_OLDEST_FULL = 11  # 10 has flags for fp16 and may change the types of a graph
_KEPT_LINES = 50

Result = TypeVar("Result")


class Log:
    """TensorRT's own lines, errors and warnings; `logger` is what its objects are given.

    One for the whole process: TensorRT keeps the first logger it sees and ignores the others.
    """

    def __init__(self, api: ModuleType) -> None:
        self.errors: deque[str] = deque(maxlen=_KEPT_LINES)
        self.warnings: deque[str] = deque(maxlen=_KEPT_LINES)
        self.logger = _logger(api, self)

    def clear(self) -> None:
        """Forgets the lines, so that a later failure is not explained by an earlier one."""
        self.errors.clear()
        self.warnings.clear()

    def reason(self) -> str:
        """The errors since `clear`, the first of which is the cause and the others what came of it."""
        lines = list(dict.fromkeys(self.errors))[:2] or list(self.warnings)[-1:]
        return "; ".join(lines) or "it gave no reason"


@dataclass(frozen=True)
class Flavour:
    """A TensorRT.

    Attributes:
        api: the module.
        name: "TensorRT-RTX" or "TensorRT". version: its version.
        is_rtx: whether plans are compiled for the GPU only when they run, and kernels kept in a runtime cache.
        log: what it said.
    """

    api: ModuleType
    name: str
    version: str
    is_rtx: bool
    log: Log = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def require(self, result: Result | None, doing: str, expected: str = "", fix: str = "") -> Result:
        """`result`, unless it is None or False.

        Raises:
            DiamondError: it is: with what was being done, and TensorRT's own lines.
        """
        if result is None or result is False:
            raise DiamondError(f"{doing}: {self.name} failed: {self.log.reason()}", expected, fix)
        return result

    def make(self, kind: str, *arguments: Any) -> Any:
        """One of TensorRT's objects, whose constructors raise TypeError instead of returning None.

        Raises:
            DiamondError: TensorRT refuses.
        """
        try:
            return getattr(self.api, kind)(*arguments)
        except TypeError as error:  # "factory function returned nullptr"
            raise DiamondError(
                f"{self.name}: no {kind}: {self.log.reason()}",
                "",
                "diamond-play --doctor says what is missing",
            ) from error

    def target(self, capability: tuple[int, int]) -> Any | None:
        """What to build for, by compute capability; None where a plan is for the GPU that is present.

        Raises:
            DiamondError: TensorRT-RTX does not run on such a GPU.
        """
        if not self.is_rtx:
            return None
        targets = self.api.ComputeCapability.__members__
        if (name := f"SM{capability[0]}{capability[1]}") not in targets:
            known = [name[2:-1] + "." + name[-1] for name in targets if name.startswith("SM")]
            raise DiamondError(
                f"compute capability {capability[0]}.{capability[1]}: {self} does not run on it",
                f"a GPU of compute capability {', '.join(known)}",
                f"{UNINSTALL_RTX} && {INSTALL_FULL}; or play with --backend ort",
            )
        return targets[name]


def installed() -> tuple[str, ...]:
    """The modules of TensorRT that can be found, none of them imported."""
    return tuple(module for module in (RTX_MODULE, FULL_MODULE) if find_spec(module) is not None)


@cache
def load_flavour() -> Flavour:
    """Imports the TensorRT that is installed, once.

    Raises:
        DiamondError: none, both, a broken one, or one that is too old.
    """
    found = installed()
    if not found:
        raise DiamondError(
            "backend trt: TensorRT is not installed", "TensorRT-RTX 1.7 or TensorRT 11", INSTALL
        )
    if len(found) > 1:
        raise DiamondError(
            "backend trt: TensorRT and TensorRT-RTX are both installed, and a plan of one is nothing to the other",
            "one of the two: TensorRT-RTX for RTX cards, TensorRT 11 for others",
            f"on an RTX card: {UNINSTALL_FULL}; on another: {UNINSTALL_RTX}",
        )
    try:
        is_rtx, api = _import(found[0])
    except (ImportError, OSError) as error:
        raise DiamondError(
            f"backend trt: {found[0]} cannot be imported ({error})",
            "TensorRT-RTX 1.7 or TensorRT 11",
            INSTALL,
        ) from error
    version = str(api.__version__)
    if not is_rtx and int(version.partition(".")[0]) < _OLDEST_FULL:
        raise DiamondError(
            f"backend trt: TensorRT {version} is too old: it may compute in other types than the graph has",
            f"TensorRT {_OLDEST_FULL}",
            INSTALL_FULL,
        )
    return Flavour(api, "TensorRT-RTX" if is_rtx else "TensorRT", version, is_rtx, Log(api))


def _import(module: str) -> tuple[bool, ModuleType]:
    """Whether it is TensorRT-RTX, and the module."""
    if module == RTX_MODULE:
        import tensorrt_rtx_bindings

        return True, tensorrt_rtx_bindings
    import tensorrt

    return False, tensorrt


def _logger(api: ModuleType, log: Log) -> Any:
    severities = api.ILogger.Severity

    class Lines(api.ILogger):  # type: ignore[misc, name-defined]  # exists only once TensorRT is imported
        def __init__(self) -> None:
            api.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (severities.ERROR, severities.INTERNAL_ERROR):
                log.errors.append(" ".join(message.split()))
            elif severity == severities.WARNING:
                log.warnings.append(" ".join(message.split()))

    return Lines()
