"""A training run -> the parts of a world: its networks (EMA weights), its description, and spawns picked from its
held-out recordings."""

from pathlib import Path

import numpy as np

from engine.errors import DiamondError
from engine.player.recording import Recording
from engine.spawn import Spawn
from export.assemble import WorldParts
from export.options import RunOptions, Say
from export.spawns import Windows, pick_spawns
from train.checkpoint import NETWORKS, RunInfo, load_agent, load_checkpoint, read_run
from train.data.folder import DATASET_FILE

DEMO_SECONDS = 10


def parts_from_run(
    run: Path, options: RunOptions, say: Say, name: str | None = None, title: str | None = None
) -> WorldParts:
    """The world of a run: networks, description, spawns and a demonstration.

    `name` and `title` of None are the recipe's.

    Raises:
        DiamondError: not a run, not yet trained, or its recordings are gone.
    """
    info = read_run(run)
    agent = load_agent(run)
    steps = {
        f"{name}_steps": int(load_checkpoint(run / name)["step"])
        for name in NETWORKS
        if getattr(agent, name) is not None
    }
    say(f"{run}: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in steps.items()))

    upsampler = info.recipe.agent.upsampler
    windows = Windows(
        low_res=info.low_res,
        full_res=None if upsampler is None else info.full_res,
        denoiser_history=info.recipe.agent.denoiser.inner_model.num_steps_conditioning,
        upsampler_history=1 if upsampler is None else upsampler.inner_model.num_steps_conditioning,
        action_space=info.action_space,
    )
    data = _data_folder(options, info)
    spawns = pick_spawns(data, windows, options.spawns)
    spawns = (*spawns[options.first_spawn :], *spawns[: options.first_spawn])
    say(f"{len(spawns)} spawns from the held-out episodes of {data}")

    name = name or info.recipe.name
    presets = {
        preset: {
            net: sampler if net == "denoiser" or upsampler else None for net, sampler in samplers.items()
        }
        for preset, samplers in info.recipe.presets.items()
    }
    return WorldParts(
        agent=agent,
        name=name,
        title=title or info.recipe.title,
        fps=info.fps,
        low_res=info.low_res,
        action_space=info.action_space,
        presets=presets,
        default_preset=info.recipe.default_preset,
        spawns=spawns,
        demo=_demo(spawns[0], info, name),
        texts={} if options.notice is None else {"NOTICE": _read(options.notice)},
        made_by={"recipe": info.recipe.name, "recordings": info.world, **steps},
    )


def _data_folder(options: RunOptions, info: RunInfo) -> Path:
    folder = options.data or info.data_dir
    if not (folder / DATASET_FILE).is_file():
        named = "--data" if options.data else f"the run's recordings, {folder}"
        raise DiamondError(
            f"{folder}: holds no recordings (no {DATASET_FILE}); the spawns come from them",
            expected=f"{named} to be a folder that diamond-data record wrote",
            fix="give the recordings with --data DIR",
        )
    return folder


def _demo(spawn: Spawn, info: RunInfo, name: str) -> Recording:
    """What was really done in spawn 0's newest frame and in the seconds after it."""
    actions = np.concatenate([spawn.actions[-1:], spawn.next_actions])[: round(DEMO_SECONDS * info.fps)]
    return Recording(actions.astype(np.uint8), info.action_space, info.fps, seed=0, spawn=0, world=name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DiamondError(f"--notice {path}: {error.strerror}", expected="a readable text file") from error
