"""A training run -> a bundle: what `diamond-export RUN` does.

Reads the run's networks (EMA weights) and description, picks spawns from its held-out recordings, and hands all of
it to `export.assemble`.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.bundle_writer import WORLD_JSON
from engine.errors import DiamondError
from engine.player.recording import Recording
from engine.spawn import Spawn
from export.assemble import Say, WorldParts, build_bundle, require_precision
from export.spawns import Windows, pick_spawns
from train.checkpoint import NETWORKS, RunInfo, load_agent, load_checkpoint, read_run
from train.data.folder import DATASET_FILE

DEMO_SECONDS = 10


@dataclass(frozen=True)
class ExportConfig:
    """What the user asked for. `data`, `name` and `title` of None take what the run says."""

    run: Path
    out: Path
    precision: str = "fp32"
    spawns: int = 8
    first_spawn: int = 0
    data: Path | None = None
    name: str | None = None
    title: str | None = None
    notice: Path | None = None
    force: bool = False

    def __post_init__(self) -> None:
        require_precision(self.precision)
        if self.spawns < 1:
            raise DiamondError(f"--spawns {self.spawns}", expected="at least 1")
        if not 0 <= self.first_spawn < self.spawns:
            raise DiamondError(f"--first-spawn {self.first_spawn}", expected=f"0 to {self.spawns - 1}")
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise DiamondError(
                f"--name {self.name!r}", expected="a word of letters, digits, '-', '_' and '.'"
            )


def export_run(config: ExportConfig, say: Say = print) -> Path:
    """Makes the bundle; returns its directory. Raises DiamondError, leaving `config.out` as it was."""
    began = time.perf_counter()

    def timed(line: str) -> None:
        say(f"[{time.perf_counter() - began:6.1f} s] {line}")

    _require_free(config.out, config.force)
    parts = parts_from_run(config, timed)
    build_bundle(parts, config.out, config.precision, say=timed)
    megabytes = sum(path.stat().st_size for path in config.out.rglob("*") if path.is_file()) / 1e6
    timed(f"{config.out}: world {parts.name!r}, {len(parts.spawns)} spawns, {megabytes:.1f} MB")
    return config.out


def parts_from_run(config: ExportConfig, say: Say) -> WorldParts:
    """The world of a run: networks, description, spawns and a demonstration."""
    info = read_run(config.run)
    agent = load_agent(config.run)
    steps = {
        f"{name}_steps": int(load_checkpoint(config.run / name)["step"])
        for name in NETWORKS
        if getattr(agent, name) is not None
    }
    say(f"{config.run}: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in steps.items()))

    upsampler = info.recipe.agent.upsampler
    windows = Windows(
        low_res=info.low_res,
        full_res=None if upsampler is None else info.full_res,
        denoiser_history=info.recipe.agent.denoiser.inner_model.num_steps_conditioning,
        upsampler_history=1 if upsampler is None else upsampler.inner_model.num_steps_conditioning,
        action_space=info.action_space,
    )
    data = _data_folder(config, info)
    spawns = pick_spawns(data, windows, config.spawns)
    spawns = (*spawns[config.first_spawn :], *spawns[: config.first_spawn])
    say(f"{len(spawns)} spawns from the held-out episodes of {data}")

    name = config.name or info.recipe.name
    presets = {
        preset: {
            net: sampler if net == "denoiser" or upsampler else None for net, sampler in samplers.items()
        }
        for preset, samplers in info.recipe.presets.items()
    }
    return WorldParts(
        agent=agent,
        name=name,
        title=config.title or info.recipe.title,
        fps=info.fps,
        low_res=info.low_res,
        action_space=info.action_space,
        presets=presets,
        default_preset=info.recipe.default_preset,
        spawns=spawns,
        demo=_demo(spawns[0], info, name),
        texts={} if config.notice is None else {"NOTICE": _read(config.notice)},
        made_by={"recipe": info.recipe.name, "recordings": info.world, **steps},
    )


def _require_free(out: Path, force: bool) -> None:
    """Before minutes of work, rather than after them."""
    if (out / WORLD_JSON).is_file():
        if not force:
            raise DiamondError(
                f"{out}: a world is there already",
                expected="a new directory",
                fix="choose another --out, or replace it with --force",
            )
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DiamondError(f"{out}: exists and is not a world", "a new directory", "choose another --out")


def _data_folder(config: ExportConfig, info: RunInfo) -> Path:
    folder = config.data or info.data_dir
    if not (folder / DATASET_FILE).is_file():
        named = "--data" if config.data else f"the run's recordings, {folder}"
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
