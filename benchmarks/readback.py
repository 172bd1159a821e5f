"""Intents read back from frames, real and imagined, and counted: confusions and balanced accuracy. Trains nothing.

Two plays are imagined from held-out moments: the recording's own true actions, held against the very same stretch of
the recording; and a script of every intent once, held against all held-out frames. An intent held against a wall shows
nothing, in the game or in a world. The first play is fair because it meets the same walls; the second begins where the
recorded player walks ahead, which a player who faces a wall does not.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.held_out import Start
from benchmarks.intents import MOVE, Head, heads_of, labels, script
from benchmarks.inverse import FRAMES, Probe
from engine.actions import ActionSpace
from engine.graphs import Sizes
from engine.world import World
from train.data.episode import Episode

Pixels = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]

AHEAD_FRAMES = 16  # after a start, in which the recorded player should walk ahead
CANDIDATES_EVERY = 8  # frames between two moments that could be a start


@dataclass(frozen=True, eq=False)
class Clip:
    """Consecutive frames, and what led from each to the next.

    Attributes:
        frames: uint8 (T, h, w, 3).
        actions: (T - 1, A) or more; entry t leads from frame t to frame t + 1.
    """

    frames: Pixels
    actions: npt.NDArray[np.number]


def recorded(episode: Episode, first: int = 0, frames: int | None = None) -> Clip:
    """A stretch of a recording, all of it by default."""
    stop = len(episode) if frames is None else first + frames
    return Clip(episode.low_res(first, stop), episode.actions(first, stop))


def imagined(world: World, start: Start, actions: npt.NDArray[np.float32]) -> Clip:
    """What the world makes of a start and (T, A) actions: T + 1 frames, the first of them the recording's."""
    frames = [world.begin(start.spawn()).low_res]
    frames += [world.step(action).low_res for action in actions]
    return Clip(np.stack(frames), actions)


def true_plays(world: World, starts: Sequence[Start], frames: int) -> Iterator[tuple[Clip, Clip]]:
    """From every start the recorded stretch, and what the world makes of its actions; `frames` + 1 frames each."""
    for start in starts:
        yield (
            recorded(start.episode, start.newest, frames + 1),
            imagined(world, start, start.actions(frames)),
        )


def scripted_plays(world: World, starts: Sequence[Start], seed: int) -> Iterator[Clip]:
    """From every start each intent once, in an order drawn from the seed."""
    random = np.random.default_rng(seed)
    for start in starts:
        yield imagined(world, start, script(world.action_space, random))


def open_starts(episodes: Sequence[Episode], sizes: Sizes, space: ActionSpace, count: int) -> list[Start]:
    """The starts, `count` at most and spread over the episodes, after which the recorded player walks ahead most.

    In a world that nobody can walk in, just as many starts.
    """
    each = -(-count // len(episodes))
    chosen: list[list[Start]] = []
    for episode in episodes:
        ahead = np.zeros(len(episode))
        if MOVE in heads_of(space):
            ahead[labels(space, episode.actions(0, len(episode)), MOVE) == MOVE.classes.index("forward")] = 1
        rooms = range(0, len(episode) - sizes.denoiser_history - AHEAD_FRAMES, CANDIDATES_EVERY)
        starts = [Start(episode, first, sizes) for first in rooms]
        walked = [ahead[start.newest : start.newest + AHEAD_FRAMES].sum() for start in starts]
        best = sorted(range(len(starts)), key=lambda k: -walked[k])
        chosen.append([starts[k] for k in best[:each]])
    return [starts[k] for k in range(each) for starts in chosen if k < len(starts)][:count]


def confusions(probe: Probe, space: ActionSpace, clips: Iterable[Clip]) -> dict[str, Counts]:
    """Counts by head's name, (classes, classes): rows what was intended, columns what the probe read."""
    found = {head.name: np.zeros((len(head.classes),) * 2, np.int64) for head in probe.heads}
    for clip in clips:
        said = probe.read(clip.frames)
        for head in probe.heads:
            wanted = labels(space, clip.actions, head)[: len(clip.frames) - FRAMES + 1]
            sure = wanted >= 0
            np.add.at(found[head.name], (wanted[sure], said[head.name][sure]), 1)
    return found


def balanced(counts: Counts) -> float | None:
    """Balanced accuracy: the mean over classes of the share read right, 0 to 1; None where no class occurs."""
    rows = counts.sum(axis=1)
    there = rows > 0
    return float((np.diag(counts)[there] / rows[there]).mean()) if there.any() else None


def accuracies(heads: Sequence[Head], found: Mapping[str, Counts]) -> dict[str, Any]:
    """By head: "accuracy", balanced; "chance", what guessing would get; "recall" by class, None where it is absent;
    "confusion", rows intended and columns read; "frames"."""
    return {
        head.name: {
            "accuracy": _rounded(balanced(found[head.name])),
            "chance": round(1 / len(head.classes), 4),
            "recall": {
                name: _rounded(float(row[k] / row.sum()) if row.sum() else None)
                for k, (name, row) in enumerate(zip(head.classes, found[head.name], strict=True))
            },
            "confusion": found[head.name].tolist(),
            "frames": int(found[head.name].sum()),
        }
        for head in heads
    }


def ratios(of: Mapping[str, Any], to: Mapping[str, Any]) -> dict[str, float | None]:
    """By head the accuracy of one play relative to another's; None where either has none."""
    return {
        name: _rounded(row["accuracy"] / to[name]["accuracy"])
        if row["accuracy"] is not None and to[name]["accuracy"]
        else None
        for name, row in of.items()
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
