"""One of a world's networks: its conditioner, its graph, and the sampler that runs them.

The modulation of all evaluations comes from one run of the conditioner: for every frame where it depends on
the player's actions (denoiser), once for the whole schedule where it does not (upsampler).
"""

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend
from engine.bundle import Bundle
from engine.graphs import Network as NetworkName
from engine.noise import NoiseSource
from engine.sampler import Image, Sampler
from engine.schedule import SamplerConfig, Step, conditioning


class Network:
    """A network, loaded and configured.

    Args:
        name: "denoiser" or "upsampler".
        bundle, precision, backend: which graphs, and what runs them.
        config: the sampler's settings.

    Attributes:
        name: as given.
        conditioner_ms: time the conditioner took in the latest `predict`; 0 where its result was kept.

    Raises:
        DiamondError: the graphs cannot be loaded.
    """

    def __init__(
        self, name: NetworkName, bundle: Bundle, precision: str, backend: Backend, config: SamplerConfig
    ) -> None:
        self.name: NetworkName = name
        self.conditioner_ms = 0.0
        self._noise_scales = bundle.manifest.noise[name]
        self._conditioner = backend.load(backend.spec(bundle, precision, f"{name}_conditioner"))
        self._graph = backend.load(backend.spec(bundle, precision, name))
        self.configure(config)

    def configure(self, config: SamplerConfig) -> None:
        """Replaces the sampler's settings, from the next prediction on."""
        scales = self._noise_scales
        sampler = Sampler(self.name, self._graph, config, scales.sigma_data, scales.sigma_offset_noise)
        c_noise, c_noise_cond = conditioning(sampler.steps)
        levels = {"c_noise": c_noise, "c_noise_cond": c_noise_cond}
        kept = None if "action" in self._conditioner.spec.inputs else self._modulation(levels).copy()
        self._sampler, self._levels, self._kept_modulation = sampler, levels, kept

    @property
    def config(self) -> SamplerConfig:
        """The sampler's settings."""
        return self._sampler.config

    @property
    def steps(self) -> tuple[Step, ...]:
        """The schedule laid out."""
        return self._sampler.steps

    @property
    def network_ms(self) -> float:
        """Time the graph took in the latest `predict`, all evaluations together."""
        return self._sampler.network_ms

    @property
    def sampler_ms(self) -> float:
        """Time the sampler's noise and arithmetic took in the latest `predict`."""
        return self._sampler.own_ms

    def predict(
        self,
        history: Image,
        noise: NoiseSource,
        frame: int,
        action: npt.NDArray[np.float32] | None = None,
        low_res: Image | None = None,
    ) -> Image:
        """Paints the next frame.

        Args:
            history: float32 (1, T * 3, H, W) in [-1, 1], oldest first.
            noise, frame: random numbers, and the number of steps since the reset.
            action: float32 (1, T, A), for the denoiser.
            low_res: float32 (1, 3, h, w) in [-1, 1], the new low-res frame, for the upsampler.

        Returns:
            float32 (1, 3, H, W) in [-1, 1]; a buffer that the next call overwrites.
        """
        if self._kept_modulation is None:
            assert action is not None
            modulation = self._modulation({**self._levels, "action": action})
            self.conditioner_ms = self._conditioner.last_ms
        else:
            modulation = self._kept_modulation
        more = None if low_res is None else {"low_res": low_res}
        return self._sampler.sample(history, modulation, noise, frame, more)

    def _modulation(self, inputs: dict[str, npt.NDArray[np.float32]]) -> Image:
        return self._conditioner.run(inputs)["modulation"]
