"""Frames as people see them, and pixels to and from the range that the networks work in."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame; its arrays are the caller's own.

    Attributes:
        rgb: uint8 (H, W, 3), 0-255: the upsampler's frame, or `low_res` in a world without one.
        low_res: uint8 (h, w, 3), 0-255: the denoiser's frame.
        index: number of steps since the reset; 0 for the frame of the reset itself.
        timings_ms: milliseconds spent in the networks ("conditioner", "denoiser", "upsampler"), in noise and
            arithmetic ("sampler"), in histories, pixels and checks ("other"), and in "total". Where a GPU replays a
            frame as one piece, all of it is "other".
    """

    rgb: Pixels
    low_res: Pixels
    index: int
    timings_ms: Mapping[str, float]


def to_signed(pixels: Pixels) -> Floats:
    """uint8 0-255 to float32 in [-1, 1], in the order of operations with which the networks quantise."""
    return pixels.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)


def to_pixels(image: Floats) -> Pixels:
    """float32 (1, 3, H, W) in [-1, 1] to uint8 (H, W, 3); exact for values on one of the 256 levels."""
    scaled = image[0] + np.float32(1)
    scaled *= np.float32(127.5)
    planes = np.rint(scaled, out=scaled).astype(np.uint8)
    pixels = np.empty((*planes.shape[1:], len(planes)), np.uint8)
    for channel, plane in enumerate(planes):  # half the time of one transposed copy
        pixels[..., channel] = plane
    return pixels
