"""Places to start from, picked in held-out episodes: frames the networks have never trained on.

Spawns are spread evenly over the episodes, and within an episode over stretches of it. In each stretch the place is
one of steady motion with no cut nearby (respawn, map change), so that the first seconds show a world that moves, and of
those the one with the most varied picture: a view, not a wall. Knows recordings, not networks.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.actions import ActionSpace
from engine.errors import DiamondError
from engine.spawn import Spawn
from train.data.episode import Episode
from train.data.folder import episode_paths

NEXT_ACTIONS = 200
SHORTEST_SEQUEL = 16  # actions after a spawn, as many as the parity gate plays
CUT = 4.0  # a change this many times that of the frames around it
MOVING = 0.5  # of the fastest motion of a stretch, flicks left out
MOTION_FRAMES = 8


@dataclass(frozen=True)
class Windows:
    """How many frames a spawn holds, and what it must look like. Sizes are (height, width)."""

    low_res: tuple[int, int]
    full_res: tuple[int, int] | None
    denoiser_history: int
    upsampler_history: int
    action_space: ActionSpace

    @property
    def history(self) -> int:
        """Frames up to and including the newest that a spawn needs."""
        return max(self.denoiser_history, self.upsampler_history)


def pick_spawns(folder: Path, windows: Windows, count: int) -> tuple[Spawn, ...]:
    """`count` spawns from the held-out episodes of a folder of recordings.

    Raises:
        DiamondError: no such episodes, too short, or of other sizes or actions than the world's.
    """
    if count < 1:
        raise DiamondError(f"--spawns {count}", expected="at least 1")
    episodes = [Episode(path) for path in episode_paths(folder, "test")]
    usable = [episode for episode in episodes if len(episode) >= windows.history + SHORTEST_SEQUEL]
    if not usable:
        raise DiamondError(
            f"{folder}: no held-out episode of {windows.history + SHORTEST_SEQUEL} frames or more "
            f"({len(episodes)} in {folder / 'test'})",
            expected="recordings with episodes under test/, as diamond-data record writes them",
            fix="give the folder of recordings with --data DIR",
        )
    owners = [
        index * len(usable) // count for index in range(count)
    ]  # rises, and repeats where episodes are few
    spawns = []
    for index, owner in enumerate(owners):
        episode = usable[owner]
        _require_fits(episode, windows)
        stretch, stretches = index - owners.index(owner), owners.count(owner)
        newest = choose_position(episode.low_res(0, len(episode)), windows.history, stretch, stretches)
        spawns.append(_spawn(episode, newest, windows))
    return tuple(spawns)


def choose_position(
    low_res: npt.NDArray[np.uint8], history: int, stretch: int = 0, stretches: int = 1
) -> int:
    """Where in frames (T, h, w, 3) a spawn's newest frame should be, within one of equal stretches of them.

    Of the positions in motion with no cut nearby (of all in motion, where there is none such), the one with the
    most varied picture.
    """
    first = history - 1
    sequel = min(NEXT_ACTIONS, max(SHORTEST_SEQUEL, (len(low_res) - history) // 2))
    ends = np.linspace(first, max(first, len(low_res) - sequel), stretches + 1).round().astype(int)
    candidates = np.arange(ends[stretch], max(ends[stretch + 1], ends[stretch] + 1))

    difference = np.abs(np.diff(low_res.astype(np.int16), axis=0))
    change = difference.mean(axis=(1, 2, 3))  # change[t]: from frame t to t + 1
    windows = [change[max(0, t - history + 1) : t + MOTION_FRAMES] for t in candidates]
    motion = np.array([np.median(window) for window in windows])
    calm = np.array([window.max() <= CUT * np.median(window) for window in windows])
    if calm.any():
        candidates, motion = candidates[calm], motion[calm]
    candidates = candidates[motion >= MOVING * np.quantile(motion, 0.95)]
    return int(max(candidates, key=lambda t: variety(low_res[t])))


def variety(frame: npt.NDArray[np.uint8]) -> float:
    """Entropy in bits of a picture's (h, w, 3) colours, in 64 of them: little for a wall, much for a view."""
    red, green, blue = np.moveaxis(frame >> 6, -1, 0)
    share = np.bincount((red * 16 + green * 4 + blue).ravel(), minlength=64) / red.size
    return float(-(share[share > 0] * np.log2(share[share > 0])).sum())


def _require_fits(episode: Episode, windows: Windows) -> None:
    meta = episode.meta
    full_res = meta.full_res_size if windows.full_res is not None else None
    width = episode.actions(0, 1).shape[1]
    if (meta.low_res_size, full_res, width) != (windows.low_res, windows.full_res, windows.action_space.size):
        raise DiamondError(
            f"{episode.path}: frames of {meta.low_res_size} and {meta.full_res_size}, actions of {width} entries",
            expected=f"the run's {windows.low_res}, {windows.full_res} and {windows.action_space.size}",
            fix="give the recordings that the run was trained on with --data DIR",
        )


def _spawn(episode: Episode, newest: int, windows: Windows) -> Spawn:
    """Action t was taken in frame t: the newest frame's is the last of `actions`, the sequel begins behind it."""
    end = newest + 1

    def channels_first(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return np.ascontiguousarray(frames.transpose(0, 3, 1, 2))

    full_res = None
    if windows.full_res is not None:
        full_res = channels_first(episode.full_res(end - windows.upsampler_history, end))
    return Spawn(
        low_res=channels_first(episode.low_res(end - windows.denoiser_history, end)),
        full_res=full_res,
        actions=episode.actions(end - windows.denoiser_history, end).astype(np.float32),
        next_actions=episode.actions(end, min(len(episode), end + NEXT_ACTIONS)).astype(np.float32),
    )
