"""Training on one's own rollouts: a batch whose histories the network itself has imagined, frame after frame.

Predicting a few frames in a row from noisy true ones (train/loss.py) shows a network its mistakes of one evaluation,
never those of a played second. Here every row is a rollout in progress along a recorded episode, sampled as the player
will sample it; each step trains on the recorded frame that should come next, after the imagined history, and then plays
one frame on. A row starts anew from recorded frames after `length` frames. They are a batch, or a part of one beside
recorded segments (`rollout_fraction`). Scheduled sampling (Bengio 2015) for worlds; nothing of the kind is in the
published training.

All draws depend on (seed, step), the seed being a run's and a micro-batch's, and the rows' state is part of the
checkpoint, so a resumed run continues bit for bit. Knows nothing of networks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.errors import DiamondError
from train.data.episode import Episode
from train.segments import Batch

_STREAM = 2  # of the seed: SegmentSampler and random_crops have their own


class RolloutPool:
    """`batch_size` rollouts of at most `length` frames each, at different depths, over the recorded episodes.

    Raises DiamondError if an episode is too short for a history and a frame to predict.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        history: int,
        batch_size: int,
        length: int,
        seed: tuple[int, ...],
    ) -> None:
        self.episodes = [episode for episode in episodes if len(episode) > history]
        if not self.episodes:
            raise DiamondError(f"no episode has more than {history} frames", expected="longer recordings")
        self.history, self.length, self.seed = history, length, (_STREAM, *seed)
        lengths = np.array([len(episode) for episode in self.episodes])
        self._lengths, self._weights = lengths, lengths / lengths.sum()
        self._episode = np.zeros(batch_size, np.int64)
        self._at = np.zeros(batch_size, np.int64)  # the frame to predict
        self._left = np.zeros(batch_size, np.int64)  # frames until the row starts anew
        h, w = self.episodes[0].meta.low_res_size
        self._frames = np.zeros((batch_size, history, h, w, 3), np.uint8)
        rng = np.random.default_rng(self.seed)
        for row in range(batch_size):
            self._restart(row, rng)
            self._left[row] = rng.integers(
                1, self._left[row] + 1
            )  # so that they do not all start anew together

    def batch(self) -> Batch:
        """The rows' histories and the recorded frame that comes next: T = history + 1 frames, all valid."""
        rows = range(len(self._at))
        targets = np.stack([self._episode_of(row).low_res(self._at[row], self._at[row] + 1) for row in rows])
        actions = np.stack(
            [self._episode_of(row).actions(self._at[row] - self.history, self._at[row] + 1) for row in rows]
        )
        frames = np.concatenate([self._frames, targets], axis=1)
        return Batch(
            low_res=torch.from_numpy(frames).permute(0, 1, 4, 2, 3),
            actions=torch.from_numpy(actions).float(),
            valid=torch.ones(frames.shape[:2], dtype=torch.bool),
            full_res=None,
        )

    def advance(self, imagined: Tensor, step: int) -> None:
        """Rolls the histories on by the imagined frames, uint8 (B, C, h, w); rows at their end start anew."""
        newest = imagined.permute(0, 2, 3, 1).cpu().numpy()
        self._frames = np.concatenate([self._frames[:, 1:], newest[:, None]], axis=1)
        self._at += 1
        self._left -= 1
        rng = np.random.default_rng((*self.seed, step + 1))
        for row in np.flatnonzero(self._left == 0):
            self._restart(int(row), rng)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors."""
        rows = {"episode": self._episode, "at": self._at, "left": self._left}
        saved = {name: torch.from_numpy(numbers.copy()) for name, numbers in rows.items()}
        return {**saved, "frames": torch.from_numpy(self._frames.copy())}

    def restore(self, state: dict[str, Any] | None) -> bool:
        """Takes up a saved state. False, changing nothing, if it is of another batch size or other recordings."""
        if state is None:
            return False
        episode, at, left, frames = (state[name].numpy() for name in ("episode", "at", "left", "frames"))
        if frames.shape != self._frames.shape or episode.max() >= len(self.episodes):
            return False
        if (at + left > self._lengths[episode]).any():
            return False
        self._episode, self._at, self._left = episode.copy(), at.copy(), left.copy()
        self._frames = frames.copy()
        return True

    def _episode_of(self, row: int) -> Episode:
        return self.episodes[int(self._episode[row])]

    def _restart(self, row: int, rng: np.random.Generator) -> None:
        chosen = int(rng.choice(len(self.episodes), p=self._weights))
        at = int(rng.integers(self.history, self._lengths[chosen]))
        self._episode[row], self._at[row] = chosen, at
        self._left[row] = min(self.length, self._lengths[chosen] - at)
        self._frames[row] = self.episodes[chosen].low_res(at - self.history, at)
