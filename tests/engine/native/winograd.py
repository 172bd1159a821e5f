"""The products of F(4x4, 3x3) in float64, tile by tile: Lavin and Gray, "Fast algorithms for convolutional neural
networks", 2016. How far apart their sum lies from a convolution's where each has a rounding error of its own.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# The paper's matrices: of the input's transform, the weights', and the output's.
INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float64,
)
WEIGHTS = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64) / 24
OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float64
)


def sum_of_products(x: Array, weights: Array, power: int = 1) -> Array:
    """The sum of all that F(4x4, 3x3) adds for an output, each to a power: 1 is the convolution, in float64.

    Args:
        x: (1, C, H, W). weights: (K, C, 3, 3).
    """
    _, C, H, W = x.shape
    padded = np.pad(x[0].astype(np.float64), ((0, 0), (1, 1 + -H % 4), (1, 1 + -W % 4)))
    tiles = np.lib.stride_tricks.sliding_window_view(padded, (6, 6), (1, 2))[:, ::4, ::4]  # (C, ty, tx, 6, 6)
    v = (INPUT @ tiles @ INPUT.T) ** power
    u = (WEIGHTS @ weights.astype(np.float64) @ WEIGHTS.T) ** power
    products = np.einsum("kcij,cyxij->kyxij", u, v, optimize=True)
    y = OUTPUT**power @ products @ OUTPUT.T**power  # (K, ty, tx, 4, 4)
    rows, columns = 4 * y.shape[1], 4 * y.shape[2]
    whole: Array = y.transpose(0, 1, 3, 2, 4).reshape(1, len(weights), rows, columns)[:, :, :H, :W]
    return whole
