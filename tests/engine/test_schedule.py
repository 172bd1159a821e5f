"""Sigmas, preconditioning and the plan of a schedule against the published numbers and rules."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import DiamondError
from engine.schedule import Preconditioning, SamplerConfig, conditioning, evaluations, karras_sigmas

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "tiny_cases.npz")
UPSAMPLER_FAST = SamplerConfig(
    steps=1, sigma_min=1, sigma_max=5, order=2, s_churn=10, s_tmin=1, s_tmax=5, s_noise=0.9
)


@pytest.mark.parametrize("case", range(5))
def test_sigmas_equal_the_published_ones(case: int) -> None:
    steps, sigma_min, sigma_max, rho = GOLDEN[f"sigmas{case}/args"]
    sigmas = karras_sigmas(SamplerConfig(int(steps), sigma_min, sigma_max, rho))
    assert sigmas.dtype == np.float32
    np.testing.assert_allclose(sigmas, GOLDEN[f"sigmas{case}/sigmas"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("network", ["denoiser", "upsampler"])
def test_preconditioning_equals_the_published_one(network: str) -> None:
    golden = {
        key: GOLDEN[f"precond_{network}/{key}"] for key in ("sigma", "c_in", "c_skip", "c_out", "c_noise")
    }
    preconditioning = Preconditioning(sigma_data=0.5, sigma_offset_noise=0.1)
    for name in ("c_in", "c_skip", "c_out", "c_noise"):
        ours = [getattr(preconditioning, name)(float(sigma)) for sigma in golden["sigma"]]
        np.testing.assert_allclose(ours, golden[name], rtol=2e-6, atol=2e-6, err_msg=name)
    s_cond = 0.005 if network == "denoiser" else 0.0
    np.testing.assert_allclose(
        preconditioning.c_noise_cond(s_cond), GOLDEN[f"precond_{network}/c_noise_cond"], rtol=1e-6
    )


def test_without_offset_noise_preconditioning_is_the_papers() -> None:
    preconditioning = Preconditioning(sigma_data=0.5, sigma_offset_noise=0.0)
    for sigma in (0.002, 0.3, 80.0):  # Karras et al. 2022, table 1, column "Ours"
        assert preconditioning.c_skip(sigma) == pytest.approx(0.25 / (sigma**2 + 0.25))
        assert preconditioning.c_out(sigma) == pytest.approx(sigma * 0.5 / math.sqrt(0.25 + sigma**2))
        assert preconditioning.c_in(sigma) == pytest.approx(1 / math.sqrt(sigma**2 + 0.25))
        assert preconditioning.c_noise(sigma) == pytest.approx(math.log(sigma) / 4)


def test_euler_steps_have_one_evaluation_each() -> None:
    steps = evaluations(SamplerConfig(steps=3), 0.5, 0.1)
    assert [step.second for step in steps] == [None, None, None]
    assert [step.first.row for step in steps] == [0, 1, 2]
    assert [step.next_sigma for step in steps[:-1]] == [step.sigma for step in steps[1:]]
    assert steps[-1].next_sigma == 0


def test_heun_steps_have_two_evaluations_but_the_last_has_one() -> None:
    steps = evaluations(SamplerConfig(steps=3, order=2), 0.5, 0.1)
    assert [step.first.row for step in steps] == [0, 2, 4]
    seconds = [step.second for step in steps]
    assert [second and second.row for second in seconds] == [1, 3, None]
    assert [second.sigma for second in seconds[:-1] if second] == [step.next_sigma for step in steps[:-1]]


def test_conditioning_has_a_row_for_every_evaluation() -> None:
    steps = evaluations(SamplerConfig(steps=3, order=2, s_cond=0.005), 0.5, 0.1)
    c_noise, c_noise_cond = conditioning(steps)
    assert c_noise.dtype == np.float32
    assert c_noise.shape == c_noise_cond.shape == (5,)
    assert c_noise[1] == np.float32(Preconditioning(0.5, 0.1).c_noise(steps[0].next_sigma))
    np.testing.assert_allclose(c_noise_cond, math.log(0.005) / 4, rtol=1e-6)


def test_under_churn_the_network_is_told_sigma() -> None:
    (step,) = evaluations(UPSAMPLER_FAST, 0.5, 0.1)
    assert step.sigma_hat == pytest.approx(step.sigma * math.sqrt(2))
    assert step.first.sigma == step.sigma
    assert step.first.c_in == pytest.approx(Preconditioning(0.5, 0.1).c_in(step.sigma))


def test_churn_at_most_doubles_the_variance_and_is_spread_over_the_steps() -> None:
    (step,) = evaluations(UPSAMPLER_FAST, 0.5, 0.1)
    assert step.churn_std == pytest.approx(0.9 * step.sigma)  # sqrt(2 sigma² - sigma²), times s_noise
    mild = evaluations(dataclasses.replace(UPSAMPLER_FAST, steps=10, s_churn=1.0), 0.5, 0.1)
    assert mild[0].sigma_hat == pytest.approx(mild[0].sigma * 1.1)


def test_churn_happens_only_between_tmin_and_tmax_both_included() -> None:
    config = SamplerConfig(steps=10, sigma_min=1, sigma_max=5, s_churn=10, s_tmin=1, s_tmax=5)
    assert all(step.churn_std > 0 for step in evaluations(config, 0.5, 0.1))
    inner = evaluations(dataclasses.replace(config, s_tmin=1.3, s_tmax=3.5), 0.5, 0.1)
    churned = [1.3 <= step.sigma <= 3.5 for step in inner]
    assert [step.churn_std > 0 for step in inner] == churned
    assert 0 < sum(churned) < 10
    assert [step.sigma_hat == step.sigma for step in inner] == [not hit for hit in churned]


def test_settings_survive_json() -> None:
    config = dataclasses.replace(UPSAMPLER_FAST, s_tmax=math.inf, initial_std=5.0)
    assert SamplerConfig.from_json(json.loads(json.dumps(config.to_json(), allow_nan=False))) == config


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1001}, "steps is 1001"),
        ({"steps": 1.0}, "steps is 1.0"),
        ({"steps": True}, "steps is True"),
        ({"order": 3}, "order is 3"),
        ({"sigma_min": 0.0}, "sigma_min is 0.0"),
        ({"sigma_min": 6.0}, "sigma_min is 6.0"),
        ({"sigma_max": math.inf}, "sigma_max is inf"),
        ({"rho": 0}, "rho is 0"),
        ({"s_tmin": 2.0, "s_tmax": 1.0}, "s_tmin is 2.0"),
        ({"s_churn": -1.0}, "s_churn is -1.0"),
        ({"s_cond": math.nan}, "s_cond is nan"),
        ({"s_noise": "1"}, "s_noise is '1'"),
        ({"initial_std": 0.0}, "initial_std is 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DiamondError, match=complaint):
        SamplerConfig(**change)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"temperature": 1}, r"unknown fields \['temperature'\]"),
        ({"steps": "3"}, "steps is '3'"),
        ({"steps": None}, "steps is None"),
        ({"rho": "7"}, "rho is '7'"),
        ({"rho": 10**400}, "rho is 1000"),
    ],
)
def test_ill_typed_json_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DiamondError, match=complaint):
        SamplerConfig.from_json(SamplerConfig().to_json() | change)


def test_json_without_a_field_is_refused() -> None:
    data = SamplerConfig().to_json()
    del data["initial_std"]
    with pytest.raises(DiamondError, match=r"preset fast: lacks \['initial_std'\]"):
        SamplerConfig.from_json(data, "preset fast")
