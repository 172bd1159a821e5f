"""From a name to the directory of a world: the worlds that come with the package, or any directory."""

from pathlib import Path

from engine.errors import DiamondError

_WORLDS = Path(__file__).parent / "worlds"
EMBEDDED = ("freedoom",)


def resolve(name: str | Path) -> Path:
    """Finds a world.

    Args:
        name: the name of a world that comes with the package, or a directory. A directory called like such a
            world is given as a `Path`, or with a slash: "./freedoom".

    Returns:
        The directory of its bundle.

    Raises:
        DiamondError: no such world.
    """
    if isinstance(name, str) and name in EMBEDDED:
        path = _WORLDS / name
        if not path.is_dir():
            raise DiamondError(
                f"world {name!r}: this installation lacks it",
                f"its files in {path}",
                "reinstall diamond-engine, or name the directory of another world",
            )
        return path
    path = Path(name)
    if path.is_dir():
        return path
    expected = f"one of {list(EMBEDDED)}, or the directory of a world"
    if name == "csgo":
        raise DiamondError(
            "world 'csgo': this version of diamond-engine cannot load the published world yet",
            expected,
            "upgrade diamond-engine",
        )
    what = f"{path}: is a file" if path.exists() else f"world {str(name)!r}: no such name or directory"
    raise DiamondError(what, expected, "make a world from a training run with diamond-export")
