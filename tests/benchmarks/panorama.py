"""A made-up place whose answer to every action is plain to see: a textured panorama with a weapon in front of it.

Turning scrolls it, walking brightens the floor, strafing slides a stripe, firing lights the weapon. Real recordings,
worlds that obey and worlds that are broken in a known way are all made of it.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from engine.actions import KEYBOARD_MOUSE_51, ActionSpace
from engine.frame import Frame
from engine.graphs import Sizes
from train.data.episode import EpisodeMeta, write_episode
from train.data.folder import DatasetInfo, episode_path, write_dataset_info

SIZES = Sizes((15, 28), None, denoiser_history=4, upsampler_history=None, action_size=51)
SPACE: ActionSpace = KEYBOARD_MOUSE_51
FPS = 10.0
UNITS_A_PIXEL = 20
Change = Callable[
    [np.ndarray, int], np.ndarray
]  # a broken world's: the right frame and its number to what it shows


def texture(seed: int) -> np.ndarray:
    """A panorama of its own for every seed: uint8 (15, 192, 3), a bright grained sky above hills in even waves."""
    random = np.random.default_rng(seed)
    sky = 200 + random.integers(-50, 51, (5, 192, 3))
    wave = 60 + 50 * np.sign(np.sin(2 * np.pi * (np.arange(192) + 0.5) / 24))
    return np.concatenate([sky, np.tile(wave[None, :, None], (10, 1, 3))]).astype(np.uint8)


class Place:
    """Where the player is; `act` moves on."""

    def __init__(self, seed: int) -> None:
        self.panorama, self.angle = texture(seed), 20 * seed
        self.depth = self.aside = 0
        self.fire = False

    def act(self, vector: np.ndarray) -> None:
        keys = dict(zip(SPACE.keys, vector[: len(SPACE.keys)], strict=True))
        units = SPACE.decode(vector).mouse_dx
        self.angle += round(units / UNITS_A_PIXEL)
        self.depth += int(keys["w"]) - int(keys["s"])
        self.aside += int(keys["d"]) - int(keys["a"])
        self.fire = bool(vector[len(SPACE.keys)])

    def picture(self) -> np.ndarray:
        """uint8 (15, 28, 3)."""
        columns = (self.angle + np.arange(28)) % self.panorama.shape[1]
        shown = self.panorama[:, columns].copy()
        shown[10:12] = np.where(((np.arange(28) + 2 * self.aside) // 4 % 2 == 0)[:, None], 130, 60)
        shown[12:14] = np.where((np.arange(2) + self.depth) % 4 < 2, 140, 70)[:, None, None]
        shown[14, 10:18] = (255, 255, 90) if self.fire else (60, 50, 40)
        return shown


class PanoramaWorld:
    """Stands in for `engine.World`; `change` breaks what it shows."""

    spawn_count = 3

    def __init__(self, change: Change | None = None, deaf: bool = False) -> None:
        self.manifest: Any = SimpleNamespace(sizes=SIZES, action_space=SPACE, fps=FPS, spawns=range(3))
        self.action_space = SPACE
        self.change, self.deaf = change, deaf

    def reset(self, spawn: int) -> Frame:
        return self._start(Place(spawn))

    def begin(self, spawn: Any) -> Frame:
        """Finds the place that the newest frame shows: the upper rows tell panorama and angle."""
        newest = spawn.low_res[-1].transpose(1, 2, 0)
        for seed in range(4):
            place = Place(seed)
            for angle in range(place.panorama.shape[1]):
                place.angle = angle
                if np.array_equal(place.picture()[:10], newest[:10]):
                    return self._start(place)
        raise AssertionError("a picture of no known place")

    def step(self, action: Any) -> Frame:
        self.index += 1
        if not self.deaf:
            self.place.act(SPACE.encode(action))
        return self._frame()

    def snapshot(self) -> Any:
        return copy.deepcopy(self.place), self.index

    def restore(self, saved: Any) -> Frame:
        self.place, self.index = copy.deepcopy(saved[0]), saved[1]
        return self._frame()

    def _start(self, place: Place) -> Frame:
        self.place, self.index = place, 0
        return self._frame()

    def _frame(self) -> Frame:
        shown = self.place.picture()
        if self.change is not None:
            shown = self.change(shown, self.index)
        return Frame(shown, shown.copy(), self.index, {})


def record(path: Path, vectors: np.ndarray, seed: int) -> None:
    """An episode of the place under (T, 51) action vectors; vector t leads from frame t to frame t + 1."""
    place, frames = Place(seed), []
    for vector in vectors:
        frames.append(place.picture())
        place.act(vector)
    meta = EpisodeMeta(FPS, seed, "panorama", SIZES.low_res, None, json.dumps(SPACE.to_json()), "tests")
    write_episode(path, meta, np.stack(frames), vectors.astype(np.uint8))


def record_folder(folder: Path, plays: list[np.ndarray], held_out: int) -> Path:
    """A folder of recordings; the last `held_out` plays are held out."""
    write_dataset_info(folder, DatasetInfo("panorama", FPS, SIZES.low_res, None, SPACE.to_json()))
    for index, vectors in enumerate(plays):
        split = "test" if index >= len(plays) - held_out else "train"
        record(episode_path(folder, index, split), vectors, index % 4)
    return folder
