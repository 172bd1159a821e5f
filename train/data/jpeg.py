"""JPEG in and out, with simplejpeg where it is installed and Pillow elsewhere.

Colour is kept at full resolution (4:4:4): game pictures have hard, saturated edges, and the upsampler learns
from them.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

try:
    import simplejpeg
except ImportError:  # Pillow does the same, three times slower
    simplejpeg = None


def encode_jpeg(frame: NDArray[np.uint8], quality: int) -> bytes:
    """uint8 RGB (H, W, 3) -> JPEG bytes, quality 1-100."""
    if simplejpeg is not None:
        pixels = np.ascontiguousarray(frame)
        return bytes(
            simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="RGB", colorsubsampling="444")
        )
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """JPEG bytes -> uint8 RGB (H, W, 3). ValueError where they are not a whole JPEG."""
    if simplejpeg is not None:
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True))
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except OSError as error:  # Pillow's name for a broken picture
        raise ValueError(str(error)) from error
