"""Every kind of sampler setting, for tests that hold one way to play against another; and noise that is no table."""

import numpy as np

from engine.frame import Floats
from engine.schedule import SamplerConfig

CHURN = {"s_churn": 10.0, "s_tmin": 1.0, "s_tmax": 5.0, "s_noise": 0.9}

SETTINGS: dict[str, dict[str, SamplerConfig]] = {
    "one step": {"denoiser": SamplerConfig(), "upsampler": SamplerConfig()},
    "euler": {"denoiser": SamplerConfig(steps=3), "upsampler": SamplerConfig(steps=4, sigma_min=1.0)},
    "heun": {"denoiser": SamplerConfig(steps=3, order=2), "upsampler": SamplerConfig(steps=2, order=2)},
    "one heun step": {"denoiser": SamplerConfig(order=2), "upsampler": SamplerConfig(order=2)},
    "churn in part of the steps": {
        "denoiser": SamplerConfig(steps=4, **CHURN),
        "upsampler": SamplerConfig(steps=3, order=2, sigma_min=0.5, **CHURN),
    },
    "noise on both histories": {
        "denoiser": SamplerConfig(steps=3, s_cond=0.005),
        "upsampler": SamplerConfig(steps=2, s_cond=0.1),
    },
    "noise on one history": {
        "denoiser": SamplerConfig(steps=2, s_cond=0.3),
        "upsampler": SamplerConfig(steps=2),
    },
    "as in the paper": {
        "denoiser": SamplerConfig(steps=3, initial_std=5.0, rho=5.0),
        "upsampler": SamplerConfig(steps=2, sigma_max=2.0, initial_std=2.0),
    },
    "everything": {
        "denoiser": SamplerConfig(steps=4, order=2, s_cond=0.05, initial_std=5.0, s_churn=1.0),
        "upsampler": SamplerConfig(steps=3, order=2, s_cond=0.05, sigma_min=1.0, initial_std=3.0, **CHURN),
    },
}

# One rollout's worth: structure and numbers change, grow and shrink.
CHANGES = [SETTINGS[name] for name in ("everything", "one step", "noise on both histories", "heun", "euler")]


class LoggedNoise:
    """Draws made for each name and frame; `asked` collects what was asked for, in order."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.asked: list[tuple[str, tuple[int, ...], int]] = []

    def normal(self, name: str, shape: tuple[int, ...], frame: int) -> Floats:
        self.asked.append((name, shape, frame))
        key = [self.seed, frame, *name.encode()]
        draw: Floats = np.random.default_rng(key).standard_normal(shape, np.float32)
        return draw
