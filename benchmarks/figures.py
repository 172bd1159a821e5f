"""What one picture is worth beside another: PSNR, SSIM, gradient. Knows no worlds and no recordings.

Pictures are uint8 RGB (H, W, 3), 0-255. PSNR is over all three channels; SSIM and gradient are over their grey, the
mean of red, green and blue.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from export.report import psnr_db

Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float64]
EQUAL_DB = 99.0  # the PSNR of equal pictures, which is infinite, so that means over pictures stay finite
WINDOW, SIGMA = 11, 1.5  # pixels; this, K1 and K2 are those of Wang et al. 2004
K1, K2 = 0.01, 0.03
PEAK = 255


def compared(picture: Pixels, truth: Pixels) -> dict[str, float]:
    """The figures of a picture: "psnr" in dB, "ssim" -1 to 1, "gradient" and "gradient_truth" in grey levels."""
    return {
        "psnr": psnr(picture, truth),
        "ssim": ssim(picture, truth),
        "gradient": gradient(picture),
        "gradient_truth": gradient(truth),
    }


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio, dB; 99 where the pictures are equal."""
    decibels = psnr_db(a, b)
    return EQUAL_DB if decibels is None else decibels


def ssim(a: Pixels, b: Pixels) -> float:
    """Structural similarity of the greys, -1 to 1; 1 where they are equal.

    Wang, Bovik, Sheikh and Simoncelli 2004, eq. 13, weighted by a Gaussian window of 11x11 pixels and standard
    deviation 1.5 that sums to 1, and averaged over all places where the window lies inside the picture. A picture
    smaller than the window has the largest odd window that fits.
    """
    x, y = grey(a), grey(b)
    weights = _gaussian(min(WINDOW, (min(x.shape) - 1) | 1))
    mean_x, mean_y = _weighted(x, weights), _weighted(y, weights)
    variance_x = _weighted(x * x, weights) - mean_x**2
    variance_y = _weighted(y * y, weights) - mean_y**2
    covariance = _weighted(x * y, weights) - mean_x * mean_y
    c_1, c_2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    luminance = (2 * mean_x * mean_y + c_1) / (mean_x**2 + mean_y**2 + c_1)
    structure = (2 * covariance + c_2) / (variance_x + variance_y + c_2)
    return float((luminance * structure).mean())


def gradient(picture: Pixels) -> float:
    """Mean absolute difference of neighbouring grey pixels, across and down added: grey levels."""
    plane = grey(picture)
    return float(np.abs(np.diff(plane, axis=0)).mean() + np.abs(np.diff(plane, axis=1)).mean())


def grey(picture: Pixels) -> Plane:
    """The mean of red, green and blue: float64 (H, W), 0-255."""
    plane: Plane = picture.mean(axis=2, dtype=np.float64)
    return plane


def enlarge(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """Bicubic enlargement to (height, width)."""
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _gaussian(size: int) -> Plane:
    """Weights of a window's rows, or columns; their products are the two-dimensional window."""
    weights = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * SIGMA**2))
    return np.asarray(weights / weights.sum())


def _weighted(plane: Plane, weights: Plane) -> Plane:
    """Weighted mean of every window that lies inside: (H, W) -> (H - size + 1, W - size + 1)."""
    for axis in (0, 1):
        count = plane.shape[axis] - len(weights) + 1
        shifted = [plane.take(range(k, k + count), axis) * weight for k, weight in enumerate(weights)]
        plane = np.sum(shifted, axis=0)
    return plane
