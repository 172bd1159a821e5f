"""From a name to the directory of a world: those that come with the package, those made on this machine, or any.

    freedoom    comes with the package; a copy with more precisions, made by diamond-export, comes first
    csgo        the published world; diamond-export makes it from the release, once

Worlds made here lie in HOME/worlds/NAME; HOME is $DIAMOND_ENGINE_HOME, or else diamond-engine/ in the user's cache
directory.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from engine.errors import DiamondError

_WORLDS = Path(__file__).parent / "worlds"
_WORLD_JSON = "world.json"
EMBEDDED = ("freedoom",)
PUBLISHED = "csgo"
NAMES = (*EMBEDDED, PUBLISHED)


def own_home() -> Path:
    """The directory in which what is made on this machine lies, worlds and plans; it need not exist."""
    if home := os.environ.get("DIAMOND_ENGINE_HOME"):
        return Path(home).expanduser()
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "diamond-engine"


def own_worlds() -> Path:
    """The directory in which worlds made on this machine lie; it need not exist."""
    return own_home() / "worlds"


def own_world(name: str) -> Path:
    """Where the world `name` lies, or would lie, once it is made on this machine."""
    return own_worlds() / name


def is_here(name: str | Path) -> bool:
    """Whether `name` can be resolved without making a world first."""
    return name != PUBLISHED or (own_world(PUBLISHED) / _WORLD_JSON).is_file()


def embedded(name: str) -> Path:
    """The directory of a world that comes with the package.

    Raises:
        DiamondError: this installation lacks it.
    """
    path = _WORLDS / name
    if not path.is_dir():
        raise DiamondError(
            f"world {name!r}: this installation lacks it",
            f"its files in {path}",
            "reinstall diamond-engine, or name the directory of another world",
        )
    return path


def resolve(name: str | Path) -> Path:
    """Finds a world.

    Args:
        name: one of `NAMES`, or a directory. A directory called like such a world is given as a `Path`, or with a
            slash: "./freedoom".

    Returns:
        The directory of its bundle.

    Raises:
        DiamondError: no such world, or the published one before it has been made from its release.
    """
    if isinstance(name, str) and name in EMBEDDED:
        original, own = embedded(name), own_world(name)
        return own if _extends(own, original) else original
    if name == PUBLISHED:
        if not is_here(name):
            raise DiamondError(
                f"world {PUBLISHED!r}: not made yet: {own_world(PUBLISHED)} is not there",
                "the published world, made from its release once",
                "diamond-export csgo (downloads the release), or diamond-export --release DIR",
            )
        return own_world(PUBLISHED)
    path = Path(name)
    if path.is_dir():
        return path
    what = f"{path}: is a file" if path.exists() else f"world {str(name)!r}: no such name or directory"
    raise DiamondError(
        what,
        f"one of {list(NAMES)}, or the directory of a world",
        "make a world from a training run with diamond-export",
    )


def _extends(own: Path, original: Path) -> bool:
    """Whether `own` has every file of `original`, byte for byte: a copy of an older version does not count."""

    def files(path: Path) -> dict[str, Any]:
        return dict(json.loads((path / _WORLD_JSON).read_text("utf-8"))["files"])

    try:
        return files(original).items() <= files(own).items()
    except (OSError, ValueError, KeyError, TypeError):
        return False
