"""Contact sheets: what was recorded, and below it what a configuration made of the same start."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.frontier import Entry
from engine.errors import DiamondError
from train.data.pictures import grid

Pixels = npt.NDArray[np.uint8]
LEAST_WIDTH = 200  # pixels; smaller frames are enlarged


def write_sheets(file: Path, recorded: Sequence[Sequence[Pixels]], entries: Sequence[Entry]) -> None:
    """Writes a sheet for each configuration; where there are several, its name behind the file's stem.

    Raises:
        DiamondError: a file cannot be written.
    """
    for entry in entries:
        rows = [row for pair in zip(recorded, entry.sheet, strict=True) for row in pair]
        name = re.sub(r"[^a-z0-9.]+", "-", entry.config.label.lower())
        path = file.with_stem(f"{file.stem}-{name}") if len(entries) > 1 else file
        write_sheet(path, rows)


def write_sheet(path: Path, rows: Sequence[Sequence[Pixels]]) -> None:
    """Writes rows of equally many pictures, uint8 RGB (H, W, 3) each, as one picture; small ones are enlarged.

    Raises:
        DiamondError: the file cannot be written.
    """
    scale = max(1, LEAST_WIDTH // rows[0][0].shape[1])
    try:
        Image.fromarray(grid(rows, scale)).save(path)
    except (OSError, ValueError) as error:  # ValueError: an ending that names no kind of picture
        raise DiamondError(
            f"--sheet {path}: cannot be written: {error}", "a picture, such as sheet.png"
        ) from error
