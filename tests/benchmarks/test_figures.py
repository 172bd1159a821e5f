"""The figures are what they are called: SSIM against a plain double loop, all against pictures of known answers."""

import numpy as np
import pytest

from benchmarks.figures import Pixels, compared, enlarge, gradient, psnr, ssim


def noise(seed: int, size: tuple[int, int] = (17, 21)) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def flat(level: int, size: tuple[int, int] = (17, 21)) -> Pixels:
    return np.full((*size, 3), level, np.uint8)


def ssim_by_loops(a: Pixels, b: Pixels) -> float:
    """Wang et al. 2004, as it is written: every window by itself, variances from differences to the mean."""
    x, y = (picture.astype(float).sum(axis=2) / 3 for picture in (a, b))
    window = np.array(
        [[np.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)]
    )
    window /= window.sum()
    c_1, c_2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            p, q = (plane[top : top + 11, left : left + 11] for plane in (x, y))
            mean_p, mean_q = (window * p).sum(), (window * q).sum()
            variance_p, variance_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
            covariance = (window * (p - mean_p) * (q - mean_q)).sum()
            numerator = (2 * mean_p * mean_q + c_1) * (2 * covariance + c_2)
            values.append(numerator / ((mean_p**2 + mean_q**2 + c_1) * (variance_p + variance_q + c_2)))
    return float(np.mean(values))


@pytest.mark.parametrize("mixed", [0.0, 0.3, 0.9])
def test_ssim_is_that_of_a_plain_double_loop(mixed: float) -> None:
    a, b = noise(0), noise(1)
    b = (mixed * a + (1 - mixed) * b).astype(np.uint8)
    assert ssim(a, b) == pytest.approx(ssim_by_loops(a, b), abs=1e-9)
    assert ssim(a, b) == pytest.approx(ssim(b, a), abs=1e-12)


def test_ssim_of_equal_pictures_is_one_and_of_a_negative_is_below_zero() -> None:
    picture = noise(2)
    assert ssim(picture, picture) == pytest.approx(1)
    assert ssim(picture, 255 - picture) < -0.5


def test_ssim_of_flat_pictures_is_the_luminance_term() -> None:
    c_1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c_1) / (100**2 + 150**2 + c_1)
    assert ssim(flat(100), flat(150)) == pytest.approx(expected)


@pytest.mark.parametrize("size", [(4, 30), (9, 9), (10, 12), (11, 11)])
def test_ssim_of_a_picture_smaller_than_its_window_is_defined(size: tuple[int, int]) -> None:
    assert ssim(noise(3, size), noise(3, size)) == pytest.approx(1)
    assert -1 < ssim(noise(3, size), noise(4, size)) < 0.6


def test_psnr_of_one_level_everywhere_is_48_db_and_of_equal_pictures_99() -> None:
    assert psnr(flat(7), flat(8)) == pytest.approx(48.13, abs=0.005)
    assert psnr(noise(5), noise(5)) == 99


def test_gradient_is_in_grey_levels_a_pixel() -> None:
    ramp = np.tile(np.arange(20, dtype=np.uint8)[None, :, None] * 3, (10, 1, 3))
    assert gradient(ramp) == pytest.approx(3)
    assert gradient(flat(9)) == 0
    checks = np.indices((8, 8)).sum(axis=0) % 2 * np.uint8(10)
    assert gradient(np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)) == pytest.approx(20)


def test_a_smear_beats_a_sharp_picture_that_is_one_pixel_off_in_psnr_and_loses_in_gradient() -> None:
    truth = noise(6, (40, 40))
    smear, late = flat(int(truth.mean()), (40, 40)), np.roll(truth, 1, axis=1)
    figures = {name: compared(picture, truth) for name, picture in (("smear", smear), ("late", late))}
    assert figures["smear"]["psnr"] > figures["late"]["psnr"] + 2
    assert (
        figures["smear"]["gradient"] < 0.01 < figures["late"]["gradient"] / figures["late"]["gradient_truth"]
    )


def test_an_enlargement_has_the_size_asked_for_and_keeps_a_flat_picture() -> None:
    assert np.array_equal(enlarge(flat(40, (4, 6)), (20, 31)), flat(40, (20, 31)))
