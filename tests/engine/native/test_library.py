"""The compiled library is used where it fits the sources beside it, and not otherwise."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import native

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the library and its sources, which the engine takes for its own."""
    if native.missing():
        pytest.skip(native.missing())
    for path in (native.LIBRARY, *native.LIBRARY.parent.glob("*.?pp")):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(native, "LIBRARY", tmp_path / native.LIBRARY.name)
    native._found.cache_clear()
    yield tmp_path
    native._found.cache_clear()


def test_a_library_that_fits_its_sources_is_used(copy: Path) -> None:
    assert native.missing() == ""
    assert native.kernels() in ("AVX-512", "AVX2", "NEON")


def test_a_library_of_older_sources_is_not_used(copy: Path) -> None:
    with (copy / "operators.cpp").open("a") as file:
        file.write("// one line more\n")
    assert "compiled from other sources" in native.missing()
    assert native.kernels() == ""


def test_the_build_and_the_engine_agree_about_the_sources() -> None:
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    assert build.sources_sha256(ROOT / build.SOURCES) == native._sources_sha256()
