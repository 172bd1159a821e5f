"""What can go wrong in hours of play, watched frame by frame: NaN, a picture that stands still, a leak.

- **Not a number.** The world itself refuses to paint NaN or infinity; a refusal ends the watch as a failure.
- **Stuck.** A step of the world always draws new noise, so two frames that equal each other in every pixel are suspect,
  and `STUCK_FRAMES` in a row are a failure. A picture of one colour is as dead: it counts like an equal one.
- **Leak.** Resident memory is sampled every so many frames. Through the samples behind the first tenth, which warm up,
  goes a straight line (Theil-Sen: the median slope over all pairs, which single jumps do not move). Growth along it,
  from its first sample to its last, beyond a bound is a failure.

Knows no world: it is shown pictures and numbers.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

STUCK_FRAMES = 8
WARM_UP_SHARE = 0.1
FEWEST_SAMPLES = 5
GROWTH_BYTES_AT_MOST = 8 << 20


@dataclass
class Watch:
    """The observations of one soak.

    Attributes:
        frames: pictures seen.
        equal_frames: of them, those equal to the one before, or of a single colour.
        longest_equal: the most of those in a row.
        samples: (frames seen, resident bytes).
        refusals: what the world refused to paint, in its words.
    """

    frames: int = 0
    equal_frames: int = 0
    longest_equal: int = 0
    samples: list[tuple[int, int]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    _before: npt.NDArray[np.uint8] | None = None
    _in_a_row: int = 0

    def see(self, picture: npt.NDArray[np.uint8]) -> None:
        """One more picture, uint8 (H, W, 3); the caller's array is only read, and not kept changed by it."""
        self.frames += 1
        before, self._before = self._before, picture
        equal = before is not None and np.array_equal(before, picture)
        if equal or bool((picture == picture[0, 0]).all()):
            self.equal_frames += 1
            self._in_a_row += 1
            self.longest_equal = max(self.longest_equal, self._in_a_row)
        else:
            self._in_a_row = 0

    def sample(self, resident_bytes: int) -> None:
        """Memory now."""
        self.samples.append((self.frames, resident_bytes))

    def start_over(self) -> None:
        """The next picture follows a reset, and is compared with none."""
        self._before, self._in_a_row = None, 0

    @property
    def stuck(self) -> bool:
        """Whether the picture stands still by now."""
        return self.longest_equal >= STUCK_FRAMES

    @property
    def growth(self) -> "Growth":
        """How memory went after the warm-up."""
        return Growth.of(self.samples)

    def failures(self, growth_bytes_at_most: int = GROWTH_BYTES_AT_MOST) -> list[str]:
        """One phrase for everything that went wrong; empty where nothing did."""
        found = [f"after {self.frames} frames: {words}" for words in self.refusals]
        if self.stuck:
            found.append(
                f"the picture stood still for {self.longest_equal} frames, {STUCK_FRAMES} are too many"
            )
        if len(self.samples) < FEWEST_SAMPLES:
            found.append(
                f"memory was sampled {len(self.samples)} times, {FEWEST_SAMPLES} are too few to judge by"
            )
        elif self.growth.total_bytes > growth_bytes_at_most:
            found.append(
                f"resident memory grew by {self.growth.total_bytes / 1e6:.1f} MB after warm-up, "
                f"{growth_bytes_at_most / 1e6:.1f} MB are allowed"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        growth = self.growth
        return {
            "frames": self.frames,
            "equal_frames": self.equal_frames,
            "longest_equal": self.longest_equal,
            "resident_mb": [[frame, round(resident / 1e6, 2)] for frame, resident in self.samples],
            "growth_mb": round(growth.total_bytes / 1e6, 3),
            "growth_bytes_a_frame": round(growth.bytes_a_frame, 2),
        }


@dataclass(frozen=True)
class Growth:
    """A straight line through samples of memory.

    Attributes:
        bytes_a_frame: its slope.
        frames: from the first sample behind the warm-up to the last.
    """

    bytes_a_frame: float
    frames: int

    @classmethod
    def of(cls, samples: Sequence[tuple[int, int]]) -> "Growth":
        """The line of (frame, bytes) samples; level where there are fewer than two behind the warm-up."""
        kept = samples[round(len(samples) * WARM_UP_SHARE) :]
        slopes = [(b - a) / (t - s) for (s, a), (t, b) in itertools.combinations(kept, 2) if t > s]
        if not slopes:
            return cls(0.0, 0)
        return cls(float(np.median(slopes)), kept[-1][0] - kept[0][0])

    @property
    def total_bytes(self) -> float:
        """Along the line, from its first sample to its last."""
        return self.bytes_a_frame * self.frames
