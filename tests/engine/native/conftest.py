"""The kernels that a test of the native operators runs with."""

import ctypes

import pytest

from engine import native


@pytest.fixture(params=["", "avx2"], ids=["best kernels", "avx2"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with the processor's best kernels and with the older ones: they are chosen as a kernel is created."""
    monkeypatch.setenv(native.SWITCH, request.param)
    name = ctypes.CDLL(str(native.LIBRARY)).diamond_kernels
    name.restype = ctypes.c_char_p
    found = (name(0) or b"").decode()
    if request.param == "avx2" and found != "AVX2":
        pytest.skip(f"this processor runs {found or 'nothing'}, not AVX2")
    return found
