"""Promises about who may import whom: one way between the packages, and a heavy library in one file only.

Read from the syntax trees, so that a lazy import inside a function counts as well as one at the top.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"engine", "train", "export"}
FORBIDDEN = {"engine": {"train", "export"}, "train": {"export"}, "export": set()}

# What imports numpy and the standard library only, whatever grows around it.
HEART = {"errors", "schedule", "noise", "actions", "bundle", "catalog", "sampler", "world"}

# Import name -> distribution name, where they differ.
DISTRIBUTION = {
    "google": "protobuf",
    "PIL": "pillow",
    "cuda": "cuda-python",
    "tensorrt": "tensorrt-cu13",
    "tensorrt_rtx_bindings": "tensorrt-rtx-cu13-bindings",
    "yaml": "pyyaml",
}


def sources(package: str) -> list[Path]:
    """Every Python file of one package."""
    return sorted((ROOT / package).rglob("*.py"))


def imported_names(path: Path) -> set[str]:
    """Top-level names that a file imports, by statement or by `import_module("name")`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                names.add(node.args[0].value)
    return {name.split(".")[0] for name in names}


def normal(distribution: str) -> str:
    """A distribution's name as package indexes compare it."""
    return distribution.lower().replace("_", "-")


def third_party(path: Path) -> set[str]:
    """The imports of a file that are neither the standard library's nor ours."""
    return imported_names(path) - set(sys.stdlib_module_names) - PACKAGES


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_imports_between_packages_flow_one_way(package: str) -> None:
    files = sources(package)
    assert files, f"{package}/ holds no Python file"
    wrong = {str(f.relative_to(ROOT)): sorted(imported_names(f) & FORBIDDEN[package]) for f in files}
    assert not {f: names for f, names in wrong.items() if names}


def test_the_heart_of_the_engine_needs_numpy_only() -> None:
    files = [path for path in sources("engine") if path.parent == ROOT / "engine" and path.stem in HEART]
    assert {path.stem for path in files} == HEART
    wrong = {path.name: sorted(third_party(path) - {"numpy"}) for path in files}
    assert not {name: libraries for name, libraries in wrong.items() if libraries}


def test_each_library_of_the_engine_is_imported_in_one_file() -> None:
    where: dict[str, list[str]] = defaultdict(list)
    for path in sources("engine"):
        for name in third_party(path) - {"numpy"}:
            where[name].append(str(path.relative_to(ROOT)))
    assert not {name: files for name, files in where.items() if len(files) > 1}


def test_every_imported_library_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] + [
        x for extra in project["optional-dependencies"].values() for x in extra
    ]
    declared = {normal(re.split(r"[<>=!~\[; ]", line)[0]) for line in lines}
    undeclared: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in sources(package):
            for name in third_party(path):
                if normal(DISTRIBUTION.get(name, name)) not in declared:
                    undeclared[name].append(str(path.relative_to(ROOT)))
    assert not undeclared


@pytest.mark.parametrize("module", ["engine.cli", "engine.player"])
def test_the_door_of_the_player_loads_no_heavy_library(module: str) -> None:
    heavy = ["torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx_bindings", "cuda"]
    heavy += ["pyglet", "av", "aiohttp", "PIL"]
    code = f"import {module}, sys; print(sorted(set(sys.modules) & set({heavy!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
