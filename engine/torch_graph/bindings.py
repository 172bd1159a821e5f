"""The only file that imports PyTorch and ONNX, and only when it is asked to."""

from types import ModuleType

from engine.errors import DiamondError

INSTALL = 'pip install "diamond-engine[torch]"'


def torch_library() -> ModuleType:
    """The module `torch`.

    Raises:
        DiamondError: the package is missing or broken.
    """
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that it is linked to is missing
        raise _missing("PyTorch", "torch", error) from error
    return torch


def compiler_library() -> ModuleType:
    """The module `torch._inductor`, AOTInductor's door. Nothing is compiled yet.

    Raises:
        DiamondError: the package is missing or broken.
    """
    torch_library()
    try:
        import torch._inductor
    except (ImportError, OSError) as error:
        raise _missing("PyTorch's compiler", "torch", error) from error
    return torch._inductor


def onnx_library() -> ModuleType:
    """The module `onnx`, with `numpy_helper`.

    Raises:
        DiamondError: the package is missing or broken.
    """
    try:
        import onnx.numpy_helper
    except (ImportError, OSError) as error:
        raise _missing("ONNX", "onnx", error) from error
    module: ModuleType = onnx
    return module


def _missing(name: str, package: str, error: Exception) -> DiamondError:
    return DiamondError(
        f"backend torch: {name} cannot be imported ({error})", f"the package {package}", INSTALL
    )
