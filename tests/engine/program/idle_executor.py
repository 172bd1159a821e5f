"""An executor that does nothing, so that the time of a frame is the host's own."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.bundle import Bundle
from engine.graphs import GraphSpec, Sizes, roles, signature
from engine.noise import SeededNoise
from engine.program.launches import FrameProgram
from engine.program.program_runner import ProgramRunner
from engine.schedule import SamplerConfig
from tests.engine.tiny_world import PUBLISHED

FRAMES = 300


class IdleExecutor:
    """Buffers on the host, and no work."""

    def install(self, program: FrameProgram) -> None:
        self._hosts = {
            b.name: np.zeros(b.shape, b.dtype)
            for b in program.buffers.values()
            if b.kind in ("input", "output")
        }

    def write(self, buffer: str, values: Any) -> None: ...

    def read(self, buffer: str) -> Any:
        raise NotImplementedError

    def host(self, buffer: str) -> Any:
        return self._hosts[buffer]

    def set_up(self) -> None: ...

    def run(self) -> Mapping[str, float]:
        return {}

    def close(self) -> None: ...


def host_ms(bundle: Bundle, sizes: Sizes = PUBLISHED) -> tuple[float, float]:
    """Best and median milliseconds that `ProgramRunner.step` takes beside the executor, for the `quality` preset."""
    specs = {}
    for role in roles(sizes):
        specs[role] = GraphSpec(role, "fp32", bundle.path, *signature(role, sizes, modulation=53_000))
    samplers = {
        "denoiser": SamplerConfig(steps=3, s_cond=0.005),
        "upsampler": SamplerConfig(steps=10, sigma_min=1, s_churn=10, s_tmin=1, s_tmax=5, s_noise=0.9),
    }
    runner = ProgramRunner(IdleExecutor(), specs, bundle.manifest.noise, samplers, SeededNoise(0))  # type: ignore[arg-type]
    action, times = np.zeros(sizes.action_size, np.float32), []
    for frame in range(FRAMES):
        began = time.perf_counter()
        runner.step(action, frame)
        times.append((time.perf_counter() - began) * 1e3)
    return min(times), float(np.median(times))
