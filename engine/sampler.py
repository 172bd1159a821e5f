"""Fixed-step sampler: Euler or Heun over a list of noise levels, with churn.

Karras et al. 2022, Alg. 1 (Heun; Euler without its correction) and Alg. 2 (churn). It walks the records made
by `engine.schedule.evaluations` and asks a network for predictions; it knows nothing of windows, files,
devices or actions. All arithmetic is float32, in buffers allocated once; the caller's arrays are only read.
"""

import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from engine.backends.base import Graph
from engine.noise import NoiseSource
from engine.schedule import Evaluation, SamplerConfig, evaluations

Image = npt.NDArray[np.float32]
ENLARGED_NOISE = "enlarged_noise"  # an upsampler's input: noise on its enlarged low-res frame


class Sampler:
    """One network and one schedule.

    Args:
        name: first part of the names of its noise draws, such as "denoiser".
        network: the graph that predicts, see `engine.graphs.signature`.
        config: the schedule's settings.
        sigma_data, sigma_offset_noise: the network's, see `engine.schedule.Preconditioning`.

    Attributes:
        steps: the schedule laid out.
        network_ms: time the network took in the latest `sample`, all evaluations together.
        own_ms: time that `sample` took beside it: noise and arithmetic.
    """

    def __init__(
        self, name: str, network: Graph, config: SamplerConfig, sigma_data: float, sigma_offset_noise: float
    ) -> None:
        self.name, self.config = name, config
        self.steps = evaluations(config, sigma_data, sigma_offset_noise)
        self.network_ms = 0.0
        self.own_ms = 0.0
        self._network = network

        x_shape, history_shape = (_fixed_shape(network, tensor) for tensor in ("x", "history"))
        self._x = np.empty(x_shape, np.float32)
        self._x_2 = np.empty(x_shape, np.float32)  # Heun's trial point
        self._slope = np.empty(x_shape, np.float32)
        self._slope_2 = np.empty(x_shape, np.float32)
        self._noise = np.empty(x_shape, np.float32)
        # What s_cond disturbs, frame by frame: the history, and an upsampler's enlarged frame behind it.
        enlarged = x_shape[1] if ENLARGED_NOISE in network.spec.inputs else 0
        _, channels, *size = history_shape
        self._history = np.empty(history_shape, np.float32)
        self._enlarged_noise = np.zeros((1, enlarged, *size), np.float32)
        self._history_noise = np.empty((1, channels + enlarged, *size), np.float32)

    def sample(
        self,
        history: Image,
        modulation: Image,
        noise: NoiseSource,
        frame: int,
        more: Mapping[str, Image] | None = None,
    ) -> Image:
        """Draws one image.

        Args:
            history: float32 (1, T * 3, H, W), past frames in [-1, 1], oldest first.
            modulation: float32 (E, M), one row for every evaluation of the schedule.
            noise: where the random numbers come from.
            frame: number of steps since the reset, for `noise`.
            more: further inputs of the network, such as "low_res".

        Returns:
            float32 (1, 3, H, W) in [-1, 1]; a buffer that the next call overwrites.
        """
        began = time.perf_counter()
        x, slope = self._x, self._slope
        inputs = {"history": history, **(more or {})}
        if ENLARGED_NOISE in self._network.spec.inputs:
            inputs[ENLARGED_NOISE] = self._enlarged_noise
        self.network_ms = 0.0
        np.multiply(
            noise.normal(f"{self.name}/init", x.shape, frame), np.float32(self.config.initial_std), out=x
        )
        if self.config.s_cond > 0:
            np.copyto(self._history, history)
            self._enlarged_noise.fill(0)
            inputs["history"] = self._history

        for step in self.steps:
            # 1. Churn: raise the noise level from sigma to sigma_hat. Alg. 2, lines 4-6.
            if step.churn_std > 0:
                draw = noise.normal(f"{self.name}/step{step.index}/churn", x.shape, frame)
                x += np.multiply(draw, np.float32(step.churn_std), out=self._noise)

            # 2. Noise on the history and, behind it, an upsampler's enlarged frame. Differs from the paper, which
            # has no history: each step adds to what the steps before have added
            # (test_history_noise_accumulates_from_step_to_step).
            if step.s_cond > 0:
                draw = noise.normal(f"{self.name}/step{step.index}/history", self._history_noise.shape, frame)
                added = np.multiply(draw, np.float32(step.s_cond), out=self._history_noise)
                self._history += added[:, : self._history.shape[1]]
                self._enlarged_noise += added[:, self._history.shape[1] :]

            # 3. The prediction. A step down to 0 ends on it: x + (x - D) / sigma_hat * (0 - sigma_hat) = D.
            denoised = self._evaluate(step.first, x, inputs, modulation)
            if step.next_sigma == 0:
                np.copyto(x, denoised)
                continue

            # 4. Euler: along d = (x - D) / sigma_hat. Alg. 1, lines 4-5.
            d_sigma = np.float32(step.next_sigma - step.sigma_hat)
            np.subtract(x, denoised, out=slope)
            slope /= np.float32(step.sigma_hat)
            if step.second is None:
                x += np.multiply(slope, d_sigma, out=slope)
                continue

            # 5. Heun: along the mean of d here and d' at the trial point. Alg. 1, lines 7-8.
            np.multiply(slope, d_sigma, out=self._x_2)
            self._x_2 += x
            denoised = self._evaluate(step.second, self._x_2, inputs, modulation)
            np.subtract(self._x_2, denoised, out=self._slope_2)
            self._slope_2 /= np.float32(step.next_sigma)
            slope += self._slope_2
            x += np.multiply(slope, d_sigma / 2, out=slope)
        self.own_ms = (time.perf_counter() - began) * 1e3 - self.network_ms
        return x

    def _evaluate(
        self, evaluation: Evaluation, x: Image, inputs: Mapping[str, Image], modulation: Image
    ) -> Image:
        coefficients = np.array([evaluation.c_in, evaluation.c_skip, evaluation.c_out], np.float32)
        row = modulation[evaluation.row : evaluation.row + 1]
        outputs = self._network.run({"x": x, **inputs, "modulation": row, "coefficients": coefficients})
        self.network_ms += self._network.last_ms
        return outputs["denoised"]


def _fixed_shape(network: Graph, tensor: str) -> tuple[int, ...]:
    shape = network.spec.inputs[tensor].shape
    assert None not in shape, f"{tensor} of {network.spec} has a dynamic axis"
    return tuple(axis for axis in shape if axis is not None)
