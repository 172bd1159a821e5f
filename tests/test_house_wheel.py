"""Promises about what is installed: the wheel holds its three packages and their data, and nothing else."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"engine", "export", "train"}
WHEEL_BYTES_AT_MOST = 60 * 2**20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without the network."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_its_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert not [name for name in names if "test" in name.split("/") or "tests" in name.split("/")]
    assert not [name for name in names if name.endswith((".pyc", ".pt", ".mp4", ".wad"))]


def test_the_wheel_holds_every_source_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = ("*.py", "*.cu")
    files = [path for package in PACKAGES for kind in sources for path in (ROOT / package).rglob(kind)]
    files += [ROOT / package / "py.typed" for package in PACKAGES]
    assert not {str(path.relative_to(ROOT)) for path in files} - names


def test_the_wheel_holds_the_embedded_world(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    world = ROOT / "engine" / "worlds" / "freedoom"
    files = {str(path.relative_to(ROOT)) for path in world.rglob("*") if path.is_file()}
    assert "engine/worlds/freedoom/world.json" in files
    assert not files - names


def test_the_wheel_stays_small(wheel: Path) -> None:
    assert wheel.stat().st_size < WHEEL_BYTES_AT_MOST


def test_the_wheel_installs_the_four_commands(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
    entries = configparser.ConfigParser()
    entries.read_string(archive.read(name).decode())
    scripts = dict(entries["console_scripts"])
    assert set(scripts) == {"diamond-play", "diamond-export", "diamond-train", "diamond-data"}
    for target in scripts.values():
        module, function = target.split(":")
        code = f"import {module}; assert callable({module}.{function})"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
