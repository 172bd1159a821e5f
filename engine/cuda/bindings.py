"""The only file that imports cuda-python, and only when it is asked to."""

from types import ModuleType

from engine.errors import DiamondError

INSTALL = 'pip install "diamond-engine[trt]"'


def bindings() -> tuple[ModuleType, ModuleType, ModuleType]:
    """`cuda.bindings.runtime`, `.driver` and `.nvrtc`.

    Raises:
        DiamondError: the package is missing or broken.
    """
    try:
        from cuda.bindings import driver, nvrtc, runtime
    except ImportError as error:
        raise DiamondError(
            f"CUDA: cuda-python cannot be imported ({error})", "the package cuda-python, 13 or newer", INSTALL
        ) from error
    return runtime, driver, nvrtc
