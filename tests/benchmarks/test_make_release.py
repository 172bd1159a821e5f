"""Releases of random weights: in the published layout, repeatable, and nowhere trivial."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.make_release import make, random_weights
from engine.errors import DiamondError
from train.presets import recipe
from train.release import CHECKPOINT, load_release_agent, read_release

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "benchmarks/make_release.py", *arguments]
    return subprocess.run(
        script, cwd=ROOT, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
    )


def test_the_command_makes_a_release_that_reads_back(tmp_path: Path) -> None:
    arguments = (
        "--out",
        str(tmp_path / "release"),
        "--recipe",
        "tiny",
        "--low-res",
        "14x20",
        "--spawns",
        "3",
    )
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    release = read_release(tmp_path / "release")
    assert release.agent == recipe("tiny").agent
    assert (release.low_res, release.full_res) == ((14, 20), (70, 100))
    assert len(release.spawns()) == 3
    load_release_agent(release)
    again = command(*arguments)
    assert again.returncode == 2
    assert "is there already" in again.stderr


def test_the_files_are_those_of_the_published_layout(tmp_path: Path) -> None:
    make(tmp_path / "release", recipe="tiny")
    published = ROOT / "tests" / "golden" / "published_tiny"
    ours, theirs = (
        {str(path.relative_to(folder)) for path in folder.rglob("*")}
        for folder in (tmp_path / "release", published)
    )
    assert ours == theirs
    for name in sorted(theirs):
        if name.endswith(".npy") and "next" not in name:
            one, other = np.load(tmp_path / "release" / name), np.load(published / name)
            assert (one.dtype, one.shape) == (other.dtype, other.shape), name


def test_no_weight_is_left_at_zero_and_a_seed_repeats_them() -> None:
    agent = recipe("tiny").agent
    first, again, other = (random_weights(agent, seed) for seed in (0, 0, 1))
    for name, weight in first.items():
        assert weight.count_nonzero() == weight.numel(), name
        assert torch.equal(weight, again[name]), name
        assert not torch.equal(weight, other[name]), name


def test_predictions_neither_vanish_nor_explode(tmp_path: Path) -> None:
    make(tmp_path / "release", recipe="tiny")
    release = read_release(tmp_path / "release")
    denoiser, spawn = load_release_agent(release).denoiser, release.spawns()[0]
    history = torch.from_numpy(spawn.low_res).float().div(127.5).sub(1).flatten(0, 1)[None]
    x = torch.randn(1, 3, *release.low_res, generator=torch.Generator().manual_seed(0))
    pre = denoiser.preconditioning(torch.tensor([5.0]), None)
    raw = denoiser.raw_output(5 * x, history, torch.from_numpy(spawn.actions)[None], pre)
    assert 0.1 < float(raw.std()) < 10


def test_a_size_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DiamondError, match="--low-res 30"):
        make(tmp_path / "release", recipe="tiny", low_res="30")
    assert not (tmp_path / "release" / CHECKPOINT).exists()
