"""The parity report: what is compared, its gates, what exceeds them, and how it reads. Plain JSON data, plain words."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.actions import ActionSpace
from engine.spawn import Spawn

Report = Mapping[str, Any]

SIGMAS = (0.002, 0.02, 0.2, 1.0, 5.0, 20.0)  # from the last noise level of play to the largest of training
SEED = 0
SPAWNS_COMPARED = 2


@dataclass(frozen=True)
class Gates:
    """What a bundle may differ by. The defaults are for fp32, where only the order of additions differs.

    Attributes:
        raw_error: largest difference of a network's raw output, whose standard deviation is about 1.
        grey_levels, changed_fraction: of a quantised prediction. A value next to a boundary may fall on its other
            side, so at most this share of values may differ, by at most this many levels.
        rollout_frames: length of the rollouts.
        first_frames, first_psnr_db: their start, each frame; 48 dB is one grey level everywhere.
        psnr_db: of every frame after that. From some starts a world amplifies rounding, frame after frame: PyTorch
            parts from itself as far if a history differs by 1e-5.
    """

    raw_error: float = 1e-4
    grey_levels: int = 1
    changed_fraction: float = 0.005
    rollout_frames: int = 16
    first_frames: int = 8
    first_psnr_db: float = 40.0
    psnr_db: float = 25.0


def recorded_then_idle(spawn: Spawn, space: ActionSpace, frames: int) -> npt.NDArray[np.float32]:
    """The actions of a rollout, (frames, A): what was done after the spawn, then nothing."""
    idle = np.tile(space.idle(), (frames, 1))
    return np.concatenate([spawn.actions[-1:], spawn.next_actions, idle])[:frames]


def evaluation_row(
    sigma: float,
    raw: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    denoised: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> dict[str, Any]:
    """Differences of one evaluation; pairs are (measured, expected), `denoised` in [-1, 1]."""
    error = np.abs(raw[0] - raw[1])
    levels = np.abs(denoised[0] - denoised[1]) * 127.5
    return {
        "sigma": sigma,
        "raw_max_error": float(error.max()),
        "raw_mean_error": float(error.mean()),
        "grey_levels": float(np.rint(levels.max())),
        "changed_fraction": float((~(levels < 0.5)).mean()),  # NaN counts as changed
    }


def psnr_db(actual: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> float | None:
    """Peak signal-to-noise ratio of two pictures of one shape, 0-255, in dB; None where they are equal."""
    mean_square = float(((actual.astype(np.int64) - expected) ** 2).mean())
    return None if mean_square == 0 else 10 * math.log10(255**2 / mean_square)


def picture_row(actual: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Of two pictures: PSNR in dB (None where they are equal), largest difference in grey levels, share changed."""
    error = np.abs(actual.astype(np.int64) - expected)
    decibels = psnr_db(actual, expected)
    return {
        "psnr_db": None if decibels is None else round(decibels, 2),
        "grey_levels": int(error.max()),
        "changed_fraction": float((error > 0).mean()),
    }


def exceeded(report: Report, gates: Gates) -> list[str]:
    """One phrase for every figure of the report that is beyond its gate; NaN always is."""
    failures = []
    limits = {name: getattr(gates, name) for name in ("grey_levels", "changed_fraction")}
    limits["raw_max_error"] = gates.raw_error
    for network, rows in report["evaluations"].items():
        for row in rows:
            failures += [
                f"{network} at sigma {row['sigma']:g}: {name} is {row[name]:.3g}, the gate {limit:g}"
                for name, limit in limits.items()
                if not row[name] <= limit
            ]
    for played in report["rollouts"]:
        for index, row in enumerate(played["frames"], start=1):
            least = gates.first_psnr_db if index <= gates.first_frames else gates.psnr_db
            failures += [
                f"rollout from spawn {played['spawn']}, frame {index}, {size}: "
                f"PSNR is {figures['psnr_db']:.1f} dB, the gate {least:g} dB"
                for size, figures in row.items()
                if figures["psnr_db"] is not None and not figures["psnr_db"] >= least
            ]
    return failures


def summary(report: Report) -> list[str]:
    """The report in a few lines for people."""
    lines = []
    for network, rows in report["evaluations"].items():
        worst = {name: max(row[name] for row in rows) for name in rows[0]}
        lines.append(
            f"{network}: {len(rows)} noise levels; raw output within {worst['raw_max_error']:.1e} of PyTorch's, "
            f"{worst['changed_fraction']:.2%} of the values off by {worst['grey_levels']:.0f} grey level"
        )
    for played in report["rollouts"]:
        for size in played["frames"][0]:
            decibels = [row[size]["psnr_db"] for row in played["frames"]]
            different = [value for value in decibels if value is not None]
            lines.append(
                f"rollout from spawn {played['spawn']}, {size}: {len(decibels) - len(different)} of "
                f"{len(decibels)} frames identical"
                + (f", the others at {min(different):.1f} dB or better" if different else "")
            )
    return lines


def report_bytes(report: Report) -> bytes:
    """The report as the bundle keeps it."""
    return (json.dumps(report, indent=1, allow_nan=False) + "\n").encode()
