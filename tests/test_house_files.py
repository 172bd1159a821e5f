"""Promises about the files themselves: small, named for their subject, and tied to no one's machine."""

import ast
import os
import subprocess
from pathlib import Path
from shutil import which

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("engine", "export", "train")
ROOMS = (*PACKAGES, "benchmarks")
LINES_AT_MOST = 350
UNTRACKED = {".git", ".venv", "build", "dist", "runs", "data", "worlds", "_vizdoom"}
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".yaml", ".yml", ".cfg", ".glsl", ".html", ".js", ".css", ""}


def python_files(*rooms: str) -> list[Path]:
    """Every Python file of the named directories."""
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


def tracked_files() -> list[Path]:
    """What git tracks or would track; without git or a repository, everything but what the tools made."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False) if which("git") else None
    if done and done.returncode == 0:
        return [path for name in done.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]
    found = []
    for folder, folders, names in os.walk(ROOT):
        if Path(folder) == ROOT:
            folders[:] = [name for name in folders if name not in UNTRACKED]
        folders[:] = [name for name in folders if not name.endswith("cache") and name != "__pycache__"]
        found += [Path(folder) / name for name in names]
    return found


def test_no_source_file_is_long_enough_to_hide_a_second_subject() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text("utf-8").splitlines()) for p in python_files(*ROOMS)}
    assert lengths
    assert not {name: lines for name, lines in lengths.items() if lines > LINES_AT_MOST}


def test_every_module_names_its_subject() -> None:
    vague = {"utils", "util", "helpers", "helper", "misc", "common"}
    files = python_files(*PACKAGES)
    assert not [str(p.relative_to(ROOT)) for p in files if p.stem in vague or p.parent.name in vague]
    assert not [str(p.relative_to(ROOT)) for p in files if p.stem == p.relative_to(ROOT).parts[0]]


def test_every_module_opens_with_a_paragraph() -> None:
    silent = []
    for path in python_files(*ROOMS):
        tree = ast.parse(path.read_text("utf-8"))
        if tree.body and not ast.get_docstring(tree):
            silent.append(str(path.relative_to(ROOT)))
    assert not silent


def test_every_package_carries_its_types() -> None:
    assert not [package for package in PACKAGES if not (ROOT / package / "py.typed").is_file()]


def test_no_tracked_file_names_a_path_of_one_machine() -> None:
    roots = [
        "/".join(["", *parts, ""]) for parts in (["work"], ["tmp", "shared"], ["root"], ["opt", "wheels"])
    ]
    wrong = []
    for path in tracked_files():
        if path.suffix not in TEXT:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        wrong += [f"{path.relative_to(ROOT)}: {root}" for root in roots if root in text]
    assert not wrong


def test_no_tracked_file_is_a_recording_or_a_checkpoint() -> None:
    golden = ROOT / "tests" / "golden"
    leftovers = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path.suffix in {".pt", ".pth", ".ckpt", ".mp4", ".safetensors", ".wad"}
        and golden not in path.parents
    ]
    assert not leftovers
