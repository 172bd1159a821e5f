"""A held-out start rolled out with its true actions, and held against what really came; and two baselines.

The baselines need no network: the last real frame shown over and over, and the bicubic enlargement of the true low-res
frame, which is what an upsampler gets to see and no player has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bends import bends
from benchmarks.figures import compared, enlarge, psnr, ssim
from benchmarks.held_out import Start
from engine.world import World

Pixels = npt.NDArray[np.uint8]
Figures = Mapping[int, Mapping[str, float]]  # by horizon, then by name
SHEET_EVERY = 8  # frames
LEAST_GRADIENT = 1e-6  # grey levels


@dataclass(frozen=True)
class Truth:
    """What was recorded after a start, decoded once for all that is held against it.

    Attributes:
        last_real: frame 0, uint8 RGB (H, W, 3).
        shown, low_res: by frame, those at the horizons and those on the sheet: uint8 RGB (H, W, 3) and (h, w, 3).
    """

    last_real: Pixels
    shown: Mapping[int, Pixels]
    low_res: Mapping[int, Pixels]

    @classmethod
    def of(cls, start: Start, horizons: Sequence[int]) -> "Truth":
        """Reads the frames."""
        frames = sorted({*horizons, *on_sheet(horizons)})
        shown = {frame: start.shown(frame) for frame in frames}
        return cls(start.shown(0), shown, {frame: start.low_res(frame) for frame in frames})


@dataclass(frozen=True)
class Rollout:
    """What a world made of a start.

    Attributes:
        figures: at every horizon, see `held_against`; with an upsampler also "psnr_low_res" and "ssim_low_res", which
            are the denoiser's alone.
        sheet: the frames for a contact sheet.
        timings_ms: of every frame, see `Frame.timings_ms`.
    """

    figures: Figures
    sheet: list[Pixels]
    timings_ms: list[Mapping[str, float]]


def on_sheet(horizons: Sequence[int]) -> range:
    """The frames that a contact sheet shows."""
    return range(SHEET_EVERY, max(horizons) + 1, SHEET_EVERY)


def roll_out(world: World, start: Start, truth: Truth, horizons: Sequence[int]) -> Rollout:
    """Plays on from a start to the last horizon."""
    upsampled = world.manifest.sizes.full_res is not None
    figures: dict[int, dict[str, float]] = {}
    sheet: list[Pixels] = []
    timings_ms: list[Mapping[str, float]] = []
    world.begin(start.spawn())
    for index, action in enumerate(start.actions(max(horizons)), start=1):
        frame = world.step(action)
        timings_ms.append(frame.timings_ms)
        if index in on_sheet(horizons):
            sheet.append(frame.rgb)
        if index in horizons:
            figures[index] = held_against(frame.rgb, truth.shown[index])
            if upsampled:
                figures[index] |= {
                    "psnr_low_res": psnr(frame.low_res, truth.low_res[index]),
                    "ssim_low_res": ssim(frame.low_res, truth.low_res[index]),
                }
    return Rollout(figures, sheet, timings_ms)


def held_against(picture: Pixels, truth: Pixels) -> dict[str, float]:
    """`benchmarks.figures.compared`, and the lines, over the long chord: "sagitta", a sum over "edge_points"."""
    lines = bends(picture)
    return {**compared(picture, truth), "sagitta": lines.long_total, "edge_points": float(lines.long_points)}


def baselines(truth: Truth, horizons: Sequence[int], upsampled: bool) -> dict[str, Figures]:
    """The figures of what needs no network, by its name."""
    found: dict[str, Figures] = {
        "the last real frame, copied": {h: held_against(truth.last_real, truth.shown[h]) for h in horizons}
    }
    if upsampled:
        found["the true low-res frame, enlarged"] = {
            h: held_against(enlarge(truth.low_res[h], truth.shown[h].shape[:2]), truth.shown[h])
            for h in horizons
        }
    return found


def means(found: Sequence[Figures]) -> list[dict[str, Any]]:
    """Means over rollouts at every horizon: {"horizon": ..., "psnr": ..., "ssim": ..., "sharpness": ..., ...}.

    "bend_px" is among them where lines are: in no picture of 30x56 pixels.
    """
    return [
        {
            "horizon": horizon,
            **{name: round(float(np.mean(values)), 4) for name, values in _by_start(found, horizon).items()},
        }
        for horizon in found[0]
    ]


def difference(found: Sequence[Figures], first: Sequence[Figures], horizon: int) -> dict[str, dict[str, Any]]:
    """By how much figures differ from the first configuration's, start by start.

    Returns:
        By figure the "mean" and its standard error, "error"; None from a single start.
    """
    result: dict[str, dict[str, Any]] = {}
    theirs = _by_start(first, horizon)
    for name, values in _by_start(found, horizon).items():
        if name not in theirs:  # lines in the one, none in the other
            continue
        differences = values - theirs[name]
        error = float(differences.std(ddof=1)) / len(differences) ** 0.5 if len(differences) > 1 else None
        result[name] = {
            "mean": round(float(differences.mean()), 4),
            "error": None if error is None else round(error, 4),
        }
    return result


def _by_start(found: Sequence[Figures], horizon: int) -> dict[str, npt.NDArray[np.float64]]:
    """The figures at one horizon, an entry a start; from gradients "sharpness", relative to the recorded frames'.

    It is relative to their mean over all starts: a start that ends before a bare wall has next to no gradient of its
    own to divide by, and would outweigh all others. For the same reason "bend_px", see `benchmarks.bends`, is relative
    to the mean number of points.
    """
    values = {name: np.array([one[horizon][name] for one in found]) for name in found[0][horizon]}
    gradients, truths = values.pop("gradient"), values.pop("gradient_truth")
    values["sharpness"] = gradients / max(float(truths.mean()), LEAST_GRADIENT)
    sagittas, points = values.pop("sagitta"), values.pop("edge_points")
    if points.any():
        values["bend_px"] = sagittas / points.mean()
    return values
