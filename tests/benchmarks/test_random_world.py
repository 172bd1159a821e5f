"""Worlds of random weights: what they are is what was asked for, and they play."""

from pathlib import Path

import pytest

from benchmarks import growth
from benchmarks.configuration import Config
from benchmarks.random_world import random_world
from engine import load_world


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path))


def test_a_random_world_has_the_sizes_asked_for_and_plays() -> None:
    path = random_world("tiny", "14x20")
    with load_world(path, threads=1) as world:
        assert world.manifest.sizes.low_res == (14, 20)
        assert world.manifest.sizes.full_res == (70, 100)
        world.reset(0)
        frame = world.step(world.action_space.idle())
        assert frame.rgb.shape == (70, 100, 3)
        assert frame.rgb.std() > 1, "it must paint something"
    assert random_world("tiny", "14x20") == path


def test_larger_frames_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "SIZES_OF", "tiny")
    small, large = growth.with_sizes(["8x10", "24x30"], Config(threads=1), 8, lambda line: None)
    assert small["low_res"] == [8, 10]
    assert large["shown"] == [120, 150]
    assert 8 < large["gflop"] / small["gflop"] < 10, "nine times the pixels"
