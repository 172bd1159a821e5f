"""Moments of held-out episodes that a world can start from, and what really came after them."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.actions import ActionSpace
from engine.errors import DiamondError
from engine.graphs import Sizes
from engine.manifest import Manifest
from engine.spawn import Spawn
from train.data.episode import Episode
from train.data.folder import episode_paths

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Start:
    """A moment of an episode, and the frames behind it. Frames are counted from 0, the newest of the history.

    Attributes:
        episode: the recording.
        first: the number in it of the history's oldest frame.
        sizes: the world's.
    """

    episode: Episode
    first: int
    sizes: Sizes

    @property
    def newest(self) -> int:
        """The number in the episode of frame 0."""
        return self.first + self.sizes.denoiser_history - 1

    def spawn(self) -> Spawn:
        """What the world's histories are filled with."""
        stop = self.newest + 1
        full_res = None
        if self.sizes.upsampler_history is not None:
            full_res = self.episode.full_res(stop - self.sizes.upsampler_history, stop).transpose(0, 3, 1, 2)
        return Spawn(
            low_res=self.episode.low_res(self.first, stop).transpose(0, 3, 1, 2),
            full_res=full_res,
            actions=self.episode.actions(self.first, stop).astype(np.float32),
            next_actions=np.zeros((0, self.sizes.action_size), np.float32),
        )

    def actions(self, frames: int) -> npt.NDArray[np.float32]:
        """What led to frames 1 to `frames`: float32 (frames, A)."""
        return self.episode.actions(self.newest, self.newest + frames).astype(np.float32)

    def low_res(self, frame: int) -> Pixels:
        """A recorded frame, uint8 RGB (h, w, 3)."""
        return self.episode.low_res(self.newest + frame, self.newest + frame + 1)[0]

    def shown(self, frame: int) -> Pixels:
        """A recorded frame of the size that the world shows, uint8 RGB: (H, W, 3), without an upsampler (h, w, 3)."""
        if self.sizes.full_res is None:
            return self.low_res(frame)
        return self.episode.full_res(self.newest + frame, self.newest + frame + 1)[0]


def held_out(data: Path, manifest: Manifest, frames: int) -> list[Episode]:
    """The held-out episodes that are long enough for a history and `frames` frames.

    Raises:
        DiamondError: there is none, or one of them is a recording of another kind of world.
    """
    if not data.is_dir():
        raise DiamondError(
            f"--data {data}: no such folder",
            "a folder of recordings, see docs/episodes.md",
            "name it with --data",
        )
    episodes = [Episode(path) for path in episode_paths(data, "test")]
    for episode in episodes:
        _require_fit(episode, manifest)
    length = manifest.sizes.denoiser_history + frames
    long_enough = [episode for episode in episodes if len(episode) >= length]
    if not long_enough:
        longest = max(map(len, episodes), default=0)
        found = f"the longest of {len(episodes)} has {longest} frames" if episodes else "there is none"
        raise DiamondError(
            f"--data {data}: no held-out episode of {length} frames: {found}",
            f"episodes in {data / 'test'}",
            "record more or longer ones, or shorten --horizons",
        )
    return long_enough


def starts(episodes: list[Episode], sizes: Sizes, count: int, frames: int) -> list[Start]:
    """`count` starts with `frames` frames behind each, spread evenly over the episodes."""
    per_episode = -(-count // len(episodes))

    def spread() -> Iterator[Start]:
        for k in range(per_episode):
            for episode in episodes:
                room = len(episode) - sizes.denoiser_history - frames
                yield Start(episode, round(room * (k + 0.5) / per_episode), sizes)

    return list(spread())[:count]


def _require_fit(episode: Episode, manifest: Manifest) -> None:
    """Sizes, actions and frame rate: on another world's recording figures would mean nothing."""
    meta, sizes = episode.meta, manifest.sizes
    if meta.low_res_size != sizes.low_res:
        raise _unfit(episode, f"low-res frames are {meta.low_res_size}", f"{sizes.low_res}, as the world's")
    if sizes.full_res not in (None, meta.full_res_size):
        raise _unfit(episode, f"full frames are {meta.full_res_size}", f"{sizes.full_res}, as the world's")
    if _layout(_action_space(episode)) != _layout(manifest.action_space):
        raise _unfit(
            episode, "its actions are laid out otherwise than the world's", "the same keys and mouse bins"
        )
    if not math.isclose(meta.fps, manifest.fps, rel_tol=1e-3):
        raise _unfit(episode, f"{meta.fps:g} frames a second", f"{manifest.fps:g}, as the world's")


def _action_space(episode: Episode) -> ActionSpace:
    try:
        return ActionSpace.from_json(json.loads(episode.meta.action_space))
    except (ValueError, DiamondError) as error:
        raise _unfit(episode, f"action_space: {error}", "what ActionSpace.to_json gives") from error


def _layout(space: ActionSpace) -> tuple[object, ...]:
    """What the entries of a vector mean; labels and camera keys may differ."""
    return tuple(map(tuple, (space.keys, space.buttons, space.mouse_x, space.mouse_y)))


def _unfit(episode: Episode, what: str, expected: str) -> DiamondError:
    return DiamondError(f"{episode.path}: {what}", expected, "name recordings of this world with --data")
