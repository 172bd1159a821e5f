"""Batches of recorded segments, drawn so that training can resume anywhere.

A batch is a pure function of (seed, step): nothing about the data order needs to be saved, and a resumed run draws
what an uninterrupted one would have. Episodes that can't be read are skipped and reported once. Knows nothing of
networks; returns torch tensors on the CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.actions import ActionSpace
from engine.errors import DiamondError
from train.data.episode import Episode
from train.data.folder import Split, episode_paths

BARE = 0.15  # of all frames, those with the least contrast
OPENS = 1.1  # times the contrast of the frame before


@dataclass(frozen=True)
class Batch:
    """frames: uint8 (B, T, C, H, W) full-res or low-res crops, low_res uint8 (B, T, C, h, w), actions float32
    (B, T, A), valid bool (B, T), False where the segment began before its episode. `full_res` is None for the denoiser.
    """

    low_res: Tensor
    actions: Tensor
    valid: Tensor
    full_res: Tensor | None

    def beside(self, other: "Batch") -> "Batch":
        """A batch of `other`'s size: these rows, then as many of `other`'s as there is room for. Low-res only."""
        rows = len(self.actions)
        return Batch(
            torch.cat((self.low_res, other.low_res[rows:])),
            torch.cat((self.actions, other.actions[rows:])),
            torch.cat((self.valid, other.valid[rows:])),
            None,
        )


def to_unit(frames: Tensor) -> Tensor:
    """uint8 0-255 -> float32 in [-1, 1]."""
    return frames.float().div(255).mul(2).sub(1)


def open_episodes(data_dir: Path, split: Split) -> tuple[list[Episode], list[str]]:
    """Every readable episode of a split in name order, and a line for each one that had to be skipped."""
    episodes, skipped = [], []
    for path in episode_paths(data_dir, split):
        try:
            episodes.append(Episode(path))
        except DiamondError as error:
            skipped.append(error.what)
    if not episodes:
        raise DiamondError(
            f"{data_dir / split}: no readable episode" + (f" ({len(skipped)} broken)" if skipped else ""),
            expected="a folder of .safetensors episodes, as written by diamond-data record",
            fix="check --data; `diamond-data validate DIR` names what is broken",
        )
    return episodes, skipped


@dataclass(frozen=True)
class Focus:
    """Frames that are drawn more often than they were recorded. Not in the published training.

    Attributes:
        fraction: of a batch's rows that are drawn from `frames`, 0 to 1.
        frames: int64 (N, 2), an episode's index and that of a frame to predict.
    """

    fraction: float
    frames: np.ndarray


def focus_on(
    episodes: Sequence[Episode], space: ActionSpace, keys: Sequence[str], fraction: float
) -> list[Focus]:
    """Finds the frames that follow an action with one of `keys` (keys or buttons of the action space), and gives each
    key that is ever held an equal part of `fraction`.

    A frame is predicted from its history and its actions, so drawing some actions more often changes how well each is
    learned and not what is learned.

    Raises DiamondError for a key that the space has not, or where no recorded action holds one.
    """
    names = (*space.keys, *space.buttons)
    for key in keys:
        if key not in names:
            raise DiamondError(f"focus_keys: {key!r} is no key here", expected="some of " + ", ".join(names))
    held: dict[str, list[np.ndarray]] = {key: [] for key in keys}
    for number, episode in enumerate(episodes):
        actions = episode.actions(0, len(episode))[:-1]
        for key in held:
            after = np.flatnonzero(actions[:, names.index(key)]) + 1
            held[key].append(np.stack((np.full(len(after), number), after), axis=1))
    found = [frames for frames in map(np.concatenate, held.values()) if len(frames)]
    if not found:
        raise DiamondError(f"focus_keys: no recorded action holds {' or '.join(keys)}", fix="other keys")
    return [Focus(fraction / len(found), frames) for frames in found]


def openings(episodes: Sequence[Episode], fraction: float) -> Focus:
    """Finds the moments in which a view that was bare opens: the frame before is among the `BARE` with the least
    contrast of all (the standard deviation of the low-res pixels, mean of the channels), and this one has `OPENS` times
    as much.

    These are chosen by what happens next, so the network comes to expect it more often than the game shows it: a wall
    that fills the view ends sooner. That is wanted where a history of a few frames has forgotten what was beside the
    wall.

    Raises DiamondError where no recorded view opens.
    """
    contrasts = [
        np.concatenate(
            [
                episode.low_res(start, min(start + 100, len(episode))).std(axis=(1, 2)).mean(axis=-1)
                for start in range(0, len(episode), 100)
            ]
        )
        for episode in episodes
    ]
    bare = np.quantile(np.concatenate(contrasts), BARE)
    found = []
    for number, contrast in enumerate(contrasts):
        opens = np.flatnonzero((contrast[:-1] < bare) & (contrast[1:] > OPENS * contrast[:-1])) + 1
        found.append(np.stack((np.full(len(opens), number), opens), axis=1))
    frames = np.concatenate(found)
    if len(frames) == 0:
        raise DiamondError("opening_fraction: in no recording a bare view opens", fix="leave it out")
    return Focus(fraction, frames)


class SegmentSampler:
    """Draws segments of `length` frames, uniformly over recorded frames, but for those of `focuses`.

    As in the published training, the last frames of a segment fall anywhere in an episode and a segment may begin
    before it: those frames are black, their actions zero, and `valid` is False for them.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        length: int,
        batch_size: int,
        seed: int,
        full_res: bool,
        focuses: Sequence[Focus] = (),
    ) -> None:
        self.episodes, self.length, self.batch_size, self.seed = episodes, length, batch_size, seed
        self.full_res, self.focuses = full_res, focuses
        lengths = np.array([len(episode) for episode in episodes])
        self._lengths, self._weights = lengths, lengths / lengths.sum()

    def batch(self, step: int) -> Batch:
        """The batch of optimiser micro-step `step`."""
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.choice(len(self.episodes), size=self.batch_size, p=self._weights)
        lengths = self._lengths[chosen]
        stops = np.minimum(
            lengths, rng.integers(0, lengths) + 1 + rng.integers(0, self.length, self.batch_size)
        )
        if self.focuses:
            place, begin = rng.random(self.batch_size), 0.0
            for focus in self.focuses:
                inside = (begin <= place) & (place < begin + focus.fraction)
                frames = focus.frames[rng.integers(0, len(focus.frames), self.batch_size)]
                chosen, stops = np.where(inside, (frames[:, 0], frames[:, 1] + 1), (chosen, stops))
                begin += focus.fraction
        segments = [self._read(self.episodes[e], int(s)) for e, s in zip(chosen, stops, strict=True)]
        low_res, actions, valid, full_res = zip(*segments, strict=True)
        return Batch(
            low_res=torch.from_numpy(np.stack(low_res)).permute(0, 1, 4, 2, 3),
            actions=torch.from_numpy(np.stack(actions)).float(),
            valid=torch.from_numpy(np.stack(valid)),
            full_res=torch.from_numpy(np.stack(full_res)).permute(0, 1, 4, 2, 3) if self.full_res else None,
        )

    def _read(self, episode: Episode, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        start = max(0, stop - self.length)
        missing = self.length - (stop - start)

        def pad(rows: np.ndarray) -> np.ndarray:
            return np.pad(rows, [(missing, 0)] + [(0, 0)] * (rows.ndim - 1)) if missing else rows

        valid = pad(np.ones(stop - start, dtype=bool))
        full_res = pad(episode.full_res(start, stop)) if self.full_res else np.empty(0, np.uint8)
        return pad(episode.low_res(start, stop)), pad(episode.actions(start, stop)), valid, full_res


def random_crops(
    videos: Sequence[Tensor], size: tuple[int, int], factor: int, seed: tuple[int, int]
) -> list[Tensor]:
    """The same crop of `size` from each of several videos (B, T, C, H, W) of one size, a place a segment.

    Crops begin on a low-res pixel, so that the phase of the enlargement is what the whole frame has there.
    """
    rng = np.random.default_rng([*seed, 1])
    H, W = videos[0].shape[-2:]
    crops: list[list[Tensor]] = [[] for _ in videos]
    for row in range(len(videos[0])):
        top = int(rng.integers(0, (H - size[0]) // factor + 1)) * factor
        left = int(rng.integers(0, (W - size[1]) // factor + 1)) * factor
        for cropped, video in zip(crops, videos, strict=True):
            cropped.append(video[row, ..., top : top + size[0], left : left + size[1]])
    return [torch.stack(cropped) for cropped in crops]
