"""Figures of several rollouts together: sharpness and lines are relative to what all starts have."""

import numpy as np
import pytest

from benchmarks.rollouts import difference, held_against, means

NO_LINES = {"sagitta": 0.0, "edge_points": 0.0}


def test_lines_count_by_their_points_and_only_where_there_are_some() -> None:
    def start(sagitta: float, points: float) -> dict[int, dict[str, float]]:
        figures = {"gradient": 1.0, "gradient_truth": 1.0, "sagitta": sagitta, "edge_points": points}
        return {16: figures}

    first, second = [start(30, 100), start(0, 0)], [start(30, 100), start(30, 20)]
    assert means(first)[0]["bend_px"] == 0.3
    assert means(second)[0]["bend_px"] == 0.5
    assert difference(second, first, 16)["bend_px"]["mean"] == pytest.approx(0.2)
    assert "bend_px" not in means([start(0, 0)])[0]
    assert "bend_px" not in difference(second, [start(0, 0)] * 2, 16)


def test_a_picture_brings_its_own_lines() -> None:
    y, x = np.mgrid[:150, :280]
    straight = np.where(y > 40 + x / 9, 200, 60).astype(np.uint8)[..., None].repeat(3, 2)
    waved = np.where(y > 40 + x / 9 + 3 * np.sin(x / 25), 200, 60).astype(np.uint8)[..., None].repeat(3, 2)
    for picture, least, most in ((straight, 0, 0.2), (waved, 0.7, 3)):
        figures = held_against(picture, straight)
        assert figures["edge_points"] > 100
        assert least <= figures["sagitta"] / figures["edge_points"] < most


def test_sharpness_is_relative_to_the_mean_of_all_starts() -> None:
    def start(ssim: float, gradient: float, gradient_truth: float) -> dict[int, dict[str, float]]:
        return {1: {"ssim": ssim, "gradient": gradient, "gradient_truth": gradient_truth, **NO_LINES}}

    first = [start(0.2, 4, 9), start(0.4, 1, 1)]
    found = [start(0.3, 6, 9), start(0.5, 4, 1)]
    assert means(first) == [{"horizon": 1, "ssim": 0.3, "sharpness": 0.5}]
    assert difference(found, first, 1) == {
        "ssim": {"mean": 0.1, "error": 0.0},
        "sharpness": {"mean": 0.5, "error": 0.1},
    }
    assert difference(found[:1], first[:1], 1)["ssim"]["error"] is None
