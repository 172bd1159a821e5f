"""What more cores would give, computed from what few of them gave: Amdahl's law, stage by stage.

A stage takes T(n) = serial + parallel / n on n threads (Amdahl 1967); both are fitted to the times measured, exactly
where there are two. Memory that all cores share, and clocks that fall under load, are not in it: it is the shape to
expect, not a measurement, and is labelled so wherever it is shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stage:
    """The law of one stage, milliseconds."""

    serial_ms: float
    parallel_ms: float

    @classmethod
    def fit(cls, measured_ms: Mapping[int, float]) -> "Stage":
        """Least squares over {threads: milliseconds}; with one number of threads all of it counts as serial.

        Neither part is less than nothing: a stage that got slower with threads is serial, one that got faster than
        their number is parallel.
        """
        threads = np.array(list(measured_ms), dtype=float)
        times = np.array(list(measured_ms.values()))
        if len(threads) < 2:
            return cls(float(times.mean()), 0.0)
        parallel, serial = np.polyfit(1 / threads, times, 1)
        if parallel < 0:
            return cls(float(times.mean()), 0.0)
        if serial < 0:  # through the origin
            return cls(0.0, float((times / threads).sum() / (1 / threads**2).sum()))
        return cls(float(serial), float(parallel))

    def at(self, threads: int) -> float:
        """Milliseconds on so many threads."""
        return self.serial_ms + self.parallel_ms / threads


def fit(stages_ms: Mapping[int, Mapping[str, float]]) -> dict[str, Stage]:
    """The law of every stage, from {threads: {stage: milliseconds}}."""
    names = next(iter(stages_ms.values()))
    return {
        name: Stage.fit({threads: stages[name] for threads, stages in stages_ms.items()}) for name in names
    }


def frame_ms(laws: Mapping[str, Stage], threads: int) -> float:
    """A frame: all stages, one after the other."""
    return sum(law.at(threads) for law in laws.values())


def parallel_share(laws: Mapping[str, Stage]) -> float:
    """What of a frame on one thread can be shared among threads."""
    return sum(law.parallel_ms for law in laws.values()) / frame_ms(laws, 1)
