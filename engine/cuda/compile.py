"""CUDA C to machine code, by NVRTC: on the machine that plays, for its GPU, in a fraction of a second."""

from functools import cache
from importlib.resources import files
from typing import Any

from engine.cuda.bindings import INSTALL, bindings
from engine.errors import DiamondError

# Rounding after every operation, as numpy does; and a report on what the kernels need.
_OPTIONS = (b"--fmad=false", b"--prec-div=true", b"--ftz=false", b"--ptxas-options=-v")


@cache
def kernel_source() -> str:
    """The text of kernels.cu."""
    return files("engine.cuda").joinpath("kernels.cu").read_text("utf-8")


def compile_kernels(source: str, capability: tuple[int, int]) -> tuple[bytes, str]:
    """Compiles CUDA C for one kind of device; needs no GPU and no driver.

    Args:
        source: with `extern "C"` kernels.
        capability: such as (8, 9).

    Returns:
        The cubin, and the assembler's report on each kernel's registers and memory.

    Raises:
        DiamondError: NVRTC is missing or does not know the device.
    """
    _, _, nvrtc = bindings()

    def call(name: str, *arguments: object) -> Any:
        try:
            error, *results = getattr(nvrtc, name)(*arguments)
        except RuntimeError as missing:  # cuda-python's way to say that it found no libnvrtc
            raise DiamondError(
                f"CUDA: NVRTC cannot be loaded ({missing})", "the package nvidia-cuda-nvrtc, 13", INSTALL
            ) from missing
        if int(error) != 0:
            raise DiamondError(f"CUDA: {name} failed: {getattr(error, 'name', error)}")
        return results[0] if len(results) == 1 else results

    major, minor = capability
    known = call("nvrtcGetSupportedArchs")
    if 10 * major + minor not in known:
        version = ".".join(str(part) for part in call("nvrtcVersion"))
        raise DiamondError(
            f"CUDA: NVRTC {version} does not compile for compute capability {major}.{minor}",
            f"one of {', '.join(f'{arch // 10}.{arch % 10}' for arch in known)}",
            "a newer GPU wants a newer nvidia-cuda-nvrtc; play an older one with --backend ort",
        )
    program = call("nvrtcCreateProgram", source.encode(), b"kernels.cu", 0, [], [])
    try:
        options = [f"--gpu-architecture=sm_{major}{minor}".encode(), *_OPTIONS]
        (error,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        # cuda-python writes into the bytes that it is given: they must be new ones, which one-byte strings never are.
        log = bytes(call("nvrtcGetProgramLogSize", program) + 2)
        call("nvrtcGetProgramLog", program, log)
        report = log.rstrip(b" \0").decode(errors="replace")
        if int(error) != 0:
            raise AssertionError(f"the kernels do not compile for {major}.{minor}:\n{report}")
        cubin = bytes(call("nvrtcGetCUBINSize", program))
        call("nvrtcGetCUBIN", program, cubin)
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return cubin, report
