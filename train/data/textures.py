"""The court's walls and ground, painted here: large plain panels that stay legible 30 pixels high.

Brick and grass of the game turn to noise at that size, and a small network makes ripples of them. A texture is an
RGB picture, one pixel a map unit; the engine rounds it to the game's 256 colours.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RGB = tuple[int, int, int]

PANEL_WIDTH = 112  # map units from seam to seam
SEAM, TRIM, SKIRTING = 8, 18, 14  # map units
SHADE = 0.45  # of the wall's colour: seams and skirting
SPARE = 16  # rows below the foot of a wall: the engine at times reads one too many, and what lies in memory would show
# What is left to see where a wall fills the view: a rail at the height of the eye, a groove in the middle of a panel.
RAIL, GROOVE = slice(44, 52), 3  # map units above the ground; map units wide
FAINT_SHADE = 0.75
GROUND: RGB = (71, 95, 47)
POOL: RGB = (115, 115, 255)
SKY_WIDTH, SKY_HEIGHT = 1024, 128  # once around
# From the top down.
SKY_COLOURS: tuple[RGB, ...] = ((143, 143, 255), (171, 171, 255), (199, 199, 255), (231, 231, 255))
RIDGES: tuple[RGB, ...] = ((147, 147, 147), (83, 99, 63))  # far and near


@dataclass(frozen=True)
class Paint:
    """A wall's colours: its panels, the trim along its top, and a gate in its middle."""

    panel: RGB
    trim: RGB
    gate: RGB


WALLS = {
    "NORTH": Paint((183, 71, 31), (240, 224, 200), (235, 223, 195)),
    "EAST": Paint((55, 75, 199), (203, 203, 203), (243, 175, 63)),
    "SOUTH": Paint((203, 163, 95), (111, 67, 27), (63, 39, 19)),
    "WEST": Paint((199, 199, 199), (79, 79, 79), (167, 19, 19)),
}
PILLARS: dict[str, RGB] = {
    "NEPILLAR": (239, 191, 31),
    "NWPILLAR": (63, 131, 47),
    "SWPILLAR": (39, 39, 39),
    "SEPILLAR": (167, 19, 19),
}


def paint_textures(wall_height: int) -> dict[str, bytes]:
    """Every texture of the court as PNG, by the name that the map calls it by (8 letters at most).

    Those of walls are `wall_height` + SPARE rows high.
    """
    walls: dict[str, NDArray[np.uint8]] = {}
    for side, paint in WALLS.items():
        walls[side] = _panels(paint, wall_height, PANEL_WIDTH)
        walls[f"{side[0]}GATE"] = _gate(paint, wall_height, 2 * PANEL_WIDTH)
    for name, colour in PILLARS.items():
        walls[name] = _panels(Paint(colour, (223, 223, 223), colour), wall_height, 64)
    pictures = {name: np.pad(wall, ((0, SPARE), (0, 0), (0, 0)), mode="edge") for name, wall in walls.items()}
    pictures["GROUND"] = _ground()
    pictures["POOL"] = np.tile(np.array(POOL, np.uint8), (64, 64, 1))
    pictures["HILLS"] = _sky()
    return {name: _png(picture) for name, picture in pictures.items()}


def _panels(paint: Paint, height: int, width: int) -> NDArray[np.uint8]:
    """One panel between two half seams, a trim above and a skirting below."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = paint.panel
    dark, faint = np.array(paint.panel) * SHADE, np.array(paint.panel) * FAINT_SHADE
    picture[height - RAIL.stop : height - RAIL.start] = faint
    picture[:, width // 2 - 1 : width // 2 - 1 + GROOVE] = faint
    picture[:, : SEAM // 2] = picture[:, -SEAM // 2 :] = dark
    picture[:TRIM] = paint.trim
    picture[-SKIRTING:] = dark
    return picture


def _gate(paint: Paint, height: int, width: int) -> NDArray[np.uint8]:
    """The middle of a side: a closed gate as wide as a panel and a half between two narrow panels."""
    picture = np.tile(_panels(paint, height, width // 2), (1, 2, 1))
    margin = width // 8
    frame = (np.array(paint.panel) * SHADE).astype(np.uint8)
    picture[2 * TRIM :, margin : width - margin] = frame
    inside = picture[2 * TRIM + SEAM : -SKIRTING, margin + SEAM : width - margin - SEAM]
    inside[:] = paint.gate
    faint = np.array(paint.gate) * FAINT_SHADE
    inside[:, inside.shape[1] // 2 - SEAM // 2 : inside.shape[1] // 2 + SEAM // 2] = faint
    picture[height - RAIL.stop : height - RAIL.start, margin + SEAM : width - margin - SEAM] = faint
    return picture


def _ground() -> NDArray[np.uint8]:
    """A plain with a soft grain, which shows that the ground moves when one looks down."""
    rng = np.random.default_rng(0)
    grain = rng.normal(size=(16, 16)).repeat(8, 0).repeat(8, 1)
    for axis in (0, 1):
        for _ in range(3):
            grain = (np.roll(grain, 3, axis) + grain + np.roll(grain, -3, axis)) / 3
    shade = 6 * grain / grain.std()
    return np.clip(np.array(GROUND) + shade[..., None], 0, 255).astype(np.uint8)


def _sky() -> NDArray[np.uint8]:
    """Bands of sky over two ridges of hills, which look different in every direction."""
    rows = np.arange(SKY_HEIGHT)[:, None]
    band = np.minimum(rows * len(SKY_COLOURS) // 88, len(SKY_COLOURS) - 1)
    picture = np.array(SKY_COLOURS, np.uint8)[np.broadcast_to(band, (SKY_HEIGHT, SKY_WIDTH))]
    turn = 2 * np.pi * np.arange(SKY_WIDTH) / SKY_WIDTH
    far = 14 + 9 * np.sin(turn) + 6 * np.sin(3 * turn + 1) + 3 * np.sin(7 * turn)
    near = 5 + 9 * np.sin(2 * turn + 4) + 4 * np.sin(5 * turn + 2)
    for colour, height in zip(RIDGES, (far, near), strict=True):
        picture[rows > SKY_HEIGHT - 36 - height] = colour
    return picture


def _png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
