"""The sampler against the published code's outputs, from the same recorded draws, and its rules one by one."""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from engine.backends.base import Arrays, Backend, Graph
from engine.bundle import Bundle
from engine.graphs import GraphSpec, TensorSpec, signature
from engine.network import Network
from engine.sampler import Sampler
from engine.schedule import SamplerConfig, conditioning
from tests.engine.doubles import (
    CASES,
    RecordedNoise,
    TorchBackend,
    assert_same_picture,
    golden_frames,
    recorded_keys,
)
from tests.engine.tiny_world import TINY, golden_sampler


@pytest.mark.parametrize("case", ["euler1", "euler3", "heun3"])
def test_denoiser_samples_equal_the_published_ones(published: tuple[Bundle, Backend], case: str) -> None:
    bundle, backend = published
    name = f"sample_denoiser_{case}"
    noise = RecordedNoise(f"{name}/")
    network = Network("denoiser", bundle, "fp32", backend, golden_sampler(name))
    image = network.predict(golden_frames(f"{name}/history_u8"), noise, 0, action=CASES[f"{name}/act"])
    assert_same_picture(image, CASES[f"{name}/out"])
    assert sorted(noise.used) == sorted(recorded_keys(name)), "every recorded draw is used once"


@pytest.mark.parametrize("case", ["fast", "euler3", "heun2"])
def test_upsampler_samples_equal_the_published_ones(case: str) -> None:
    pytest.importorskip("torch", reason="the reference networks need PyTorch")
    name = f"sample_upsampler_{case}"
    noise = RecordedNoise(f"{name}/")
    frames = golden_frames(f"{name}/history_u8")  # the previous frame, then the enlarged low-res one

    backend = TorchBackend()
    inputs, outputs = signature("upsampler", TINY, modulation=32)
    enlarged = {"low_res": TensorSpec("float32", (1, 3, 70, 100))}
    graph = backend.load(GraphSpec("upsampler", "fp32", Path(), {**inputs, **enlarged}, outputs))
    inputs, outputs = signature("upsampler_conditioner", TINY, modulation=32)
    conditioner = backend.load(GraphSpec("upsampler_conditioner", "fp32", Path(), inputs, outputs))

    sampler = Sampler("upsampler", graph, golden_sampler(name), 0.5, 0.1)
    c_noise, c_noise_cond = conditioning(sampler.steps)
    modulation = conditioner.run({"c_noise": c_noise, "c_noise_cond": c_noise_cond})["modulation"]
    more = {"low_res": np.ascontiguousarray(frames[:, 3:])}
    image = sampler.sample(np.ascontiguousarray(frames[:, :3]), modulation, noise, 0, more)
    assert_same_picture(image, CASES[f"{name}/out"])
    assert sorted(noise.used) == sorted(recorded_keys(name)), "every recorded draw is used once"


# The rules, on a network that records what it is given.


class Probe(Graph):
    """Predicts `prediction` everywhere and keeps a copy of its inputs."""

    def __init__(self, prediction: float, **more: TensorSpec) -> None:
        image, history = TensorSpec("float32", (1, 3, 2, 2)), TensorSpec("float32", (1, 6, 2, 2))
        tensors = {
            "x": image,
            "history": history,
            "modulation": TensorSpec("float32", (1, 1)),
            "coefficients": TensorSpec("float32", (3,)),
            **more,
        }
        super().__init__(GraphSpec("probe", "fp32", Path(), tensors, {"denoised": image}))
        self.denoised = np.full((1, 3, 2, 2), prediction, np.float32)
        self.seen: list[dict[str, npt.NDArray[np.float32]]] = []

    def _run(self, inputs: Arrays) -> Arrays:
        self.seen.append({name: array.copy() for name, array in inputs.items()})
        return {"denoised": self.denoised}

    def _close(self) -> None:
        self.denoised[...] = np.nan


class NamedNoise:
    """A different constant for every draw, so that each can be recognised."""

    def __init__(self, **values: float) -> None:
        self.values = {name.replace("_", "/", 1): value for name, value in values.items()}
        self.asked: list[str] = []

    def normal(self, name: str, shape: tuple[int, ...], frame: int) -> npt.NDArray[np.float32]:
        self.asked.append(name)
        value = self.values.get(name.removeprefix("probe/"), 0.0)
        draw = np.full(shape, value, np.float32)
        draw.flags.writeable = False
        return draw


def sample(
    config: SamplerConfig, noise: NamedNoise, prediction: float = 0.5
) -> tuple[npt.NDArray[np.float32], Probe, Sampler]:
    probe = Probe(prediction)
    sampler = Sampler("probe", probe, config, 0.5, 0.1)
    rows = len(conditioning(sampler.steps)[0])
    history = np.full((1, 6, 2, 2), 0.25, np.float32)
    modulation = np.arange(rows, dtype=np.float32)[:, None]
    for array in (history, modulation):
        array.flags.writeable = False  # the caller's arrays are only read
    return sampler.sample(history, modulation, noise, 0), probe, sampler


def test_one_euler_step_returns_the_prediction() -> None:
    image, probe, _ = sample(SamplerConfig(steps=1), NamedNoise(init=3.0), prediction=0.7)
    np.testing.assert_array_equal(image, np.float32(0.7))
    assert len(probe.seen) == 1


def test_the_last_step_returns_the_prediction_exactly_whatever_the_order() -> None:
    for order in (1, 2):
        image, _, _ = sample(SamplerConfig(steps=4, order=order, s_churn=1.0), NamedNoise(init=-2.0), 0.3)
        np.testing.assert_array_equal(image, np.float32(0.3))


def test_the_result_does_not_share_memory_with_the_network() -> None:
    image, probe, _ = sample(SamplerConfig(), NamedNoise())
    probe.denoised[...] = 9
    np.testing.assert_array_equal(image, np.float32(0.5))


@pytest.mark.parametrize("std", [1.0, 5.0])
def test_initial_noise_has_the_standard_deviation_of_the_settings(std: float) -> None:
    _, probe, _ = sample(SamplerConfig(initial_std=std), NamedNoise(init=2.0))
    np.testing.assert_allclose(probe.seen[0]["x"], 2.0 * std)


def test_an_euler_step_moves_towards_the_prediction_by_the_ratio_of_the_sigmas() -> None:
    _, probe, sampler = sample(SamplerConfig(steps=2), NamedNoise(init=3.0), prediction=0.5)
    step = sampler.steps[0]
    expected = 0.5 + (3.0 - 0.5) * step.next_sigma / step.sigma  # D + (x - D) sigma' / sigma
    np.testing.assert_allclose(probe.seen[1]["x"], expected, rtol=1e-6)


def test_heun_evaluates_at_the_euler_point_with_the_next_sigmas_coefficients_and_row() -> None:
    config = SamplerConfig(steps=2, order=2, sigma_min=0.5)
    _, probe, sampler = sample(config, NamedNoise(init=3.0), prediction=0.5)
    step = sampler.steps[0]
    assert step.second is not None
    assert [float(seen["modulation"][0, 0]) for seen in probe.seen] == [0, 1, 2]
    np.testing.assert_allclose(probe.seen[1]["x"], 0.5 + 2.5 * step.next_sigma / step.sigma, rtol=1e-6)
    told = [step.second.c_in, step.second.c_skip, step.second.c_out]
    np.testing.assert_allclose(probe.seen[1]["coefficients"], told, rtol=1e-6)
    # Where every prediction is the same, the slope is the same at both points: Heun agrees with Euler.
    np.testing.assert_allclose(probe.seen[2]["x"], probe.seen[1]["x"], rtol=1e-5)


def test_churn_adds_its_noise_before_the_evaluation() -> None:
    config = SamplerConfig(steps=1, s_churn=1.0, s_noise=0.9)
    _, probe, sampler = sample(config, NamedNoise(init=1.0, step0_churn=2.0))
    noise_std = sampler.steps[0].churn_std
    assert noise_std > 0
    np.testing.assert_allclose(probe.seen[0]["x"], 1.0 + 2.0 * noise_std, rtol=1e-6)


def test_after_churn_the_step_starts_from_sigma_hat() -> None:
    config = SamplerConfig(steps=2, s_churn=2.0)
    _, probe, sampler = sample(config, NamedNoise(init=3.0), prediction=0.5)
    step = sampler.steps[0]
    expected = 0.5 + 2.5 * step.next_sigma / step.sigma_hat
    np.testing.assert_allclose(probe.seen[1]["x"], expected, rtol=1e-5)


def test_history_noise_accumulates_from_step_to_step() -> None:
    noise = NamedNoise(step0_history=1.0, step1_history=1.0, step2_history=1.0)
    _, probe, _ = sample(SamplerConfig(steps=3, s_cond=0.1), noise)
    means = [float(seen["history"].mean()) for seen in probe.seen]
    np.testing.assert_allclose(means, [0.35, 0.45, 0.55], rtol=1e-6)


def test_the_enlarged_frame_of_an_upsampler_gets_its_own_part_of_the_history_noise() -> None:
    class Ramp(NamedNoise):
        """Every channel of a history draw has its own number."""

        def normal(self, name: str, shape: tuple[int, ...], frame: int) -> npt.NDArray[np.float32]:
            channels = np.arange(shape[1], dtype=np.float32)[None, :, None, None]
            return (
                np.broadcast_to(channels, shape) if name.endswith("history") else np.zeros(shape, np.float32)
            )

    probe = Probe(0.5, enlarged_noise=TensorSpec("float32", (1, 3, 2, 2)))
    modulation = np.zeros((2, 1), np.float32)
    for config in (SamplerConfig(steps=2, s_cond=0.1), SamplerConfig(steps=2)):
        sampler = Sampler("probe", probe, config, 0.5, 0.1)
        for frame in range(2):  # the second frame starts afresh
            sampler.sample(np.zeros((1, 6, 2, 2), np.float32), modulation, Ramp(), frame)
    added = [seen["enlarged_noise"][0, :, 0, 0] for seen in probe.seen]
    once = np.float32(0.1) * np.array([6, 7, 8], np.float32)  # the channels behind those of the history
    np.testing.assert_allclose(added[:4], [once, 2 * once, once, 2 * once], rtol=1e-6)
    np.testing.assert_array_equal(added[4:], 0)
    np.testing.assert_allclose(probe.seen[1]["history"][0, :, 0, 0], 0.2 * np.arange(6), rtol=1e-6)


def test_history_noise_starts_afresh_with_every_frame() -> None:
    probe = Probe(0.5)
    sampler = Sampler("probe", probe, SamplerConfig(s_cond=0.1), 0.5, 0.1)
    history, modulation = np.zeros((1, 6, 2, 2), np.float32), np.zeros((1, 1), np.float32)
    for frame in range(2):
        sampler.sample(history, modulation, NamedNoise(step0_history=1.0), frame)
    np.testing.assert_allclose(probe.seen[1]["history"], 0.1, rtol=1e-6)
    assert not history.any()


def test_draws_come_in_the_published_order_and_only_where_they_are_used() -> None:
    noise = NamedNoise()
    sample(SamplerConfig(steps=2, s_churn=1.0, s_tmin=1.0, s_cond=0.1), noise)
    assert noise.asked == ["probe/init", "probe/step0/churn", "probe/step0/history", "probe/step1/history"]
    noise = NamedNoise()
    sample(dataclasses.replace(SamplerConfig(), steps=2), noise)
    assert noise.asked == ["probe/init"]
