"""Straight lines are told from bent ones, in pixels that geometry gives as well."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from benchmarks.bends import BENT, CHORD, LONG_CHORD, Bends, bends, sagittas
from benchmarks.detectors import BENDS_EVERY, Log
from benchmarks.limits import from_spawns
from benchmarks.long_play import lines, summary

H, W, FINE = 150, 280, 4  # a picture, and how many samples a pixel has each way


def drawn(inside):
    """uint8 (H, W, 3): bright where `inside(y, x)`, coordinates in pixels, anti-aliased."""
    y, x = (np.mgrid[: H * FINE, : W * FINE] + 0.5) / FINE
    shares = inside(y, x).reshape(H, FINE, W, FINE).mean((1, 3))
    return np.repeat((60 + 120 * shares)[..., None], 3, -1).astype(np.uint8)


def disc(radius):
    return drawn(lambda y, x: np.hypot(y - 10 - radius, x - W / 2) < radius)


@pytest.mark.parametrize("chord", [CHORD, LONG_CHORD])
@pytest.mark.parametrize("slope", [-1, -0.37, 0, 0.05, 0.2, 0.8, 3, 1e9])
def test_straight_lines_of_any_slope_are_straight(slope, chord):
    found = sagittas(drawn(lambda y, x: (y - 55) > slope * (x - W / 2)), chord)
    assert len(found) > (60 if chord == CHORD else 30)
    assert found.mean() < 0.15
    assert found.max() < BENT


@pytest.mark.parametrize(
    ("radius", "chord"),
    [(60, 32), (100, 32), (200, 32), (400, 32), (200, 64), (400, 64), (800, 64)],
)
def test_an_arc_has_the_sagitta_of_its_radius(radius, chord):
    found = sagittas(disc(radius), chord)
    assert len(found) > (200 if chord == CHORD else 150)
    assert np.median(found) == pytest.approx(chord**2 / 8 / radius, rel=0.06)


def test_the_long_chord_sees_what_bulges():
    bulge = bends(drawn(lambda y, x: y > 55 + 2 * np.sin(x * 2 * np.pi / 200)))
    found = bulge.to_json()
    assert 0.1 < found["mean_px"] < 0.3
    assert 0.45 < found["long_mean_px"] < 1.1


def test_blur_and_contrast_do_not_bend():
    picture = Image.fromarray(disc(100))
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(2)))
    pale = np.asarray(picture) // 2 + 40
    sharp = np.median(sagittas(np.asarray(picture)))
    assert [np.median(sagittas(other)) for other in (soft, pale)] == pytest.approx([sharp, sharp], rel=0.06)


def test_a_wave_bends_and_crossings_do_not():
    wave = bends(drawn(lambda y, x: y > 55 + 2 * np.sin(x * 2 * np.pi / 80)))
    grid = bends(drawn(lambda y, x: (y // 22 + x // 30) % 2 < 1))
    assert wave.bent / wave.points > 0.6
    assert grid.points > 500
    assert grid.bent == 0


def test_the_lowest_part_where_the_weapon_is_does_not_count():
    assert bends(drawn(lambda y, x: np.hypot(y - 170, x - 140) < 50)).points == 0


@pytest.mark.parametrize("size", [(15, 28), (30, 56), (150, 280)])
def test_a_picture_without_lines_has_no_points(size):
    found = bends(np.full((*size, 3), 90, np.uint8))
    assert found == Bends()
    nothing = {"points": 0, "mean_px": None, "bent": None, "long_points": 0, "long_mean_px": None}
    assert found.to_json() == nothing
    assert bends(np.random.default_rng(0).integers(0, 256, (15, 28, 3), np.uint8)).points == 0


def test_points_of_several_frames_are_one_figure():
    both = Bends(100, 20.0, 10, 40, 20.0) + Bends(300, 180.0, 90, 10, 30.0)
    assert both.to_json() == {
        "points": 400,
        "mean_px": 0.5,
        "bent": 0.25,
        "long_points": 50,
        "long_mean_px": 1.0,
    }


def test_a_log_looks_at_the_lines_of_every_tenth_frame():
    straight, bent = drawn(lambda y, x: y > 55), disc(60)
    log = Log(from_spawns([straight, bent]))
    for index in range(2 * BENDS_EVERY):
        log.see(bent if index == BENDS_EVERY else straight, None, False)
    assert log.bends == bends(straight) + bends(bent)
    found = lines([log, log])
    assert found["points"] == 2 * log.bends.points
    assert (
        f"lines bend by {found['mean_px']} px in 32, {found['bent']:.0%} of them by more than 0.75, "
        f"and by {found['long_mean_px']} px in 64" in summary("imagined", {}, found)
    )
    assert "bend" not in summary("imagined", {}, lines([]))
