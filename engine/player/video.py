"""Frames to an mp4 file that any player shows: H.264, yuv420p, through PyAV.

The only file that imports av.
"""

import importlib
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from engine.errors import DiamondError
from engine.whole_file import WholeFile, cannot_write

Image = npt.NDArray[np.uint8]
Enlargement = Literal["nearest", "lanczos"]
_SWSCALE = {"nearest": "POINT", "lanczos": "LANCZOS"}  # the scaler's names
CRF = 18  # visually lossless
BT709 = 1  # AVCOL_*_BT709: written into the file, or players guess the colour matrix from the picture's size


def require_av() -> Any:
    """The av module.

    Raises:
        DiamondError: it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise DiamondError(
            f"video needs PyAV, which does not load ({error})", "", "pip install 'diamond-engine[record]'"
        ) from error


class VideoWriter:
    """Writes one mp4. As a context manager: complete when the block ends, gone without a trace when it
    raises.

    Args:
        path: the file; it appears only when complete.
        fps: frames a second.
        scale: whole-number enlargement; most video players blur small pictures.
        enlargement: "nearest" keeps the pixels square, "lanczos" is smooth.

    Raises:
        DiamondError: av is missing, a bad scale, or the file cannot be written (also from `add` and `close`).
    """

    def __init__(self, path: Path, fps: float, scale: int = 2, enlargement: Enlargement = "lanczos") -> None:
        if scale < 1:
            raise DiamondError(f"video scale {scale}", "1 or more")
        self._av = require_av()
        self.path, self.frames = path, 0
        self._scale, self._enlargement = scale, _SWSCALE[enlargement]
        self._rate = Fraction(fps).limit_denominator(1001)
        self._stream: Any = None
        self._output = WholeFile(path)
        try:
            self._container = self._av.open(self._output.file, "w", format="mp4")
        except BaseException:  # Ctrl-C too
            self._output.discard()
            raise

    def add(self, rgb: Image) -> None:
        """Appends one frame, uint8 RGB (H, W, 3), 0-255; every frame has the first one's size."""
        H, W, _ = rgb.shape
        height, width = ((side * self._scale + 1) // 2 * 2 for side in (H, W))  # yuv420p needs even sides
        try:
            if self._stream is None:
                self._stream = self._open_stream(height, width)
            picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(
                width,
                height,
                "yuv420p",
                dst_colorspace="ITU709",
                dst_color_range="MPEG",
                interpolation=self._enlargement,
            )
            picture.pts, picture.time_base = self.frames, 1 / self._rate
            self._container.mux(self._stream.encode(picture))
        except OSError as error:
            self.discard()
            raise cannot_write(self.path, error) from error
        self.frames += 1

    def close(self) -> None:
        """Finishes the file and gives it its name; without a single frame there is no file."""
        if self._stream is None:
            self.discard()
            return
        try:
            self._container.mux(self._stream.encode(None))  # what the encoder still holds
            self._container.close()
        except OSError as error:
            self.discard()
            raise cannot_write(self.path, error) from error
        self._output.commit()

    def discard(self) -> None:
        """Gives the video up and leaves nothing on the disk; harmless when repeated."""
        with suppress(Exception):  # a container whose file failed fails again
            self._container.close()
        self._output.discard()

    def _open_stream(self, height: int, width: int) -> Any:
        stream = self._container.add_stream("h264", rate=self._rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # One thread, and quickly: the world needs the cores more.
        stream.options = {"crf": str(CRF), "preset": "veryfast", "threads": "1"}
        codec = stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = 1  # limited range, "MPEG"
        return stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self.discard()
