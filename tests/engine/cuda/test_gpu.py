"""What a plan depends on of a GPU, as CUDA and the kernel driver report it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.cuda import gpu
from engine.cuda.gpu import Gpu, describe_gpu, driver_version, free_bytes
from engine.errors import DiamondError

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (builder@host)\n"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  575.57.08  Sat May 24 06:35:11 UTC 2025\n"


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    runtime = SimpleNamespace(
        cudaDriverGetVersion=lambda: (0, 13000),
        cudaRuntimeGetVersion=lambda: (0, 13040),
        cudaMemGetInfo=lambda: (0, 20 * 10**9, 24 * 10**9),
    )
    monkeypatch.setattr(gpu, "bindings", lambda: (runtime, None, None))
    return runtime


@pytest.mark.parametrize(("text", "version"), [(OPEN, "580.95.05"), (CLOSED, "575.57.08"), ("nothing", None)])
def test_the_drivers_own_version_is_found(tmp_path: Path, text: str, version: str | None) -> None:
    assert driver_version(tmp_path / "none") is None
    (tmp_path / "version").write_text(text)
    assert driver_version(tmp_path / "version") == version


def test_a_gpu_is_described(tmp_path: Path, runtime: SimpleNamespace) -> None:
    cuda = SimpleNamespace(device="NVIDIA GeForce RTX 4090", capability=(8, 9))
    (tmp_path / "version").write_text(OPEN)
    found = describe_gpu(cuda, tmp_path / "version")  # type: ignore[arg-type]
    driver = "580.95.05, CUDA 13.0"
    assert found == Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 * 10**9, driver, "13.4")
    assert found.capability_text == "8.9"
    assert describe_gpu(cuda, tmp_path / "none").driver == "CUDA 13.0"  # type: ignore[arg-type]
    assert free_bytes() == 20 * 10**9


def test_a_failure_names_the_call(runtime: SimpleNamespace) -> None:
    runtime.cudaMemGetInfo = lambda: (2, None, None)
    with pytest.raises(DiamondError, match="cudaMemGetInfo failed: 2"):
        free_bytes()
