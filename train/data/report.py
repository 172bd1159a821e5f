"""Looking at a folder of recordings: is every file whole, and what is in them.

`validate` reads everything that training may read, and collects what is wrong instead of stopping at the
first. `stats` counts: hours, how often each key is held and each mouse bin occurs, how much stands still.
Both only look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.actions import ActionSpace
from engine.errors import DiamondError
from train.data.episode import Episode
from train.data.folder import SPLITS, DatasetInfo, episode_paths, read_dataset_info

DECODED_AT_ONCE = 64  # full frames; 8 MB at 280x150
SHEET_COLUMNS, SHEET_ROWS = 8, 6

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Validation:
    """What `validate` found: whole files and their frames, and (path, reason) of every other file."""

    episodes: int
    frames: int
    broken: list[tuple[Path, str]]


@dataclass
class Stats:
    """What `stats` counted; `shares`: key, button or mouse bin -> share of frames, in vector order."""

    fps: float
    episodes: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    size_bytes: int = 0
    idle: float = 0.0
    brightness: float = 0.0  # mean of the low-res pixels, 0-255
    shares: dict[str, float] = field(default_factory=dict)
    skipped: list[Path] = field(default_factory=list)

    @property
    def hours(self) -> float:
        return self.frames / self.fps / 3600


def validate(folder: Path, progress: Progress = lambda done, total: None) -> Validation:
    """Read every episode of both splits whole. DiamondError where the folder itself is no dataset."""
    info, paths = _open(folder)
    space = ActionSpace.from_json(info.action_space)
    frames, broken = 0, []
    for count, path in enumerate(paths, 1):
        try:
            frames += check_episode(Episode(path), info, space)
        except DiamondError as error:
            broken.append((path, error.what.removeprefix(f"{path}: ")))
        progress(count, len(paths))
    return Validation(len(paths) - len(broken), frames, broken)


def check_episode(episode: Episode, info: DatasetInfo, space: ActionSpace) -> int:
    """Read one episode whole and compare it with dataset.json; its frames. DiamondError for what is wrong."""
    for name in ("world", "fps", "low_res_size", "full_res_size"):
        found, expected = getattr(episode.meta, name), getattr(info, name)
        if found != expected:
            raise DiamondError(
                f"{episode.path}: {name} is {found}", expected=f"{expected}, as in dataset.json"
            )
    if reason := wrong_actions(episode.actions(0, len(episode)), space):
        raise DiamondError(
            f"{episode.path}: {reason}", expected=f"0 or 1 in {space.size} columns, one bin an axis"
        )
    for start in range(0, len(episode), DECODED_AT_ONCE):
        stop = min(start + DECODED_AT_ONCE, len(episode))
        episode.low_res(start, stop)
        if episode.has_full_res:
            episode.full_res(start, stop)
    return len(episode)


def wrong_actions(actions: NDArray[np.uint8], space: ActionSpace) -> str:
    """What is wrong with actions uint8 (T, A), naming the first bad row; empty where nothing is."""
    if actions.shape[1] != space.size:
        return f"actions have {actions.shape[1]} columns, the action space {space.size}"
    if (rows := np.flatnonzero((actions > 1).any(axis=1))).size:
        return f"action {rows[0]} holds {actions[rows[0]].max()}"
    start = len(space.keys) + len(space.buttons)
    for axis, bins in (("mouse_x", space.mouse_x), ("mouse_y", space.mouse_y)):
        chosen = actions[:, start : start + len(bins)].sum(axis=1)
        if bins and (rows := np.flatnonzero(chosen != 1)).size:
            return f"action {rows[0]} has {chosen[rows[0]]} {axis} bins set"
        start += len(bins)
    return ""


def stats(folder: Path) -> Stats:
    """Count over both splits; files that cannot be read are listed in `skipped`."""
    info, paths = _open(folder)
    space = ActionSpace.from_json(info.action_space)
    result = Stats(info.fps, episodes=dict.fromkeys(SPLITS, 0))
    totals, idle, brightness = np.zeros(space.size), 0.0, 0.0
    resting = space.idle().astype(np.uint8)
    for path in paths:
        try:
            episode = Episode(path)
        except DiamondError:
            result.skipped.append(path)
            continue
        actions = episode.actions(0, len(episode))
        if actions.shape[1] != space.size:
            result.skipped.append(path)
            continue
        result.episodes[path.parent.name] += 1
        result.frames += len(episode)
        result.size_bytes += path.stat().st_size
        totals += actions.sum(axis=0)
        idle += float((actions == resting).all(axis=1).sum())
        brightness += float(episode.low_res(0, len(episode)).mean()) * len(episode)
    frames = max(1, result.frames)
    result.shares = dict(zip(column_names(space), (totals / frames).tolist(), strict=True))
    result.idle, result.brightness = idle / frames, brightness / frames
    return result


def column_names(space: ActionSpace) -> list[str]:
    """A name for every entry of an action vector."""
    bins = [f"mouse x {value:+d}" for value in space.mouse_x]
    bins += [f"mouse y {value:+d}" for value in space.mouse_y]
    return [*space.keys, *space.buttons, *bins]


def contact_sheet(folder: Path) -> Image.Image:
    """Pictures spread evenly over the recordings: one episode a row, at full resolution if there is."""
    _, paths = _open(folder)
    chosen = [paths[index] for index in np.linspace(0, len(paths) - 1, SHEET_ROWS).round().astype(int)]
    rows = []
    for row, path in enumerate(chosen):
        episode = Episode(path)
        first = len(episode) * row // (2 * SHEET_ROWS)
        moments = np.linspace(first, len(episode) - 1, SHEET_COLUMNS).astype(int)
        read = episode.full_res if episode.has_full_res else episode.low_res
        rows.append(np.concatenate([read(t, t + 1)[0] for t in moments], axis=1))
    return Image.fromarray(np.concatenate(rows, axis=0))


def _open(folder: Path) -> tuple[DatasetInfo, list[Path]]:
    info = read_dataset_info(folder)
    paths = episode_paths(folder)
    if not paths:
        raise DiamondError(
            f"{folder}: holds no episodes",
            expected="files under train/ and test/",
            fix="Record some with diamond-data record",
        )
    return info, paths
