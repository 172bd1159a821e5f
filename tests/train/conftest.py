"""Small recordings, made on the spot: coloured squares that slide with the mouse."""

import json
from pathlib import Path

import numpy as np
import pytest

from engine.actions import KEYBOARD_MOUSE_51, Action
from train.data.episode import EpisodeMeta, write_episode

META = EpisodeMeta(
    fps=17.5,
    seed=0,
    world="squares",
    low_res_size=(16, 24),
    full_res_size=(80, 120),
    action_space=json.dumps(KEYBOARD_MOUSE_51.to_json()),
    source="tests",
)


def record_squares(path: Path, frames: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, actions, full = 0, [], []
    for _ in range(frames):
        frame = np.full((80, 120, 3), (30, 60, 90), np.uint8)
        frame[20:60, x % 90 : x % 90 + 30] = (220, 180, 40)
        full.append(frame)
        dx = int(rng.choice([-10, 0, 10]))
        actions.append(KEYBOARD_MOUSE_51.encode(Action(mouse_dx=dx)))
        x += dx
    low = np.stack([f.reshape(16, 5, 24, 5, 3).mean((1, 3)).astype(np.uint8) for f in full])
    write_episode(path, META, low, np.stack(actions).astype(np.uint8), full)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    for index in range(3):
        record_squares(folder / "train" / f"episode_{index:06d}.safetensors", 40, index)
    record_squares(folder / "test" / "episode_000003.safetensors", 80, 3)
    return folder
