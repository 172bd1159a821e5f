"""Whether a place is still there after one has looked away: turn left and back right by as much, and compare the views.

Each start first idles for `CALM_FRAMES`, so that a walk that was recorded has come to rest. The view then is held
against four others, in PSNR and SSIM of the low-res frames: after turning away; after turning back; after idling for as
many frames, the most that returning can reach (the ceiling); and a real frame drawn from elsewhere in the same episode,
what two views of one place have in common anyway (the floor). "kept" is where the return lies between floor and
ceiling. A world that never turned returns perfectly: so "away" has to be near the floor.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.figures import psnr, ssim
from benchmarks.held_out import Start
from engine import Action
from engine.world import World

UNITS = 60  # mouse units a frame
TURNS = (4, 8)  # frames each way
CALM_FRAMES = 8
VIEWS = ("away", "returned", "idled", "elsewhere")
ELSEWHERE_FRAMES = 60  # at least so far from the start in the recording


def return_views(world: World, starts: Sequence[Start], seed: int) -> list[dict[str, Any]] | None:
    """Means over starts, an entry for every number of frames in `TURNS`.

    Args:
        world: it is begun anew from every start.
        starts: of episodes longer than twice `ELSEWHERE_FRAMES`, or "elsewhere" is anywhere.
        seed: of the frames elsewhere.

    Returns:
        "frames" each way, "mouse_units", by view "psnr" in dB and "ssim", and "kept" of each, see above; None for a
        world without a mouse.
    """
    if not world.action_space.mouse_x:
        return None
    random = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    for frames in TURNS:
        psnrs: dict[str, list[float]] = {view: [] for view in VIEWS}
        ssims: dict[str, list[float]] = {view: [] for view in VIEWS}
        for start in starts:
            first, others = _views(world, start, frames, random)
            for view, picture in others.items():
                psnrs[view].append(psnr(picture, first))
                ssims[view].append(ssim(picture, first))
        found.append(
            {
                "frames": frames,
                "mouse_units": UNITS,
                "psnr": {view: round(float(np.mean(values)), 2) for view, values in psnrs.items()},
                "ssim": {view: round(float(np.mean(values)), 4) for view, values in ssims.items()},
                "kept": {"psnr": _kept(psnrs), "ssim": _kept(ssims)},
            }
        )
    return found


def _views(
    world: World, start: Start, frames: int, random: np.random.Generator
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The first view and the four others, uint8 (h, w, 3) each."""
    world.begin(start.spawn())
    first = _play(world, 0, CALM_FRAMES)
    calm = world.snapshot()
    others = {"away": _play(world, -UNITS, frames), "returned": _play(world, UNITS, frames)}
    world.restore(calm)
    others["idled"] = _play(world, 0, 2 * frames)
    far = [t for t in range(len(start.episode)) if abs(t - start.newest) >= ELSEWHERE_FRAMES]
    t = int(random.choice(far or range(len(start.episode))))
    others["elsewhere"] = start.episode.low_res(t, t + 1)[0]
    return first, others


def _play(world: World, units: int, frames: int) -> np.ndarray:
    """Turns by `units` in each of `frames` frames; the last frame, low-res."""
    return [world.step(Action(mouse_dx=units)) for _ in range(frames)][-1].low_res


def _kept(values: dict[str, list[float]]) -> float | None:
    """(returned - floor) / (ceiling - floor), of the means; None where the two do not differ that way round."""
    mean = {view: float(np.mean(those)) for view, those in values.items()}
    room = mean["idled"] - mean["elsewhere"]
    return round((mean["returned"] - mean["elsewhere"]) / room, 3) if room > 0 else None
