"""The gates of a precision: what they measure, that each can fail, and where a rollout is held how tightly."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from engine.errors import DiamondError
from export.playing import Evaluation, Painted
from export.precision_gates import (
    GATES,
    PrecisionGates,
    compare,
    evaluation_rows,
    exceeded,
    require_within,
    summary,
)

SHAPE = (1, 3, 4, 4)
GATE = PrecisionGates(
    raw_error=0.01, mean_grey_levels=0.5, first_psnr_db=40, psnr_db=20, first_frames=2, frames=4
)
GREY = np.full((4, 4, 3), 100, np.uint8)


def painted(raw: float = 1.0, denoised: float = 0.0, offsets: Sequence[int] = (0, 0, 0, 0)) -> Painted:
    """Pictures of one value; `offsets` in grey levels, by frame."""
    evaluation = Evaluation(1.0, np.full(SHAPE, raw, np.float32), np.full(SHAPE, denoised, np.float32))
    frames = [{"low_res": (GREY + offset).astype(np.uint8)} for offset in offsets]
    return Painted("nothing", {"denoiser": [evaluation]}, "fast", [frames])


def failures(**changes: Any) -> list[str]:
    return exceeded(compare(painted(**changes), painted()), GATE)


def test_each_figure_has_its_gate() -> None:
    assert failures() == []
    assert failures(raw=1.009, denoised=0.4 / 127.5) == []
    assert "raw_error is 0.02, the gate 0.01" in failures(raw=1.02)[0]
    assert "mean_grey_levels is 0.6, the gate 0.5" in failures(denoised=0.6 / 127.5)[0]


def test_nan_never_passes() -> None:
    assert len(failures(raw=np.nan, denoised=np.nan)) == 2


def test_the_first_frames_of_a_rollout_are_held_tighter_than_the_rest() -> None:
    """2 levels everywhere are 42.1 dB, 4 are 36.1, 30 are 18.6."""
    assert failures(offsets=(2, 2, 4, 4)) == []
    assert failures(offsets=(0, 4, 0, 0)) == [
        "rollout from spawn 0, frame 2, low_res: PSNR to fp32 is 36.1 dB, the gate 40 dB"
    ]
    assert failures(offsets=(0, 0, 0, 30)) == [
        "rollout from spawn 0, frame 4, low_res: PSNR to fp32 is 18.6 dB, the gate 20 dB"
    ]


def test_the_raw_error_is_relative_to_the_outputs_of_all_noise_levels() -> None:
    """A quiet level is not held to its own loudness: its output counts little in a prediction."""

    def evaluations(error: float) -> list[Evaluation]:
        quiet, loud = np.full(SHAPE, 0.01 + error, np.float32), np.full(SHAPE, np.sqrt(2), np.float32)
        return [Evaluation(0.002, quiet, quiet), Evaluation(5.0, loud, loud)]

    rows = evaluation_rows(evaluations(0.003), evaluations(0.0))
    assert rows[0]["raw_error"] == pytest.approx(0.003, rel=1e-3)
    assert rows[1]["raw_error"] == 0


def test_a_failure_names_the_world_and_what_was_measured() -> None:
    report = {"measured": "bf16 on paper", **compare(painted(raw=2.0), painted())}
    with pytest.raises(
        DiamondError, match=r"world 'w', bf16 on paper, is not what fp32 paints: denoiser at sigma 1"
    ):
        require_within(report, GATE, "w")


def test_a_summary_speaks_of_both_parts_of_a_rollout() -> None:
    lines = summary(compare(painted(offsets=[0] * 16 + [2]), painted(offsets=[0] * 17)))
    assert lines[1] == (
        "rollout from spawn 0, low_res: identical in the first 16 frames, 42.1 dB or better in all 17"
    )


def test_every_gate_holds_the_start_of_a_rollout_tighter_than_its_end() -> None:
    for gates in GATES.values():
        assert gates.first_psnr_db > gates.psnr_db
        assert gates.frames == 64
