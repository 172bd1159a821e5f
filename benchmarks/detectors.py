"""What can be wrong with a picture of a place, one frame at a time: frozen, flat, mush, off colour. Knows no worlds.

- **Frozen**: the mouse turned, and the picture hardly differs from the one before. Frames whose mouse rested are not
  judged: a player who leans against a wall sees the same twice in the real game, too.
- **Flat**: low contrast and few edges, both: a wall of one colour and nothing else.
- **Mush**: little gradient for the contrast that there is. A bare wall has little of both, a blurred picture keeps its
  large patches and loses what is between neighbours, so the ratio tells the two apart.
- **Drift**: colours as no reference picture has them, see `Look.palette`.

A single frame proves nothing; `IN_A_ROW` judged frames in a row are an alarm. What counts as low is `Limits`, taken
from recordings, or, less surely, from a world's spawns (`benchmarks/limits.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.bends import Bends, bends
from benchmarks.figures import gradient, grey

Pixels = npt.NDArray[np.uint8]
Palette = npt.NDArray[np.float32]
Flag = bool | None  # None: not judged

DETECTORS = ("frozen", "flat", "mush", "drift")
IN_A_ROW = 15  # frames, nearly a second at 17.5 frames a second
EDGE_LEVELS = 8  # grey levels between neighbours that make an edge
QUANTILES = 32  # of each colour channel
TURNED_UNITS = 20  # mouse units in a frame, from which on the picture has to move
BENDS_EVERY = 10  # frames; lines of neighbouring frames are the same lines


@dataclass(frozen=True)
class Look:
    """What is measured of one picture.

    Attributes:
        gradient: see `benchmarks.figures.gradient`, grey levels.
        contrast: standard deviation of the grey, grey levels.
        edges: share of neighbouring pixels whose grey differs by more than `EDGE_LEVELS`, 0 to 1.
        palette: float32 (3 * QUANTILES,), 0-255: evenly spaced quantiles of red, of green and of blue. The mean
            absolute difference of two palettes is the earth mover's distance between their colour histograms, levels.
    """

    gradient: float
    contrast: float
    edges: float
    palette: Palette

    @classmethod
    def of(cls, picture: Pixels) -> "Look":
        """Measures a picture, uint8 RGB (H, W, 3)."""
        plane = grey(picture)
        steps = [np.abs(np.diff(plane, axis=axis)) > EDGE_LEVELS for axis in (0, 1)]
        return cls(
            gradient(picture),
            float(plane.std()),
            float(np.mean([step.mean() for step in steps])),
            _palette(picture),
        )

    @property
    def crispness(self) -> float:
        """Gradient relative to contrast; a picture of one colour has 0."""
        return self.gradient / max(self.contrast, 1.0)


@dataclass(frozen=True, eq=False)
class Limits:
    """What a healthy picture keeps to.

    Attributes:
        motion: the least mean absolute difference from the picture before while the mouse turns, levels.
        contrast, edges, crispness: the least of each, see `Look`.
        drift: the largest distance from the nearest of `palettes`, levels; may be infinite.
        palettes: float32 (N, 3 * QUANTILES), of the reference pictures.
        gradient: the reference pictures' mean, that sharpness is relative to.
        source: where all that comes from, in words.
    """

    motion: float
    contrast: float
    edges: float
    crispness: float
    drift: float
    palettes: Palette
    gradient: float
    source: str

    def flags(self, look: Look, moved: float | None) -> dict[str, Flag]:
        """Which detectors fire.

        Args:
            look: of the picture.
            moved: `motion` since the picture before; None where the mouse rested, or there is none before.
        """
        return {
            "frozen": None if moved is None else moved < self.motion,
            "flat": look.contrast < self.contrast and look.edges < self.edges,
            "mush": look.crispness < self.crispness,
            "drift": distance(look.palette, self.palettes) > self.drift,
        }

    def to_json(self) -> dict[str, float | str | None]:
        """Plain data, without the palettes; "drift" is None where no colour is off."""
        numbers = {
            name: round(getattr(self, name), 4) for name in ("motion", "contrast", "edges", "crispness")
        }
        return numbers | {
            "drift": round(self.drift, 3) if np.isfinite(self.drift) else None,
            "gradient": round(self.gradient, 3),
            "source": self.source,
        }


def motion(before: Pixels, after: Pixels) -> float:
    """Mean absolute difference of two pictures of one size, levels 0-255."""
    return float(np.abs(after.astype(np.int16) - before).mean())


def distance(palette: Palette, palettes: Palette) -> float:
    """Earth mover's distance from the nearest of `palettes`, (N, 3 * QUANTILES), grey levels."""
    return float(np.abs(palettes - palette).mean(axis=1).min())


@dataclass
class Log:
    """What the detectors said of a rollout, frame by frame.

    Attributes:
        flags: by detector, an entry a frame; entry 0 is frame 1.
        gradients: of every frame, grey levels.
        bends: of the lines in every `BENDS_EVERY`-th frame.
    """

    limits: Limits
    flags: dict[str, list[Flag]] = field(default_factory=lambda: {name: [] for name in DETECTORS})
    gradients: list[float] = field(default_factory=list)
    bends: Bends = field(default_factory=Bends)

    def see(self, picture: Pixels, before: Pixels | None, turned: bool) -> None:
        """One more frame, uint8 RGB (H, W, 3).

        Args:
            picture: the frame; it is only read.
            before: the frame before it.
            turned: whether the mouse turned by `TURNED_UNITS` or more between the two.
        """
        moved = motion(before, picture) if turned and before is not None else None
        look = Look.of(picture)
        for name, flag in self.limits.flags(look, moved).items():
            self.flags[name].append(flag)
        if len(self.gradients) % BENDS_EVERY == 0:
            self.bends += bends(picture)
        self.gradients.append(look.gradient)

    def to_json(self) -> dict[str, Mapping[str, int | None]]:
        """By detector: "judged" and "fired" frames, "longest" row of fired ones, "alarms", and the "first" of them."""
        return {name: rows_of(flags) for name, flags in self.flags.items()}


def rows_of(flags: Sequence[Flag]) -> dict[str, int | None]:
    """Counts of one detector.

    Frames that were not judged neither end a row nor lengthen it. An alarm is a row of `IN_A_ROW` or more.

    Returns:
        "judged", "fired", "longest" and "alarms"; and "first", the number, from 1, of the frame in which the first
        alarm's row begins, None without one.
    """
    length = longest = alarms = 0
    began = first = None
    for frame, flag in enumerate(flags, start=1):
        if flag is None:
            continue
        length = length + 1 if flag else 0
        if length == 1:
            began = frame
        if length == IN_A_ROW:
            alarms += 1
            first = began if first is None else first
        longest = max(longest, length)
    judged = [flag for flag in flags if flag is not None]
    return {
        "judged": len(judged),
        "fired": sum(judged),
        "longest": longest,
        "alarms": alarms,
        "first": first,
    }


def _palette(picture: Pixels) -> Palette:
    """See `Look.palette`; from counts, which sorts nothing."""
    count = picture.shape[0] * picture.shape[1]
    ranks = (np.arange(QUANTILES) + 0.5) / QUANTILES * count
    channels = [np.bincount(picture[..., c].ravel(), minlength=256).cumsum() for c in range(3)]
    return np.concatenate([np.searchsorted(sums, ranks) for sums in channels]).astype(np.float32)
