"""An architecture with random weights, as release and as world: made once, kept beside the user's worlds.

Speed does not depend on the weights, so the world is not verified and must not be played for its pictures.
"""

import sys
from pathlib import Path

from benchmarks.make_release import random_spawns, sizes_of, write_release
from engine.bundle_writer import WORLD_JSON
from engine.catalog import PUBLISHED, own_worlds
from export.assemble import build_bundle
from export.from_release import parts_from_release
from train.presets import recipe
from train.release import CHECKPOINT, action_space

LOW_RES = "30x56"
SPAWNS = 2


def random_release(architecture: str = PUBLISHED, low_res: str = LOW_RES) -> Path:
    """The release of a recipe's sizes and of frames of `low_res`, height x width; made now, or earlier."""
    release = own_worlds().parent / "random" / _name(architecture, low_res)
    if not (release / CHECKPOINT).is_file():
        _say(f"making a release of random weights in {release}")
        agent = recipe(architecture).agent
        sizes = sizes_of(agent, low_res)
        write_release(
            release, agent, random_spawns(sizes, action_space(agent.num_actions), SPAWNS, seed=0), seed=0
        )
    return release


def random_world(architecture: str = PUBLISHED, low_res: str = LOW_RES) -> Path:
    """The world of that release; made now, or earlier."""
    name = _name(architecture, low_res)
    world = own_worlds().parent / "random" / f"{name}-world"
    if not (world / WORLD_JSON).is_file():
        release = random_release(architecture, low_res)
        _say(f"converting it in {world}, not verified")
        build_bundle(parts_from_release(release, _say, f"{name}-random"), world, say=_say, verified=False)
    return world


def _name(architecture: str, low_res: str) -> str:
    return architecture if low_res == LOW_RES else f"{architecture}-{low_res}"


def _say(line: str) -> None:
    """Progress, beside the report of whoever asked."""
    print(line, file=sys.stderr, flush=True)
