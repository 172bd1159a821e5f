"""Playing a world to measure it: frames with their times, percentiles, and two or more worlds in turns.

A shared machine is slow now and fast then. So what is compared takes turns, block by block within one run, and a ratio
is the median over the blocks, with its quartiles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.world import World

STAGES = ("conditioner", "denoiser", "upsampler", "sampler", "other")
QUARTILES = (25, 50, 75)


@dataclass
class Played:
    """The frames that one world has played; its actions are those recorded with its first spawn, over and over.

    Attributes:
        world: a world; it is reset here, and whenever a rollout reaches its horizon.
        rows: the times of every frame kept, milliseconds by stage, see `Frame.timings_ms`.
    """

    world: World
    rows: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._index = self.world.reset(0).index
        recorded = self.world.next_actions
        self._actions = recorded if len(recorded) else self.world.action_space.idle()[None]

    def play(self, frames: int, keep: bool = True) -> list[float]:
        """Plays on; gives the milliseconds of each frame."""
        rows = []
        for _ in range(frames):
            if self._index >= self.world.horizon:
                self._index = self.world.reset(0).index
            frame = self.world.step(self._actions[self._index % len(self._actions)])
            self._index = frame.index
            rows.append(dict(frame.timings_ms))
        self.rows += rows if keep else []
        return [row["total"] for row in rows]

    def figures(self) -> dict[str, Any]:
        """See `frame_figures`."""
        return frame_figures(self.rows)


def frame_figures(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Percentiles of the whole frame, medians of its stages, and the share outside the networks.

    Args:
        rows: the times of every frame, milliseconds by stage, see `Frame.timings_ms`.
    """
    total = np.array([row["total"] for row in rows])
    outside = sum(row["sampler"] + row["other"] for row in rows)
    return {
        "frame_ms": percentiles(total),
        "fps": round(1e3 / float(total.mean()), 2),
        "stages_ms_p50": {
            stage: round(float(np.median([row[stage] for row in rows])), 3) for stage in STAGES
        },
        "outside_networks": round(outside / float(total.sum()), 4),
    }


def percentiles(milliseconds: Sequence[float] | np.ndarray) -> dict[str, float]:
    """p50, p95 and p99."""
    return {f"p{q}": round(float(np.percentile(milliseconds, q)), 2) for q in (50, 95, 99)}


def spread(ratios: Sequence[float]) -> dict[str, float]:
    """Median and quartiles: {"p25": ..., "p50": ..., "p75": ...}."""
    return {f"p{q}": round(float(np.percentile(ratios, q)), 3) for q in QUARTILES}


def spread_text(ratio: dict[str, float]) -> str:
    """1.43 (1.40 - 1.47)."""
    return f"{ratio['p50']:.2f} ({ratio['p25']:.2f} - {ratio['p75']:.2f})"


def take_turns(players: Sequence[Played], frames: int, blocks: int) -> list[list[float]]:
    """Plays `frames` frames of each in `blocks` blocks; the one that begins changes from block to block.

    Returns:
        For every player the median milliseconds of each of its blocks.
    """
    medians: list[list[float]] = [[] for _ in players]
    for block in range(blocks):
        for turn in range(len(players)):
            index = (block + turn) % len(players)
            medians[index].append(float(np.median(players[index].play(max(1, frames // blocks)))))
    return medians


def ratios(first: Sequence[float], other: Sequence[float]) -> list[float]:
    """How many times as fast as the first the other is, block by block."""
    return [a / b for a, b in zip(first, other, strict=True)]
