"""Checkpoints of releases: weights and nothing else, strictly; whatever else they hold never runs."""

import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import DiamondError
from tests.train.releases import edit_yaml, make_release
from train.release import CHECKPOINT, load_release_agent
from train.release_config import AGENT_YAML


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A small release, to be damaged."""
    return make_release(tmp_path / "release")


class _Command:
    """Unpickled, this runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["archive", "archive beside weights", "legacy", "bare pickle"])
def test_a_malicious_pickle_is_refused_and_nothing_of_it_runs(
    release: Path, tmp_path: Path, form: str
) -> None:
    checkpoint, payload = release / CHECKPOINT, tmp_path / "payload"
    attack = _Command(f"touch {payload}")
    if form == "archive":
        torch.save(attack, checkpoint)
    elif form == "archive beside weights":
        torch.save({**torch.load(checkpoint, weights_only=True), "more": attack}, checkpoint)
    elif form == "legacy":
        torch.save(attack, checkpoint, _use_new_zipfile_serialization=False)
    else:
        checkpoint.write_bytes(pickle.dumps(attack))
    with pytest.raises(DiamondError, match=r"csgo\.pt") as caught:
        load_release_agent(release)
    assert not payload.exists()
    assert "weights_only" not in str(caught.value), "PyTorch's advice to load it unsafely is not passed on"
    if form.startswith("archive"):
        assert "refers to posix.system" in str(caught.value)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused_as_a_part(release: Path, fraction: float) -> None:
    data = (release / CHECKPOINT).read_bytes()
    (release / CHECKPOINT).write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(DiamondError, match="only a part of one"):
        load_release_agent(release)


def test_a_damaged_checkpoint_never_ends_in_a_traceback(release: Path) -> None:
    original, random = (release / CHECKPOINT).read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(original)
        for place in random.integers(0, len(data), 30):
            data[place] ^= int(random.integers(1, 256))
        (release / CHECKPOINT).write_bytes(data)
        with contextlib.suppress(DiamondError):  # damage inside the weights themselves is for hashes to find
            load_release_agent(release)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(release: Path) -> None:
    with zipfile.ZipFile(release / CHECKPOINT, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(DiamondError, match="compressed archive"):
        load_release_agent(release)


def _resave(release: Path, change: dict[str, Any]) -> None:
    weights = {**torch.load(release / CHECKPOINT, weights_only=True), **change}
    torch.save({name: weight for name, weight in weights.items() if weight is not ...}, release / CHECKPOINT)


CONV = "denoiser.inner_model.conv_in.weight"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({CONV: ...}, f"lacks {CONV}"),
        ({"denoiser.more": torch.zeros(1)}, r"has unknown denoiser\.more"),
        (
            {"actor_critic.w": torch.zeros(1)},
            r"has unknown actor_critic\.w \(networks found: actor_critic, denoiser",
        ),
        (
            {CONV: torch.zeros(8, 9, 3, 4)},
            r"has other sizes: .*conv_in\.weight \(8, 9, 3, 4\) instead of \(8, 9, 3, 3\)",
        ),
        ({CONV: torch.zeros(8, 9, 3, 3, dtype=torch.int8)}, r"is not a weight: a tensor of torch\.int8"),
        ({CONV: "zeros"}, "is not a weight: a str"),
        ({f"x{i}": torch.zeros(1) for i in range(9)}, "has unknown x0, x1, x2 and 6 more"),
    ],
)
def test_a_checkpoint_that_does_not_fit_says_how(
    release: Path, change: dict[str, Any], complaint: str
) -> None:
    _resave(release, change)
    with pytest.raises(DiamondError, match=complaint):
        load_release_agent(release)


def test_weights_of_an_upsampler_that_the_config_lacks_are_refused(release: Path) -> None:
    edit_yaml(release / AGENT_YAML, "upsampler", None)
    with pytest.raises(DiamondError, match=r"has unknown upsampler\."):
        load_release_agent(release)
