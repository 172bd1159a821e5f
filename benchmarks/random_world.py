"""An architecture with random weights, as release and as world: made once, kept beside the user's worlds.

Speed does not depend on the weights, so the world is not verified and must not be played for its pictures.
"""

from dataclasses import replace
from pathlib import Path

from benchmarks.make_release import random_spawns, random_weights, sizes_of, write_release
from benchmarks.progress import say
from engine.bundle_writer import WORLD_JSON
from engine.catalog import PUBLISHED, own_worlds
from engine.graphs import Sizes
from engine.spawn import Spawn
from export.assemble import WorldParts, build_bundle
from export.from_release import parts_from_release
from train.presets import recipe
from train.release import CHECKPOINT, action_space
from train.release_checkpoint import empty_agent

LOW_RES = "30x56"
SPAWNS = 2


def random_release() -> Path:
    """The release of the published sizes; made now, or earlier."""
    release = own_worlds().parent / "random" / PUBLISHED
    if not (release / CHECKPOINT).is_file():
        say(f"making a release of random weights in {release}")
        agent = recipe(PUBLISHED).agent
        sizes = sizes_of(agent, LOW_RES)
        write_release(
            release, agent, random_spawns(sizes, action_space(agent.num_actions), SPAWNS, seed=0), seed=0
        )
    return release


def random_world(architecture: str = PUBLISHED, low_res: str = LOW_RES) -> Path:
    """A world of a recipe's sizes and of frames of `low_res`, height x width; made now, or earlier.

    The published one is made from `random_release`, so that the original can run the same weights.
    """
    world = own_worlds().parent / "random" / f"{_name(architecture, low_res)}-world"
    if not (world / WORLD_JSON).is_file():
        published = architecture == PUBLISHED and low_res == LOW_RES
        name = f"{_name(architecture, low_res)}-random"
        parts = (
            parts_from_release(random_release(), say, name)
            if published
            else _random_parts(architecture, low_res, name)
        )
        say(f"converting it in {world}, not verified")
        build_bundle(parts, world, say=say, verified=False)
    return world


def _random_parts(architecture: str, low_res: str, name: str) -> WorldParts:
    chosen = recipe(architecture)
    sizes, space = sizes_of(chosen.agent, low_res), action_space(chosen.agent.num_actions)
    agent = empty_agent(chosen.agent)
    agent.load_state_dict(random_weights(chosen.agent, seed=0), assign=True)
    return WorldParts(
        agent=agent.eval().requires_grad_(False),
        name=name,
        title=f"{chosen.title}, random weights",
        fps=15.0,
        low_res=sizes.low_res,
        action_space=space,
        presets=chosen.presets,
        default_preset=chosen.default_preset,
        spawns=tuple(_of_a_world(spawn, sizes) for spawn in random_spawns(sizes, space, SPAWNS, seed=0)),
    )


def _of_a_world(spawn: Spawn, sizes: Sizes) -> Spawn:
    """With as many frames as each network's history has; in a release both have the longer one's."""
    T = sizes.denoiser_history
    full_res = spawn.full_res
    if full_res is not None and sizes.upsampler_history is not None:
        full_res = full_res[-sizes.upsampler_history :]
    return replace(spawn, low_res=spawn.low_res[-T:], actions=spawn.actions[-T:], full_res=full_res)


def _name(architecture: str, low_res: str) -> str:
    return architecture if low_res == LOW_RES else f"{architecture}-{low_res}"
