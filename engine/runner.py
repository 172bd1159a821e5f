"""The seam between a world and whoever paints its frames.

By default the engine walks through a frame itself, graph by graph (`engine.host_runner`); a backend may offer a runner
of its own that does a whole frame at once, with histories that live on a device. A runner knows nothing of spawns,
names or time.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.frame import Pixels
from engine.graphs import Network
from engine.history import History
from engine.schedule import SamplerConfig, Step

Samplers = Mapping[Network, SamplerConfig]


@dataclass(frozen=True, eq=False)
class Painted:
    """What a runner made of a step.

    Attributes:
        rgb, low_res: as in `engine.frame.Frame`; the caller's own.
        timings_ms: "conditioner", "denoiser", "upsampler", "sampler", as in `engine.frame.Frame`; 0 where a runner
            can't tell them apart.
        not_finite: the first network that painted NaN or infinity, in which case the histories are as they were and the
            pixels mean nothing.
    """

    rgb: Pixels
    low_res: Pixels
    timings_ms: Mapping[str, float]
    not_finite: Network | None = None


class FrameRunner(ABC):
    """Paints frame after frame. Used by one thread at a time."""

    @property
    @abstractmethod
    def samplers(self) -> Samplers:
        """The current settings by network."""

    @property
    @abstractmethod
    def schedules(self) -> Mapping[Network, tuple[Step, ...]]:
        """The current settings laid out step by step, by network."""

    @abstractmethod
    def configure(self, samplers: Samplers) -> None:
        """Replaces the settings of all networks, from the next step on; the histories stay."""

    @abstractmethod
    def load(self, history: History) -> None:
        """Takes over the frames and actions of a history, after a reset or a restore."""

    @abstractmethod
    def save(self, history: History) -> None:
        """Writes the current frames and actions into a history, before a snapshot."""

    @abstractmethod
    def step(self, action: npt.NDArray[np.float32], frame: int) -> Painted:
        """Plays one frame and rolls the histories.

        Args:
            action: float32 (A,), valid.
            frame: number of steps since the reset, the key of the frame's noise.
        """

    @abstractmethod
    def close(self) -> None:
        """Frees what the runner itself holds, not the graphs; closing twice is harmless."""
