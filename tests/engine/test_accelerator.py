"""A GPU is looked for in files, without importing anything."""

import platform
import sys
from pathlib import Path

import pytest

from engine.accelerator import found_accelerator


@pytest.mark.parametrize(
    ("name", "found"),
    [("proc/driver/nvidia/version", True), ("dev/dxg", True), ("dev/kfd", True), ("dev/null", False)],
)
def test_a_driver_on_linux_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, found: bool
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    assert found_accelerator(tmp_path) is found


@pytest.mark.parametrize(("machine", "found"), [("arm64", True), ("x86_64", False)])
def test_an_apple_gpu_is_that_of_its_own_chips(
    monkeypatch: pytest.MonkeyPatch, machine: str, found: bool
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert found_accelerator() is found


def test_a_driver_on_windows_is_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
    assert not found_accelerator()
    (tmp_path / "System32").mkdir()
    (tmp_path / "System32" / "nvcuda.dll").touch()
    assert found_accelerator()
