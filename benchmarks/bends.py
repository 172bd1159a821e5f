"""How straight the lines of a picture are, in pixels: the sagitta of edges over a short chord. Knows no worlds.

A point on an edge is compared with the edge's two points half a chord before and behind it: on a straight line the
three are in a row, on a bent one the middle lies aside by the **sagitta**; an arc of radius R has CHORD^2 / 8R of it.
Edges are the ridges of the gradient of the smoothed grey; the direction of an edge is that of the structure tensor.
Corners, crossings and the ends of lines have no such partner and are not judged, so neither does it matter how many of
them there are. Hills and other honest curves count like walls: compare with real pictures of the same place.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.figures import grey

Plane = npt.NDArray[np.float64]

CHORD = 32.0  # pixels
BENT = 0.75  # pixels of sagitta, from which on a point counts as bent
UPPER = 0.73  # of the height: below is the weapon, whose outline is round
SMOOTHING = 1.5  # pixels, standard deviation of the Gaussian over the grey
NEIGHBOURHOOD = 2.0  # the same over the structure tensor
REACH = 3.0  # how far aside a partner is looked for, pixels
PIXEL = 2  # places a pixel that are looked at
FAINTEST = 4.0  # grey levels a pixel, the least gradient of an edge
WEAKEST = 0.5  # of a point's gradient, the least of its partners'
TURN = 25.0  # degrees, the most that a partner's direction may differ


@dataclass(frozen=True)
class Bends:
    """Sagittas of several points together.

    Attributes:
        points: how many.
        total: their sum, pixels.
        bent: how many exceed `BENT`.
    """

    points: int = 0
    total: float = 0.0
    bent: int = 0

    def __add__(self, other: "Bends") -> "Bends":
        return Bends(self.points + other.points, self.total + other.total, self.bent + other.bent)

    def to_json(self) -> dict[str, float | int | None]:
        """Plain data: "points", "mean_px" and the "bent" share; None where there are no points."""
        points = self.points
        return {
            "points": points,
            "mean_px": round(self.total / points, 3) if points else None,
            "bent": round(self.bent / points, 3) if points else None,
        }


def bends(picture: npt.NDArray[np.uint8]) -> Bends:
    """Of a picture, uint8 RGB (H, W, 3). One that is hardly larger than the chord has no points."""
    found = sagittas(picture)
    return Bends(len(found), float(found.sum()), int((found > BENT).sum()))


def sagittas(picture: npt.NDArray[np.uint8]) -> Plane:
    """Of every judged point of a picture, uint8 RGB (H, W, 3): pixels, not negative, (points,)."""
    plane = _smooth(grey(picture).astype(np.float64), SMOOTHING)
    down, right = (np.asarray(part, np.float64) for part in np.gradient(plane))
    slope = np.hypot(down, right)
    across, along, mixed = (
        _smooth(product, NEIGHBOURHOOD) for product in (right * right, down * down, right * down)
    )
    doubled = np.arctan2(2 * mixed, across - along)  # twice the angle of the edge's normal
    ny, nx = np.sin(doubled / 2), np.cos(doubled / 2)
    cosine, sine = np.cos(doubled), np.sin(doubled)

    lowest = int(UPPER * len(plane))
    ys, xs = np.mgrid[:lowest, : plane.shape[1]]
    here = slope[:lowest]
    behind, ahead = (_at(slope, ys + s * ny[:lowest], xs + s * nx[:lowest]) for s in (-1, 1))
    y, x = ((here >= behind) & (here > ahead) & (here > FAINTEST)).nonzero()
    if not len(y):
        return np.zeros(0)

    n = np.stack([ny[y, x], nx[y, x]])
    aside = np.arange(-REACH * PIXEL - PIXEL, REACH * PIXEL + PIXEL + 1) / PIXEL
    offsets, kept = [], np.ones(len(y), bool)
    for half in (-CHORD / 2, CHORD / 2):
        py, px = y - half * n[1], x + half * n[0]
        profile = np.stack([_at(slope, py + o * n[0], px + o * n[1]) for o in aside])
        best = profile[PIXEL:-PIXEL].argmax(axis=0) + PIXEL
        around = (np.take_along_axis(profile, best[None] + k, axis=0)[0] for k in (-PIXEL, 0, PIXEL))
        offset = aside[best] + _peak(*around)
        there = py + offset * n[0], px + offset * n[1]
        twice_the_turn = _at(cosine, *there) * cosine[y, x] + _at(sine, *there) * sine[y, x]  # its cosine
        kept &= (py >= 0) & (py < lowest) & (px >= 0) & (px <= plane.shape[1] - 1)
        kept &= profile.argmax(axis=0) == best  # else the edge is further off
        kept &= profile.max(axis=0) > WEAKEST * slope[y, x]
        kept &= twice_the_turn > np.cos(np.radians(2 * TURN))
        offsets.append(offset)
    middle = _peak(*(_at(slope, y + s * n[0], x + s * n[1]) for s in (-1, 0, 1)))
    return np.abs((offsets[0] + offsets[1]) / 2 - middle)[kept]


def _smooth(plane: Plane, sigma: float) -> Plane:
    """A Gaussian's, edges repeated."""
    radius = int(3 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        wide = np.pad(plane, [(radius, radius) if axis == k else (0, 0) for k in (0, 1)], mode="edge")
        length = plane.shape[axis]
        plane = sum(
            (w * wide.take(range(k, k + length), axis) for k, w in enumerate(weights)), np.zeros_like(plane)
        )
    return plane


def _at(plane: Plane, y: Plane, x: Plane) -> Plane:
    """Bilinear; outside the nearest inside."""
    y = np.clip(y, 0, plane.shape[0] - 1.001)
    x = np.clip(x, 0, plane.shape[1] - 1.001)
    i, j = y.astype(int), x.astype(int)
    v, u = y - i, x - j
    upper = plane[i, j] * (1 - u) + plane[i, j + 1] * u
    lower = plane[i + 1, j] * (1 - u) + plane[i + 1, j + 1] * u
    return upper * (1 - v) + lower * v


def _peak(before: Plane, at: Plane, after: Plane) -> Plane:
    """Where the parabola through three neighbours, one pixel apart, is highest: -1 to 1."""
    curve = before - 2 * at + after
    return np.clip(0.5 * (before - after) / np.where(np.abs(curve) > 1e-9, curve, -1e-9), -1, 1)
