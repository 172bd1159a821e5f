"""The published architecture with random weights, as release and as world: made once, kept beside the user's worlds.

Speed does not depend on the weights, so the world is not verified and must not be played for its pictures.
"""

from pathlib import Path

from benchmarks.make_release import random_spawns, sizes_of, write_release
from engine.bundle_writer import WORLD_JSON
from engine.catalog import own_worlds
from export.assemble import build_bundle
from export.from_release import parts_from_release
from train.presets import recipe
from train.release import CHECKPOINT, action_space

LOW_RES = "30x56"
SPAWNS = 2


def random_release() -> Path:
    """The release; made now, or earlier."""
    release = own_worlds().parent / "random" / "csgo"
    if not (release / CHECKPOINT).is_file():
        print(f"making a release of random weights in {release}: 1.5 GB", flush=True)
        agent = recipe("csgo").agent
        sizes = sizes_of(agent, LOW_RES)
        write_release(
            release, agent, random_spawns(sizes, action_space(agent.num_actions), SPAWNS, seed=0), seed=0
        )
    return release


def random_world() -> Path:
    """The world of that release; made now, or earlier."""
    world = own_worlds().parent / "random" / "csgo-world"
    if not (world / WORLD_JSON).is_file():
        release = random_release()
        print(f"converting it in {world}: 1.5 GB, not verified", flush=True)
        build_bundle(parts_from_release(release, print, "csgo-random"), world, say=print, verified=False)
    return world
