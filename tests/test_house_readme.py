"""Promises about the README and the pages beside it: every command exists, parses, and where quick, runs.

Commands that record, train or install are parsed only (the tests of their own rooms run them, on small
data); playing is run as written.
"""

import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")),
)
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """Every command line of the `sh` blocks, continuation lines joined and comments dropped."""
    lines = [
        line for block in blocks(page, "(?:sh|bash)") for line in block.replace("\\\n", " ").splitlines()
    ]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


COMMANDS = [(page, words) for page in PAGES for words in commands(page)]
OURS = [words for _, words in COMMANDS if words[0] in PROJECT["scripts"]]


def as_written(words: list[str]) -> str:
    """A test's name."""
    return " ".join(words)


def parse(words: list[str]) -> None:
    """Parses a command of ours as its program would, and does not run it."""
    typer = pytest.importorskip("typer")
    module = importlib.import_module(PROJECT["scripts"][words[0]].split(":")[0])
    command, name, rest = typer.main.get_command(module.app), words[0], words[1:]
    context = command.make_context(name, list(rest))
    while hasattr(command, "commands"):  # a group: its first word names the subcommand
        _, command, rest = command.resolve_command(context, list(rest))
        context = command.make_context(command.name, list(rest), parent=context)


def test_the_readme_gives_commands() -> None:
    assert len(COMMANDS) >= 8
    known = {"make", "pip", "python", *PROJECT["scripts"]}
    assert not [words for _, words in COMMANDS if words[0] not in known]


@pytest.mark.parametrize("words", OURS, ids=as_written)
def test_each_command_parses(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parse(words)


def test_a_mistyped_option_would_be_noticed() -> None:
    with pytest.raises(Exception, match="--frame-count"):
        parse(["diamond-play", "freedoom", "--frame-count", "3"])


@pytest.mark.parametrize(
    "words", [w for page, w in COMMANDS if page == "README.md" and "--headless" in w], ids=as_written
)
def test_each_headless_command_plays(words: list[str], tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra `record` is not installed")
    module, function = PROJECT["scripts"][words[0]].split(":")
    code = f"import sys; from {module} import {function}; sys.argv = {words!r}; {function}()"
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / words[words.index("--headless") + 1]).stat().st_size > 10_000


@pytest.mark.parametrize("code", blocks("README.md", "python"), ids=lambda code: code.splitlines()[0])
def test_each_python_example_runs(code: str, tmp_path: Path) -> None:
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("words", [words for _, words in COMMANDS if words[0] == "make"], ids=as_written)
def test_each_make_target_exists(words: list[str]) -> None:
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [words for _, words in COMMANDS if words[0] == "pip"], ids=as_written)
def test_each_extra_that_pip_is_asked_for_exists(words: list[str]) -> None:
    extras = re.search(r"\[(.+)\]$", words[-1])
    assert extras is not None, f"no extras in {words[-1]}"
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES)
def test_each_link_inside_the_repository_leads_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", (ROOT / page).read_text(encoding="utf-8"))
    dead = [t for t in targets if "://" not in t and not (ROOT / page).parent.joinpath(t).exists()]
    assert not dead


def test_every_extra_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [extra for extra in PROJECT["optional-dependencies"] if f"`{extra}`" not in text]
