"""Which world a benchmark is about, and which release a world was made from."""

from pathlib import Path

from engine.bundle import Bundle
from engine.catalog import PUBLISHED, resolve
from engine.errors import DiamondError


def find_world(name: str, random_weights: bool = False) -> Path:
    """The directory of a world; of the published architecture's with random weights, made now where it is missing.

    Raises:
        DiamondError: no such world, or random weights for another than the published one.
    """
    if not random_weights:
        return resolve(name)
    if name != PUBLISHED:
        raise DiamondError(f"--random-weights with the world {name!r}", f"--random-weights with {PUBLISHED}")
    from benchmarks.random_world import random_world

    return random_world()


def find_release(world: Path, release: Path | None, random_weights: bool = False) -> Path:
    """The release that `world` was made from.

    Raises:
        DiamondError: none is named, or the world was made from another one.
    """
    if random_weights:
        from benchmarks.random_world import random_release

        return random_release()
    if release is None:
        raise DiamondError("--reference without a release", "--release DIR, or --random-weights")
    from export.from_release import checkpoint_sha256

    made_of = Bundle.open(world, verify=False).manifest.made_by.get("checkpoint_sha256")
    if made_of != checkpoint_sha256(release):
        raise DiamondError(
            f"--release {release}: its weights are not those of the world {world}",
            "the release that this world was made from",
            "make the world again with diamond-export --release DIR",
        )
    return release
