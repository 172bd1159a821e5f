"""The runner of every backend that has none of its own: graph by graph through a frame, in numpy between them."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend
from engine.bundle import Bundle
from engine.frame import Floats
from engine.graphs import Network as NetworkName
from engine.history import History
from engine.network import Network
from engine.noise import NoiseSource
from engine.runner import FrameRunner, Painted, Samplers
from engine.schedule import Step


class HostRunner(FrameRunner):
    """Paints with graphs that take and give numpy arrays.

    Args:
        bundle, precision, backend: which graphs, and what loads them.
        samplers: the settings to start with.
        noise: where random numbers come from.
        history: the world's own; it is read and rolled in place.

    Raises:
        DiamondError: the graphs cannot be loaded.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: str,
        backend: Backend,
        samplers: Samplers,
        noise: NoiseSource,
        history: History,
    ) -> None:
        self._networks: dict[NetworkName, Network] = {
            name: Network(name, bundle, precision, backend, samplers[name]) for name in bundle.manifest.noise
        }
        self._noise, self._history = noise, history

    @property
    def samplers(self) -> Samplers:
        """The current settings by network."""
        return {name: network.config for name, network in self._networks.items()}

    @property
    def schedules(self) -> Mapping[NetworkName, tuple[Step, ...]]:
        """The current settings laid out step by step, by network."""
        return {name: network.steps for name, network in self._networks.items()}

    def configure(self, samplers: Samplers) -> None:
        """Replaces the settings of the networks whose settings differ."""
        for name, network in self._networks.items():
            if network.config != samplers[name]:
                network.configure(samplers[name])

    def load(self, history: History) -> None:
        """Nothing to do: the world's history is the one in use."""
        assert history is self._history

    def save(self, history: History) -> None:
        """Nothing to do, as in `load`."""
        assert history is self._history

    def step(self, action: npt.NDArray[np.float32], frame: int) -> Painted:
        """Plays one frame, see `FrameRunner.step`."""
        # 1. The action goes into the newest slot.
        history = self._history
        history.act(action)

        # 2. The denoiser paints the next frame.
        denoiser = self._networks["denoiser"]
        low_res = denoiser.predict(history.low_res, self._noise, frame, action=history.actions)
        painting_ms = {
            "conditioner": denoiser.conditioner_ms,
            "denoiser": denoiser.network_ms,
            "upsampler": 0.0,
            "sampler": denoiser.sampler_ms,
        }
        if not np.isfinite(low_res).all():
            return Painted(*history.pictures(), painting_ms, not_finite="denoiser")

        # 3. The upsampler enlarges it.
        full_res: Floats | None = None
        if history.full_res is not None:
            upsampler = self._networks["upsampler"]
            full_res = upsampler.predict(history.full_res, self._noise, frame, low_res=low_res)
            painting_ms["conditioner"] += upsampler.conditioner_ms
            painting_ms["upsampler"] = upsampler.network_ms
            painting_ms["sampler"] += upsampler.sampler_ms
            if not np.isfinite(full_res).all():
                return Painted(*history.pictures(), painting_ms, not_finite="upsampler")

        # 4. The histories roll.
        history.push(low_res, full_res)
        return Painted(*history.pictures(), painting_ms)

    def close(self) -> None:
        """Nothing of its own: the backend closes the graphs."""
