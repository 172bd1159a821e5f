"""Operators of our own for ONNX Runtime's CPU: compiled with the package where a C++ compiler is, see docs/native.md.

`operators.cpp` registers them, `kernels.cpp` computes in float32 and bf16, `int8.cpp` in bytes, `rewrite.py` puts
them into a graph.
"""

import ctypes
import hashlib
import os
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).with_name("operators.so")
SWITCH = "DIAMOND_NATIVE"  # in the environment: "off" plays graphs as exported, "avx2" without AVX-512


PRODUCTS = ("fp32", "bf16", "int8")  # in the order of `diamond_kernels`


def kernels(products: str = "fp32") -> str:
    """What this processor runs of the operators, such as "AVX-512", by what they multiply, one of `PRODUCTS`; empty
    where `missing` says why, and where the processor can't multiply that.
    """
    return "" if missing() else _found(_switch())[0][PRODUCTS.index(products)]


def missing() -> str:
    """Why there are no native operators here; empty where there are."""
    return f"{SWITCH}=off" if _switch() == "off" else _found(_switch())[1]


def _switch() -> str:
    return os.environ.get(SWITCH, "")


@cache
def _found(switch: str) -> tuple[tuple[str, ...], str]:
    """What there is of `PRODUCTS`, and why there is nothing; the library itself reads the `switch`."""
    nothing = ("",) * len(PRODUCTS)
    if not LIBRARY.is_file():
        return nothing, "not compiled when the package was installed"
    try:
        library = ctypes.CDLL(str(LIBRARY))
        name, revision = library.diamond_kernels, library.diamond_sources
    except (OSError, AttributeError) as error:
        return nothing, f"{LIBRARY.name} cannot be loaded: {error}"
    name.restype = revision.restype = ctypes.c_char_p
    if revision().decode() != _sources_sha256():
        return (
            nothing,
            f"{LIBRARY.name} was compiled from other sources than are here; install the package again",
        )
    found = tuple((name(index) or b"").decode() for index in range(len(PRODUCTS)))
    return found, "" if found[0] else "this processor has neither AVX-512 nor AVX2"


def _sources_sha256() -> str:
    """As hatch_build.py computes it: a checkout that moved on still holds the library of before."""
    digest = hashlib.sha256()
    for path in sorted((*LIBRARY.parent.glob("*.cpp"), *LIBRARY.parent.glob("*.hpp"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
