"""A small made-up recording that tests read back."""

import json
from pathlib import Path

import numpy as np

from engine.actions import KEYBOARD_MOUSE_51, Action
from train.data.episode import EpisodeMeta, write_episode
from train.data.folder import DatasetInfo, episode_path, write_dataset_info

SPACE = KEYBOARD_MOUSE_51
LOW, FULL = (30, 56), (150, 280)


def meta(full_res: bool = True, **changes) -> EpisodeMeta:
    fields = {
        "fps": 17.5,
        "seed": 3,
        "world": "sample",
        "low_res_size": LOW,
        "full_res_size": FULL if full_res else None,
        "action_space": json.dumps(SPACE.to_json()),
        "source": "tests",
    }
    return EpisodeMeta(**{**fields, **changes})


def frames(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth pictures, which JPEG keeps nearly as they are: uint8 (count, *size, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    phase = rng.uniform(0, 6, (count, 1, 1, 3))
    waves = np.sin(4 * x[None, :, :, None] + 3 * y[None, :, :, None] + phase)
    return (127 + 100 * waves).astype(np.uint8)


def actions(count: int) -> np.ndarray:
    moves = [Action(keys={"w"}, mouse_dx=30), Action(keys={"a"}, left_click=True), Action(mouse_dy=-20)]
    return np.stack([SPACE.encode(moves[t % len(moves)]) for t in range(count)]).astype(np.uint8)


def write_folder(folder: Path, episodes: int = 3, count: int = 12) -> list[Path]:
    """A dataset of `episodes` episodes, the last one held out; their paths."""
    info = DatasetInfo(
        world="sample", fps=17.5, low_res_size=LOW, full_res_size=FULL, action_space=SPACE.to_json()
    )
    write_dataset_info(folder, info)
    paths = []
    for index in range(episodes):
        path = episode_path(folder, index, "test" if index == episodes - 1 else "train")
        write_episode(
            path, meta(seed=index), frames(count, LOW, index), actions(count), frames(count, FULL, index)
        )
        paths.append(path)
    return paths
