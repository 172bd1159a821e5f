"""How far a precision may be from the fp32 graphs it was made from, and how the comparison reads.

A single evaluation is held tightly: it is arithmetic alone. A rollout feeds its errors back, and a world may amplify
them until two careers part that are both right; so its first frames are held, and the rest has a floor that only
a broken graph falls through. Figures behind the gates: docs/precisions.md. Plain JSON data in, plain words out.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import DiamondError
from export.playing import Evaluation, Painted
from export.report import SEED, Report, evaluation_row, picture_row


@dataclass(frozen=True)
class PrecisionGates:
    """What a precision may differ by from fp32.

    Attributes:
        raw_error: of a network's raw output in one evaluation: root mean square of the difference, over that of the
            outputs of all noise levels.
        mean_grey_levels: of a quantised prediction in one evaluation, mean over its values.
        first_frames, first_psnr_db: the start of every rollout, each frame.
        frames, psnr_db: the whole of every rollout, each frame.
    """

    raw_error: float
    mean_grey_levels: float
    first_psnr_db: float
    psnr_db: float
    first_frames: int = 16
    frames: int = 64


# About three times the worst single evaluation seen on a trained world, and 5 dB or more below the worst rollout.
GATES: Mapping[str, PrecisionGates] = {
    "fp16": PrecisionGates(raw_error=0.005, mean_grey_levels=0.1, first_psnr_db=38, psnr_db=20),
    "bf16": PrecisionGates(raw_error=0.04, mean_grey_levels=0.6, first_psnr_db=30, psnr_db=16),
    "int8": PrecisionGates(raw_error=0.10, mean_grey_levels=1.0, first_psnr_db=28, psnr_db=16),
}


def compare(measured: Painted, reference: Painted) -> dict[str, Any]:
    """The differences between two precisions of one world, as the report keeps them."""
    evaluations = {
        network: evaluation_rows(rows, reference.evaluations[network])
        for network, rows in measured.evaluations.items()
    }
    rollouts = [
        {
            "spawn": spawn,
            "seed": SEED,
            "preset": measured.preset,
            "frames": [
                {size: picture_row(picture, other[size]) for size, picture in frame.items()}
                for frame, other in zip(frames, others, strict=True)
            ],
        }
        for spawn, (frames, others) in enumerate(zip(measured.rollouts, reference.rollouts, strict=True))
    ]
    return {"evaluations": evaluations, "rollouts": rollouts}


def evaluation_rows(got: Sequence[Evaluation], expected: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Differences of one network's evaluations, one row per noise level."""
    scale = math.sqrt(np.mean([(other.raw**2).mean() for other in expected]))
    rows = []
    for mine, other in zip(got, expected, strict=True):
        error = math.sqrt(((mine.raw - other.raw) ** 2).mean())
        levels = np.abs(mine.denoised - other.denoised) * 127.5
        rows.append(
            {
                **evaluation_row(mine.sigma, (mine.raw, other.raw), (mine.denoised, other.denoised)),
                "raw_error": error / scale,
                "mean_grey_levels": float(levels.mean()),
            }
        )
    return rows


def exceeded(report: Report, gates: PrecisionGates) -> list[str]:
    """One phrase for every figure that is beyond its gate; NaN always is."""
    failures = []
    for network, rows in report["evaluations"].items():
        for row in rows:
            failures += [
                f"{network} at sigma {row['sigma']:g}: {name} is {row[name]:.3g}, the gate {getattr(gates, name):g}"
                for name in ("raw_error", "mean_grey_levels")
                if not row[name] <= getattr(gates, name)
            ]
    for played in report["rollouts"]:
        for index, row in enumerate(played["frames"], start=1):
            limit = gates.first_psnr_db if index <= gates.first_frames else gates.psnr_db
            failures += [
                f"rollout from spawn {played['spawn']}, frame {index}, {size}: "
                f"PSNR to fp32 is {figures['psnr_db']:.1f} dB, the gate {limit:g} dB"
                for size, figures in row.items()
                if figures["psnr_db"] is not None and not figures["psnr_db"] >= limit
            ]
    return failures


def require_within(report: Report, gates: PrecisionGates, world: str) -> None:
    """Raises DiamondError with the first figures that are beyond their gates."""
    if failures := exceeded(report, gates):
        more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
        raise DiamondError(
            f"parity gate: world {world!r}, {report['measured']}, is not what fp32 paints: "
            + "; ".join(failures[:3])
            + more,
            "every figure within its gate, see docs/precisions.md",
            "nothing was written. Export this world in another precision, and report it with this message",
        )


def summary(report: Report) -> list[str]:
    """The report in a few lines for people."""
    lines = []
    for network, rows in report["evaluations"].items():
        worst = {name: max(row[name] for row in rows) for name in rows[0]}
        lines.append(
            f"{network}: {len(rows)} noise levels; raw output within {worst['raw_error']:.2%} of fp32's, "
            f"predictions within {worst['mean_grey_levels']:.2f} grey levels on average"
        )
    for played in report["rollouts"]:
        for size in played["frames"][0]:
            worst_db = [_worst_db(played["frames"][:count], size) for count in (16, None)]
            lines.append(
                f"rollout from spawn {played['spawn']}, {size}: {worst_db[0]} in the first 16 frames, "
                f"{worst_db[1]} in all {len(played['frames'])}"
            )
    return lines


def _worst_db(frames: list[Any], size: str) -> str:
    decibels = [row[size]["psnr_db"] for row in frames if row[size]["psnr_db"] is not None]
    return f"{min(decibels):.1f} dB or better" if decibels else "identical"


def gates_as_json(gates: PrecisionGates) -> dict[str, Any]:
    """The gates as the report keeps them."""
    return dataclasses.asdict(gates)
