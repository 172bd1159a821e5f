"""How straight the lines of a picture are, in pixels: the sagitta of edges over two chords. Knows no worlds.

A point on an edge is compared with the edge's two points half a chord before and behind it: on a straight line the
three are in a row, on a bent one the middle lies aside by the **sagitta**; an arc of radius R has chord^2 / 8R of it.
The short chord sees what wavers, the long one also what bulges.
Edges are the ridges of the gradient of the smoothed grey; the direction of an edge is that of the structure tensor.
Corners, crossings and the ends of lines have no such partner and are not judged, so neither does it matter how many of
them there are. Hills and other honest curves count like walls: compare with real pictures of the same place.
"""

from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.figures import grey

Plane = npt.NDArray[np.float64]

CHORD, LONG_CHORD = 32.0, 64.0  # pixels
BENT = 0.75  # pixels of sagitta over the short chord, from which on a point counts as bent
UPPER = 0.73  # of the height: below is the weapon, whose outline is round
SMOOTHING = 1.5  # pixels, standard deviation of the Gaussian over the grey
NEIGHBOURHOOD = 2.0  # the same over the structure tensor
REACH = 3.0  # how far aside a partner is looked for, pixels; further off lies the next line, as often as not
PIXEL = 2  # places a pixel that are looked at
FAINTEST = 4.0  # grey levels a pixel, the least gradient of an edge
WEAKEST = 0.5  # of a point's gradient, the least of its partners'
TURN = 25.0  # degrees, the most that a partner's direction may differ


@dataclass(frozen=True)
class Bends:
    """Sagittas of several points together.

    Attributes:
        points: how many, over the short chord.
        total: their sum, pixels.
        bent: how many exceed `BENT`.
        long_points, long_total: the same over the long chord.
    """

    points: int = 0
    total: float = 0.0
    bent: int = 0
    long_points: int = 0
    long_total: float = 0.0

    def __add__(self, other: "Bends") -> "Bends":
        return Bends(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def to_json(self) -> dict[str, float | int | None]:
        """Plain data: "points", "mean_px", the "bent" share, "long_points", "long_mean_px"; None without points."""

        def mean(total: float, points: int) -> float | None:
            return round(total / points, 3) if points else None

        return {
            "points": self.points,
            "mean_px": mean(self.total, self.points),
            "bent": mean(self.bent, self.points),
            "long_points": self.long_points,
            "long_mean_px": mean(self.long_total, self.long_points),
        }


def bends(picture: npt.NDArray[np.uint8]) -> Bends:
    """Of a picture, uint8 RGB (H, W, 3). One that is hardly larger than the chord has no points."""
    edges = _Edges.of(picture)
    found, wide = edges.sagittas(CHORD), edges.sagittas(LONG_CHORD)
    return Bends(len(found), float(found.sum()), int((found > BENT).sum()), len(wide), float(wide.sum()))


def sagittas(picture: npt.NDArray[np.uint8], chord: float = CHORD) -> Plane:
    """Of every judged point of a picture, uint8 RGB (H, W, 3): pixels, not negative, (points,)."""
    return _Edges.of(picture).sagittas(chord)


@dataclass(frozen=True, eq=False)
class _Edges:
    """Points on the edges of a picture, and what it takes to find their partners.

    Attributes:
        slope: gradient of the smoothed grey, (H, W).
        cosine, sine: of twice the angle of the normal, (H, W).
        y, x: the points above the weapon, whole pixels, (points,).
        normal: at the points, (2, points): down, right.
        lowest: the row below which nothing counts.
    """

    slope: Plane
    cosine: Plane
    sine: Plane
    y: npt.NDArray[np.intp]
    x: npt.NDArray[np.intp]
    normal: Plane
    lowest: int

    @classmethod
    def of(cls, picture: npt.NDArray[np.uint8]) -> "_Edges":
        plane = _smooth(grey(picture).astype(np.float64), SMOOTHING)
        down, right = (np.asarray(part, np.float64) for part in np.gradient(plane))
        slope = np.hypot(down, right)
        across, along, mixed = (
            _smooth(product, NEIGHBOURHOOD) for product in (right * right, down * down, right * down)
        )
        doubled = np.arctan2(2 * mixed, across - along)
        ny, nx = np.sin(doubled / 2), np.cos(doubled / 2)

        lowest = int(UPPER * len(plane))
        ys, xs = np.mgrid[:lowest, : plane.shape[1]]
        here = slope[:lowest]
        behind, ahead = (_at(slope, ys + s * ny[:lowest], xs + s * nx[:lowest]) for s in (-1, 1))
        y, x = ((here >= behind) & (here > ahead) & (here > FAINTEST)).nonzero()
        return cls(slope, np.cos(doubled), np.sin(doubled), y, x, np.stack([ny[y, x], nx[y, x]]), lowest)

    def sagittas(self, chord: float) -> Plane:
        """Of the points that have both partners: pixels, (points,)."""
        slope, y, x, n = self.slope, self.y, self.x, self.normal
        if not len(y):
            return np.zeros(0)
        aside = np.arange(-REACH * PIXEL - PIXEL, REACH * PIXEL + PIXEL + 1) / PIXEL
        offsets, kept = [], np.ones(len(y), bool)
        for half in (-chord / 2, chord / 2):
            py, px = y - half * n[1], x + half * n[0]
            profile = np.stack([_at(slope, py + o * n[0], px + o * n[1]) for o in aside])
            best = profile[PIXEL:-PIXEL].argmax(axis=0) + PIXEL
            around = (np.take_along_axis(profile, best[None] + k, axis=0)[0] for k in (-PIXEL, 0, PIXEL))
            offset = aside[best] + _peak(*around)
            there = py + offset * n[0], px + offset * n[1]
            cosine, sine = self.cosine, self.sine
            twice_the_turn = _at(cosine, *there) * cosine[y, x] + _at(sine, *there) * sine[y, x]  # its cosine
            kept &= (py >= 0) & (py < self.lowest) & (px >= 0) & (px <= slope.shape[1] - 1)
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
