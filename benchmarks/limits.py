"""What a healthy picture of a world keeps to: from its recordings, or from its spawns alone.

**From recordings**, half of the held-out episodes: the limits are what all but `RARE` of their frames keep, so each
detector fires on about one real frame in a hundred. The other half is the control: how often the detectors fire on real
play is reported beside how often they fire on imagined play, and a world is no worse than its game where the two agree.

**From spawns** there are too few pictures for a distribution: the limits are fixed fractions of their medians.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.detectors import TURNED_UNITS, Limits, Log, Look, distance, motion
from engine.actions import ActionSpace
from engine.graphs import Sizes
from train.data.episode import Episode

Pixels = npt.NDArray[np.uint8]

RARE = 0.01  # share of real frames that each detector may fire on
STILL = 0.25  # of the motion that all but RARE of the real frames exceed: "nearly equal" is less than "turns slowly"
MEASURED, CONTROLLED = 2000, 4000  # frames that limits come from, frames of the control
PALETTES = 400  # reference pictures for colours

SPAWN_CRISPNESS, SPAWN_CONTRAST, SPAWN_EDGES = 0.5, 0.25, 0.25  # of the spawns' medians
SPAWN_MOTION = 1.0  # levels
SPAWN_DRIFT = 2.0  # times the largest distance of a spawn from its nearest other
SPAWN_DRIFT_LEAST = 16.0  # levels; spawns may lie next to each other


def from_recordings(episodes: Sequence[Episode], sizes: Sizes, space: ActionSpace) -> Limits:
    """Limits from pairs of neighbouring frames, spread evenly over episodes of one kind.

    Args:
        episodes: at least one; of two or more, colour distances are from the other episodes' pictures.
        sizes, space: the world's.
    """
    every = max(2, sum(map(len, episodes)) // MEASURED)
    looks: list[list[Look]] = []
    motions = []
    for episode in episodes:
        turning = turned(space, episode.actions(0, len(episode)).astype(np.float32))
        looks.append([])
        for t in range(0, len(episode) - 1, every):
            before, after = pictures(episode, sizes, t, t + 2)
            looks[-1].append(Look.of(after))
            if turning[t]:
                motions.append(motion(before, after))
    flat = [look for found in looks for look in found]
    thin = max(1, len(flat) // PALETTES)
    kept = [np.stack([look.palette for look in found[::thin]]) for found in looks]
    # Neighbouring frames share their colours: an episode is held against the others, as imagined play will be.
    strangers = [
        distance(look.palette, np.concatenate([*kept[:own], *kept[own + 1 :]] or kept))
        for own, found in enumerate(looks)
        for look in found
    ]
    return Limits(
        motion=STILL * float(np.quantile(motions, RARE)) if motions else 0.0,
        contrast=float(np.quantile([look.contrast for look in flat], RARE)),
        edges=float(np.quantile([look.edges for look in flat], RARE)),
        crispness=float(np.quantile([look.crispness for look in flat], RARE)),
        drift=float(np.quantile(strangers, 1 - RARE)),
        palettes=np.concatenate(kept),
        gradient=float(np.mean([look.gradient for look in flat])),
        source=f"{len(flat)} frames of {len(episodes)} held-out episodes",
    )


def from_spawns(spawns: Sequence[Pixels]) -> Limits:
    """Limits from the first pictures of a world, uint8 RGB (H, W, 3) each; at least one."""
    looks = [Look.of(picture) for picture in spawns]
    palettes = np.stack([look.palette for look in looks])
    apart = np.abs(palettes[:, None] - palettes).mean(axis=2)  # (N, N)
    np.fill_diagonal(apart, np.inf)
    return Limits(
        motion=SPAWN_MOTION,
        contrast=SPAWN_CONTRAST * float(np.median([look.contrast for look in looks])),
        edges=SPAWN_EDGES * float(np.median([look.edges for look in looks])),
        crispness=SPAWN_CRISPNESS * float(np.median([look.crispness for look in looks])),
        drift=max(
            SPAWN_DRIFT_LEAST, SPAWN_DRIFT * float(apart.min(axis=1).max())
        ),  # infinite for a single one
        palettes=palettes,
        gradient=float(np.mean([look.gradient for look in looks])),
        source=f"{len(looks)} spawns",
    )


def control(episodes: Sequence[Episode], sizes: Sizes, space: ActionSpace, limits: Limits) -> list[Log]:
    """What the detectors say of real play: a log an episode, together `CONTROLLED` frames at most."""
    logs = []
    each = max(2, CONTROLLED // max(1, len(episodes)))
    for episode in episodes:
        frames = min(len(episode), each)
        turning = turned(space, episode.actions(0, frames).astype(np.float32))
        log, before = Log(limits), None
        for t in range(frames):
            (picture,) = pictures(episode, sizes, t, t + 1)
            if before is not None:
                log.see(picture, before, bool(turning[t - 1]))
            before = picture
        logs.append(log)
    return logs


def turned(space: ActionSpace, actions: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether the mouse turned by `TURNED_UNITS` or more, across, in each of (T, A) action vectors: bool (T,)."""
    first = len(space.keys) + len(space.buttons)
    units = actions[:, first : first + len(space.mouse_x)] @ np.array(space.mouse_x, np.float32)
    return np.asarray(np.abs(units) >= TURNED_UNITS)


def pictures(episode: Episode, sizes: Sizes, start: int, stop: int) -> Iterator[Pixels]:
    """Recorded frames of the size that the world shows, uint8 RGB (H, W, 3)."""
    yield from episode.low_res(start, stop) if sizes.full_res is None else episode.full_res(start, stop)
