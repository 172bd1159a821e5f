"""Recordings whose pixels say where they come from, for tests that check what was cut out of them."""

import json
from pathlib import Path

import numpy as np

from tests.export.worlds import SPACE
from train.data.episode import EpisodeMeta, write_episode
from train.data.folder import DatasetInfo, episode_path, write_dataset_info

HEIGHT, WIDTH, FPS = 6, 8, 10.0


def write_recordings(folder: Path, test_episodes: int, frames: int) -> Path:
    """One training episode and some held-out ones: green is 4 times the frame's number, blue the episode's."""
    low, full = (HEIGHT, WIDTH), (2 * HEIGHT, 2 * WIDTH)
    write_dataset_info(folder, DatasetInfo("stripes", FPS, low, full, SPACE.to_json()))
    meta = EpisodeMeta(FPS, 0, "stripes", low, full, json.dumps(SPACE.to_json()), "tests")
    for number in [0, *range(100, 100 + test_episodes)]:
        images = np.zeros((frames, *low, 3), np.uint8)
        images[..., 0] = np.random.default_rng(number).integers(0, 40, (frames, 1, 1))
        images[..., 1] = 4 * np.arange(frames)[:, None, None]
        images[..., 2] = number
        actions = np.eye(SPACE.size, dtype=np.uint8)[np.arange(frames) % SPACE.size]
        path = episode_path(folder, number, "test" if number else "train")
        write_episode(path, meta, images, actions, images.repeat(2, axis=1).repeat(2, axis=2))
    return folder
