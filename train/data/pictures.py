"""Rows of frames as one picture, for people to look at."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def grid(rows: Sequence[Sequence[Pixels] | Pixels], scale: int = 1, gap: int = 2) -> Pixels:
    """Rows of equally many frames, uint8 (H, W, 3) each, enlarged `scale` times in squares, with dark gaps between."""
    H, W, _ = rows[0][0].shape
    sheet = np.full((len(rows) * (H + gap), len(rows[0]) * (W + gap), 3), 32, np.uint8)
    for r, row in enumerate(rows):
        for c, frame in enumerate(row):
            top, left = r * (H + gap), c * (W + gap)
            sheet[top : top + H, left : left + W] = frame
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)
