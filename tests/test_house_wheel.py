"""Promises about what is installed: the wheel holds its three packages and their data, and nothing else.

Everything is built from copies: a build compiles the native operators into the tree that it builds, or removes them.
"""

import configparser
import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"engine", "export", "train"}
WHEEL_BYTES_AT_MOST = 60 * 2**20


NATIVE = "engine/native"
LIBRARY = f"{NATIVE}/operators.so"

compiles = pytest.mark.skipif(
    not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))
    or sys.platform not in ("linux", "darwin")
    or platform.machine() not in ("x86_64", "aarch64", "arm64"),
    reason="no C++ compiler here, or a machine that the native operators are not written for",
)


def copied(folder: Path, worlds: bool = False) -> Path:
    """This checkout as a build reads it, without native operators; building is quicker without the worlds."""
    left_out = shutil.ignore_patterns("operators.so", "operators.new", *(() if worlds else ("worlds",)))
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=left_out)
    for path in (*ROOT.glob("*.*"), ROOT / "LICENSE", ROOT / ".gitignore"):
        if path.is_file():
            shutil.copy2(path, folder)
    return folder


def build(root: Path, out: Path, target: str = "wheel", **environment: str) -> tuple[Path, str]:
    """Builds without the network; gives the file, and what was said."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    inherited = {name: value for name, value in os.environ.items() if name != "DIAMOND_NATIVE"}
    done = subprocess.run(
        command, cwd=root, env=inherited | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.iterdir()
    return built, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    root = copied(tmp_path_factory.mktemp("checkout"), worlds=True)
    return build(root, tmp_path_factory.mktemp("wheel"))[0]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of this checkout to build from, without its worlds."""
    (tmp_path / "checkout").mkdir()
    return copied(tmp_path / "checkout")


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


@compiles
def test_the_wheel_holds_native_operators_that_load(wheel: Path, tmp_path: Path) -> None:
    assert not wheel.name.endswith("-any.whl"), "a wheel with machine code is of one platform"
    assert wheel.name.split("-")[2:4] == ["py3", "none"]
    archive = zipfile.ZipFile(wheel)
    (info,) = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
    assert "Root-Is-Purelib: false" in archive.read(info).decode()
    name = ctypes.CDLL(archive.extract(LIBRARY, tmp_path)).diamond_kernels
    name.restype = ctypes.c_char_p
    assert name(0) in (b"AVX-512", b"AVX2", b"NEON", None)
    assert name(1) in (b"AVX-512 with bf16", None)


def is_pure(wheel: Path) -> bool:
    """Whether a wheel says that it is for any machine, and holds no machine code."""
    compiled = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".so", ".new", ".o"))]
    return wheel.name.endswith("-py3-none-any.whl") and not compiled


def test_a_wheel_without_native_operators_is_for_any_machine(tree: Path, tmp_path: Path) -> None:
    """Also where an earlier build has left some in the tree."""
    (tree / LIBRARY).write_bytes(b"of an earlier build")
    built, said = build(tree, tmp_path / "out", DIAMOND_NATIVE="off")
    assert is_pure(built)
    assert "without native operators: DIAMOND_NATIVE=off" in said


@pytest.mark.parametrize("compiler", ["/bin/false", "/nowhere/c++"])
@compiles
def test_a_compiler_that_fails_costs_the_operators_and_says_so(
    tree: Path, tmp_path: Path, compiler: str
) -> None:
    built, said = build(tree, tmp_path / "out", CXX=compiler)
    assert is_pure(built)
    assert f"without native operators: {compiler}" in said


@compiles
def test_a_source_that_does_not_compile_is_quoted(tree: Path, tmp_path: Path) -> None:
    (tree / NATIVE / "operators.cpp").write_text("#error no such operators\n")
    built, said = build(tree, tmp_path / "out")
    assert is_pure(built)
    assert "no such operators" in said


@compiles
def test_native_operators_can_be_built_from_the_source_distribution(tree: Path, tmp_path: Path) -> None:
    sdist, _ = build(tree, tmp_path / "sdist", "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (root,) = (tmp_path / "unpacked").iterdir()
    kinds = ("*.cpp", "*.hpp", "*.h", "*.py")
    sources = {path.relative_to(ROOT) for kind in kinds for path in (ROOT / NATIVE).rglob(kind)}
    assert Path(NATIVE, "onnxruntime", "onnxruntime_c_api.h") in sources
    assert not [path for path in {*sources, Path("hatch_build.py")} if not (root / path).is_file()]
    assert not (root / LIBRARY).exists()
    built, _ = build(root, tmp_path / "out")
    assert LIBRARY in zipfile.ZipFile(built).namelist()


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
