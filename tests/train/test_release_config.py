"""The YAML of a release: read by name, type and range, or refused by file and dotted name."""

import math
from pathlib import Path
from typing import Any

import pytest

from engine.errors import DiamondError
from tests.train.releases import edit_yaml, make_release, small_agent
from train.release import read_release
from train.release_config import AGENT_YAML, ENV_YAML


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A small release, to be damaged."""
    return make_release(tmp_path / "release")


@pytest.mark.parametrize("target", ["os.system", None, 5, ["a"], ...])
def test_targets_are_ignored_whatever_they_name(release: Path, target: object) -> None:
    for field in ("_target_", "denoiser._target_", "upsampler.inner_model._target_"):
        edit_yaml(release / AGENT_YAML, field, target)
    assert read_release(release).agent == small_agent()


def test_only_the_number_of_actions_is_read_from_the_env(release: Path) -> None:
    (release / ENV_YAML).write_text(
        "num_actions: 7\ntrain: {size: '${oc.env:HOME}'}\nanything: [1, {a: null}]\n"
    )
    assert read_release(release).agent.num_actions == 7


BAD_FIELDS: list[tuple[str, str, Any, str]] = [
    *(
        (AGENT_YAML, field, ..., f"lacks {field}")
        for field in (
            *("denoiser", "upsampler", "rew_end_model", "actor_critic", "denoiser.sigma_data"),
            *("upsampler.inner_model", "denoiser.inner_model.depths", "upsampler.inner_model.cond_channels"),
        )
    ),
    (ENV_YAML, "num_actions", ..., "lacks num_actions"),
    (AGENT_YAML, "diffuser", 1, "unknown diffuser"),
    (AGENT_YAML, "denoiser.sigma_max", 1, r"unknown denoiser\.sigma_max"),
    (AGENT_YAML, "upsampler.inner_model.num_actions", 51, r"unknown upsampler\.inner_model\.num_actions"),
    (AGENT_YAML, "denoiser", None, "denoiser is None"),
    (AGENT_YAML, "denoiser.inner_model", [1], r"denoiser\.inner_model is \[1\]"),
    (AGENT_YAML, "upsampler", 5, "upsampler is 5"),
    (AGENT_YAML, "rew_end_model", {"a": 1}, "rew_end_model is not null"),
    (AGENT_YAML, "actor_critic", {"a": 1}, "actor_critic is not null"),
    (AGENT_YAML, "denoiser.sigma_data", "half", r"denoiser\.sigma_data is 'half'"),
    (AGENT_YAML, "denoiser.sigma_data", 0, r"denoiser\.sigma_data is 0"),
    (AGENT_YAML, "denoiser.sigma_data", math.inf, r"denoiser\.sigma_data is inf"),
    (AGENT_YAML, "denoiser.sigma_data", True, r"denoiser\.sigma_data is True"),
    (AGENT_YAML, "upsampler.sigma_offset_noise", -0.1, r"upsampler\.sigma_offset_noise is -0\.1"),
    (AGENT_YAML, "upsampler.sigma_offset_noise", math.nan, r"upsampler\.sigma_offset_noise is nan"),
    (AGENT_YAML, "denoiser.noise_previous_obs", 1, r"denoiser\.noise_previous_obs is 1"),
    (AGENT_YAML, "denoiser.upsampling_factor", 5, r"denoiser\.upsampling_factor is 5"),
    (AGENT_YAML, "upsampler.upsampling_factor", None, r"upsampler\.upsampling_factor is None"),
    (AGENT_YAML, "upsampler.upsampling_factor", 2.5, r"upsampler\.upsampling_factor is 2\.5"),
    (AGENT_YAML, "denoiser.inner_model.img_channels", 1, r"denoiser\.inner_model\.img_channels is 1"),
    (AGENT_YAML, "denoiser.inner_model.depths", 2, r"denoiser\.inner_model\.depths is 2"),
    (AGENT_YAML, "denoiser.inner_model.depths", [1, 10**9], r"denoiser\.inner_model\.depths is \[1, 10+\]"),
    (AGENT_YAML, "denoiser.inner_model.depths", [1] * 1000, r"denoiser\.inner_model\.depths is \[1, 1"),
    (AGENT_YAML, "denoiser.inner_model.depths", [], r"denoiser\.inner_model\.depths is \[\]"),
    (AGENT_YAML, "denoiser.inner_model.depths", [1], "different lengths"),
    (
        AGENT_YAML,
        "denoiser.inner_model.channels",
        [8, "16"],
        r"denoiser\.inner_model\.channels is \[8, '16'\]",
    ),
    (
        AGENT_YAML,
        "denoiser.inner_model.channels",
        [8, 10**9],
        r"denoiser\.inner_model\.channels is \[8, 10+\]",
    ),
    (AGENT_YAML, "denoiser.inner_model.cond_channels", 15, r"denoiser\.inner_model: .*cond_channels 15"),
    (
        AGENT_YAML,
        "denoiser.inner_model.attn_depths",
        [0, 2],
        r"denoiser\.inner_model\.attn_depths is \[0, 2\]",
    ),
    (
        AGENT_YAML,
        "denoiser.sigma_data",
        "${a.b}",
        r"denoiser\.sigma_data is '\$\{a\.b\}'(.|\n)*not evaluated",
    ),
    (AGENT_YAML, "denoiser.inner_model", "${a}", r"denoiser\.inner_model is '\$\{a\}'(.|\n)*not evaluated"),
    (ENV_YAML, "num_actions", "${eval:51}", r"num_actions is '\$\{eval:51\}'(.|\n)*not evaluated"),
    (ENV_YAML, "num_actions", 0, "num_actions is 0"),
    (ENV_YAML, "num_actions", 51.0, r"num_actions is 51\.0"),
]


@pytest.mark.parametrize(("file", "field", "value", "complaint"), BAD_FIELDS)
def test_a_wrong_field_is_refused_by_file_and_dotted_name(
    release: Path, file: str, field: str, value: object, complaint: str
) -> None:
    edit_yaml(release / file, field, value)
    with pytest.raises(DiamondError, match=complaint) as caught:
        read_release(release)
    assert str(release / file) in caught.value.what


def test_a_yaml_bomb_in_place_of_a_config_is_refused(release: Path) -> None:
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (release / AGENT_YAML).write_text("\n".join(lines))
    with pytest.raises(DiamondError, match="anchor or alias"):
        read_release(release)
