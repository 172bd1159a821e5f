"""Pixels to and from the range of the networks."""

import numpy as np

from engine.frame import to_pixels, to_signed


def test_all_256_levels_survive_the_way_to_the_networks_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, axis=0)
    np.testing.assert_array_equal(to_pixels(to_signed(pixels)[None]), pixels.transpose(1, 2, 0))
    quantised = np.trunc((to_signed(pixels).astype(np.float64) + 1) / 2 * 255 + 1e-4) / 255 * 2 - 1
    np.testing.assert_array_equal(to_pixels(quantised[None].astype(np.float32)), pixels.transpose(1, 2, 0))
