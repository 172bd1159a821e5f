"""The run directory: what is in it, written atomically, read without pickles that could execute anything.

    RUN/run.json                    recipe, data folder, frame sizes, action space, fps
    RUN/denoiser/checkpoint.pt      weights, EMA, optimiser, step: everything that resuming needs
    RUN/denoiser/sheets/            rollout pictures; RUN/denoiser/tensorboard/: scalars
    RUN/upsampler/...               the same

Each network has its own folder, so the two can train at the same time in two processes.
"""

import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from engine.actions import ActionSpace
from engine.errors import DiamondError
from engine.whole_file import WholeFile, cannot_write
from train.config import WorldRecipe
from train.model import Agent

RUN_SCHEMA = 1
CHECKPOINT_SCHEMA = 1
NETWORKS = ("denoiser", "upsampler")


@dataclass(frozen=True)
class RunInfo:
    """What a run knows about its world. Sizes are (height, width) in pixels; full_res None without an upsampler."""

    recipe: WorldRecipe
    data_dir: Path
    fps: float
    low_res: tuple[int, int]
    full_res: tuple[int, int] | None
    action_space: ActionSpace
    world: str

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": RUN_SCHEMA,
            "recipe": self.recipe.to_json(),
            "data_dir": str(self.data_dir),
            "fps": self.fps,
            "low_res": list(self.low_res),
            "full_res": None if self.full_res is None else list(self.full_res),
            "action_space": self.action_space.to_json(),
            "world": self.world,
        }


def _save(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replaces a file whole or not at all; its folder is made. A full disk is a DiamondError and keeps the old file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with WholeFile(path) as whole:
            write(whole.file)
    except OSError as error:
        raise cannot_write(path, error) from error
    except RuntimeError as error:  # how torch.save reports a failed write
        if "PytorchStreamWriter" not in str(error):
            raise
        raise cannot_write(path, OSError(str(error).splitlines()[0])) from error


def write_run(run_dir: Path, info: RunInfo) -> None:
    """Writes `run.json`."""
    text = json.dumps(info.to_json(), indent=1)
    _save(run_dir / "run.json", lambda f: f.write(text.encode()))


def read_run(path: str | Path) -> RunInfo:
    """The description of a run directory. Raises DiamondError if it is not one."""
    file = Path(path) / "run.json"
    fix = "give the directory that diamond-train --out wrote"
    if not file.is_file():
        raise DiamondError(f"{path} is not a run directory", expected="a directory with run.json", fix=fix)
    try:
        data = json.loads(file.read_text())
        if data["schema"] != RUN_SCHEMA:
            raise DiamondError(f"{file}: schema {data['schema']}", expected=f"schema {RUN_SCHEMA}", fix=fix)
        full_res = data["full_res"]
        return RunInfo(
            recipe=WorldRecipe.from_json(data["recipe"]),
            data_dir=Path(data["data_dir"]),
            fps=float(data["fps"]),
            low_res=(int(data["low_res"][0]), int(data["low_res"][1])),
            full_res=None if full_res is None else (int(full_res[0]), int(full_res[1])),
            action_space=ActionSpace.from_json(data["action_space"]),
            world=str(data["world"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DiamondError(
            f"{file} is damaged: {error!r}", expected="the JSON that diamond-train wrote", fix=fix
        ) from error


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replaces `folder/checkpoint.pt` with `state` (tensors and plain values)."""
    state = {"schema": CHECKPOINT_SCHEMA, **state}
    _save(folder / "checkpoint.pt", lambda f: torch.save(state, f))


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote, on the CPU. Raises DiamondError for a missing or damaged file."""
    path = folder / "checkpoint.pt"
    if not path.is_file():
        raise DiamondError(
            f"{path} does not exist",
            expected="a checkpoint",
            fix=f"train the {folder.name} first (diamond-train)",
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["schema"] != CHECKPOINT_SCHEMA:
            raise DiamondError(f"{path}: schema {state['schema']}", expected=f"schema {CHECKPOINT_SCHEMA}")
        return dict(state)
    except (
        RuntimeError,
        EOFError,
        OSError,
        KeyError,
        TypeError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise DiamondError(
            f"{path} can't be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            expected="a checkpoint that diamond-train wrote",
            fix="restore it from a copy, or train again",
        ) from error


def load_average(folder: Path, network: nn.Module) -> None:
    """Puts the averaged weights in a network's folder of a run into `network`.

    Raises DiamondError for a missing or damaged checkpoint, or one of other sizes.
    """
    state = load_checkpoint(folder)
    try:
        network.load_state_dict(state["ema"], strict=True)
    except RuntimeError as error:
        raise DiamondError(
            f"{folder}/checkpoint.pt does not fit run.json: {str(error).splitlines()[-1].strip()}",
            expected="weights of the sizes in run.json",
        ) from error


def load_agent(path: str | Path) -> Agent:
    """Both networks of a run, with their EMA weights, in evaluation mode on the CPU."""
    info = read_run(path)
    agent = Agent(info.recipe.agent)
    for name in NETWORKS:
        network = getattr(agent, name)
        if network is not None:
            load_average(Path(path) / name, network)
    return agent.eval().requires_grad_(False)
