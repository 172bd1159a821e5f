"""Sampler settings from a file and from the command line: names, types, precedence, and what is refused."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from engine.errors import DiamondError
from engine.player.recording import Sampling
from engine.player.tuning import tuning
from engine.schedule import SamplerConfig

PRESET = {
    "denoiser": SamplerConfig(steps=3, s_cond=0.005),
    "upsampler": SamplerConfig(steps=10, sigma_min=1, s_churn=10, s_tmin=1, s_tmax=5, s_noise=0.9),
}
PUBLISHED = """
_target_: envs.WorldModelEnvConfig
horizon: 700
num_batches_to_preload: 256
diffusion_sampler_next_obs:
  _target_: models.diffusion.DiffusionSamplerConfig
  num_steps_denoising: 2
  sigma_min: 2e-3
  sigma_max: 4.0
  rho: 7
  order: 2
  s_churn: 0.0
  s_tmin: 0.0
  s_tmax: INFINITY
  s_noise: 1.0
  s_cond: 0.01
diffusion_sampler_upsampling:
  _target_: models.diffusion.DiffusionSamplerConfig
  num_steps_denoising: 4
  s_churn: 5
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_what_a_file_leaves_out_stays_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, "upsampler:\n  steps: 4\n  s_churn: 2e0\n")
    assert tuning(path).applied("w", PRESET) == {
        "upsampler": dataclasses.replace(PRESET["upsampler"], steps=4, s_churn=2.0)
    }


def test_every_setting_can_be_given_in_a_file_and_on_the_command_line(tmp_path: Path) -> None:
    own = SamplerConfig(4, 0.1, 6.0, 5.0, 2, 3.0, 0.5, 4.0, 0.8, 0.02, 6.0)
    assert not {n for n, v in dataclasses.asdict(own).items() if v == getattr(SamplerConfig(), n)}
    lines = [f"{name}: {value}" for name, value in own.to_json().items()]
    for network in PRESET:
        path = write(tmp_path, f"{network}:\n  " + "\n  ".join(lines))
        assert tuning(path).applied("w", PRESET) == {network: own}
        texts = [f"{network}.{line.replace(': ', '=')}" for line in lines]
        assert tuning(settings=texts).applied("w", PRESET) == {network: own}


@pytest.mark.parametrize("infinity", ["inf", ".inf", '"inf"'])
def test_infinity_is_inf(tmp_path: Path, infinity: str) -> None:
    path = write(tmp_path, f"upsampler: {{s_tmax: {infinity}}}")
    assert tuning(path).applied("w", PRESET)["upsampler"].s_tmax == math.inf
    assert tuning(settings=["upsampler.s_tmax=inf"]).applied("w", PRESET)["upsampler"].s_tmax == math.inf


def test_the_later_of_file_set_and_steps_counts(tmp_path: Path) -> None:
    path = write(tmp_path, "denoiser: {steps: 4, rho: 5, s_cond: 0}")
    texts = ["denoiser.steps=5", "denoiser.rho=6", "denoiser.rho=8"]
    done = tuning(path, texts, [6]).applied("w", PRESET)["denoiser"]
    assert done == dataclasses.replace(PRESET["denoiser"], steps=6, rho=8.0, s_cond=0.0)


def test_two_changes_count_together_whatever_their_order() -> None:
    both = tuning(settings=["denoiser.sigma_min=6", "denoiser.sigma_max=8"]).applied("w", PRESET)
    assert (both["denoiser"].sigma_min, both["denoiser"].sigma_max) == (6, 8)


def test_steps_are_those_of_the_denoiser_and_of_the_upsampler() -> None:
    done = tuning(steps=[4, 2]).applied("w", PRESET)
    assert {network: config.steps for network, config in done.items()} == {"denoiser": 4, "upsampler": 2}
    assert list(tuning(steps=[4]).applied("w", PRESET)) == ["denoiser"]


def test_nothing_asked_for_changes_nothing() -> None:
    assert tuning().applied("w", PRESET) == {}


def test_the_file_of_the_published_repository_is_read_with_its_own_names(tmp_path: Path) -> None:
    read = tuning(write(tmp_path, PUBLISHED.replace("INFINITY", "inf")))
    assert read.horizon == 700
    assert read.applied("w", PRESET) == {
        "denoiser": SamplerConfig(steps=2, sigma_min=2e-3, sigma_max=4.0, order=2, s_cond=0.01),
        "upsampler": dataclasses.replace(PRESET["upsampler"], steps=4, s_churn=5.0),
    }


def test_what_the_published_repository_evaluates_is_asked_for_as_a_number(tmp_path: Path) -> None:
    path = write(tmp_path, PUBLISHED.replace("INFINITY", "${eval:'float(\"inf\")'}"))
    with pytest.raises(DiamondError) as caught:
        tuning(path)
    assert caught.value.what.startswith(f"{path}: diffusion_sampler_next_obs.s_tmax is ")
    assert "write the number itself, such as inf" in caught.value.fix


def test_settings_survive_a_recording_bit_for_bit() -> None:
    texts = ["denoiser.s_cond=0.1", "denoiser.sigma_max=3.3333333333333335", "denoiser.s_tmax=inf"]
    sampling = Sampling("custom", PRESET | tuning(settings=texts).applied("w", PRESET))
    assert Sampling.from_json("custom", json.loads(json.dumps(sampling.to_json()))) == sampling


@pytest.mark.parametrize(
    ("text", "what", "expected"),
    [
        ("denoiser: {step: 3}", "denoiser.step is unknown", "one of steps, sigma_min"),
        ("decoder: {steps: 3}", "decoder is unknown", "denoiser, upsampler, horizon"),
        ("denoiser: {steps: 3.0}", "denoiser.steps is 3.0", "an integer"),
        ("denoiser: {steps: inf}", "denoiser.steps is inf", "an integer"),
        ("denoiser: {steps: true}", "denoiser.steps is True", "an integer"),
        ("denoiser: {s_churn: much}", "denoiser.s_churn is 'much'", "a number"),
        ("denoiser: {s_churn: '5'}", "denoiser.s_churn is '5'", "a number"),
        ("denoiser: {s_churn: null}", "denoiser.s_churn is None", "a number"),
        (f"denoiser: {{s_churn: {'9' * 400}}}", "denoiser.s_churn is 999", "a number"),
        ("denoiser: [3]", "denoiser is [3]", "settings out of steps"),
        ("denoiser:", "denoiser is None", "settings out of steps"),
        ("horizon: 0", "horizon is 0", "at least 1"),
        ("horizon: 9.5", "horizon is 9.5", "an integer"),
        (
            "denoiser: {steps: 1, num_steps_denoising: 2}",
            "denoiser.num_steps_denoising says",
            "one of the two",
        ),
        ("denoiser: {}\ndiffusion_sampler_next_obs: {}", "diffusion_sampler_next_obs says", "one of the two"),
        ("denoiser: {steps: 0}", "denoiser.steps is 0", "1 to 1000"),
        ("upsampler: {sigma_max: 0.5}", "upsampler.sigma_min is 1, sigma_max is 0.5", "0 < sigma_min"),
        ("upsampler: {s_cond: .nan}", "upsampler.s_cond is nan", "a finite number"),
    ],
)
def test_a_file_with_a_wrong_setting_is_named_with_it(
    tmp_path: Path, text: str, what: str, expected: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DiamondError) as caught:
        tuning(path).applied("w", PRESET)
    assert caught.value.what.startswith(f"{path}: {what}")
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("text", "what", "expected"),
    [
        ("s_churn=5", "--set s_churn=5: is no setting", "upsampler.s_churn=5"),
        ("upsampler.s_churn", "--set upsampler.s_churn: is no setting", "upsampler.s_churn=5"),
        ("upscaler.s_churn=5", "'upscaler' is unknown", "one of denoiser, upsampler"),
        ("upsampler.churn=5", "'churn' is unknown", "s_churn"),
        ("upsampler.steps=5.0", "--set upsampler.steps is 5.0", "an integer"),
        ("upsampler.s_churn=", "--set upsampler.s_churn is ''", "a number"),
        ("upsampler.s_churn=-1", "--set: upsampler.s_churn is -1.0", "0 or more"),
        ("upsampler.s_churn=nan", "--set: upsampler.s_churn is nan", "a finite number"),
    ],
)
def test_a_wrong_setting_on_the_command_line_is_named(text: str, what: str, expected: str) -> None:
    with pytest.raises(DiamondError) as caught:
        tuning(settings=[text]).applied("w", PRESET)
    assert what in caught.value.what
    assert expected in caught.value.expected


@pytest.mark.parametrize("arguments", [{"settings": ["upsampler.steps=3"]}, {"steps": [1, 3]}])
def test_settings_of_a_network_that_the_world_lacks_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(DiamondError, match=r"upsampler\.steps: world 'small' has no upsampler"):
        tuning(**arguments).applied("small", {"denoiser": PRESET["denoiser"]})


def test_a_section_for_an_upsampler_that_the_world_lacks_is_refused_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "upsampler: {s_churn: 3}")
    with pytest.raises(DiamondError, match=r"mine\.yaml: upsampler\.s_churn: world 'small' has no upsampler"):
        tuning(path).applied("small", {"denoiser": PRESET["denoiser"]})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiamondError, match=r"none\.yaml: cannot be read"):
        tuning(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (PRESET["denoiser"], "3 Euler steps, sigma 5 -> 0.002, s_cond 0.005"),
        (PRESET["upsampler"], "10 Euler steps, sigma 5 -> 1, churn 10 x 0.9 in [1, 5]"),
        (SamplerConfig(order=2, rho=3, initial_std=5), "1 Heun step, sigma 5, initial noise 5"),
        (
            SamplerConfig(4, rho=3, s_churn=1),
            "4 Euler steps, sigma 5 -> 0.002, rho 3, churn 1 x 1 in [0, inf]",
        ),
    ],
)
def test_settings_in_words_say_what_has_an_effect(config: SamplerConfig, words: str) -> None:
    assert config.in_words() == words
