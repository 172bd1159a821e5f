"""Small made-up recordings of the tiny world, held out and not, for the tests of what reads them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from engine.actions import KEYBOARD_MOUSE_51, Action
from engine.graphs import Sizes
from tests.engine.tiny_world import TINY
from train.data.episode import EpisodeMeta, write_episode
from train.data.folder import episode_path


def smooth(count: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """Pictures that JPEG keeps nearly as they are, each unlike the others: uint8 (count, *size, 3)."""
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    phase = np.random.default_rng(seed).uniform(0, 6, (count, 1, 1, 3))
    return (127 + 100 * np.sin(6 * x[None, :, :, None] + 4 * y[None, :, :, None] + phase)).astype(np.uint8)


def actions(count: int, seed: int) -> np.ndarray:
    """Mouse motions, drawn: uint8 (count, 51)."""
    space = KEYBOARD_MOUSE_51
    units = np.random.default_rng(seed).choice(space.mouse_x, count)
    return np.stack([space.encode(Action(mouse_dx=float(dx))) for dx in units]).astype(np.uint8)


def write_recordings(
    folder: Path, frames: int = 24, sizes: Sizes = TINY, held_out: int = 2, **meta: Any
) -> Path:
    """One episode to learn from and `held_out` others, of a world that plays at 10 frames a second."""
    for index in range(1 + held_out):
        about = EpisodeMeta(
            **{
                "fps": 10.0,
                "seed": index,
                "world": "tiny",
                "low_res_size": sizes.low_res,
                "full_res_size": sizes.full_res,
                "action_space": json.dumps(KEYBOARD_MOUSE_51.to_json()),
                "source": "tests",
                **meta,
            }
        )
        write_episode(
            episode_path(folder, index, "test" if index else "train"),
            about,
            smooth(frames, about.low_res_size, index),
            actions(frames, index),
            None if about.full_res_size is None else smooth(frames, about.full_res_size, 10 + index),
        )
    return folder
