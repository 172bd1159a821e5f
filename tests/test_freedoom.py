"""The world in the package: it loads, it is small, it moves as it is told, and it never goes blank in a short play."""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.turning import horizontal_shift
from engine import Action, World, load_world
from engine.catalog import resolve
from export.report import Gates, exceeded


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with load_world("freedoom", backend="ort", seed=0) as loaded:
        yield loaded


def shift(world: World, spawn: int, units: int, frames: int = 6) -> float:
    """Mean motion of the picture to the right, low-res pixels a frame, while the mouse turns by `units`."""
    frame = world.reset(spawn)
    moved = []
    for _ in range(frames):
        before = frame.low_res
        frame = world.step(Action(mouse_dx=units))
        moved.append(horizontal_shift(before, frame.low_res))
    return float(np.mean(moved[1:]))


def test_turning_left_and_right_moves_the_picture_opposite_ways(world: World) -> None:
    left = [shift(world, spawn, -60) for spawn in range(world.spawn_count)]
    right = [shift(world, spawn, 60) for spawn in range(world.spawn_count)]
    assert np.mean(left) > 0.5, f"turning left moves the picture right: {left}"
    assert np.mean(right) < -0.5, f"turning right moves the picture left: {right}"
    opposite = np.mean([a > b for a, b in zip(left, right, strict=True)])
    assert opposite >= 0.75, f"left {left}, right {right}"


def test_every_spawn_starts_from_its_recorded_frame(world: World) -> None:
    for index in range(world.spawn_count):
        newest = world.bundle.spawn(index).full_res
        assert newest is not None
        np.testing.assert_array_equal(world.reset(index).rgb, newest[-1].transpose(1, 2, 0))


def test_the_same_seed_and_actions_paint_the_same_frames(world: World) -> None:
    actions = world.bundle.spawn(0).next_actions[:5]

    def play() -> list[np.ndarray]:
        world.reset(0)
        return [world.step(action).rgb for action in actions]

    for first, second in zip(play(), play(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_ten_seconds_of_play_are_neither_black_nor_flat_nor_frozen(world: World) -> None:
    world.reset(0)
    frames = [
        world.step(action).rgb.astype(np.float32) for action in world.bundle.spawn(0).next_actions[:175]
    ]
    assert min(frame.mean() for frame in frames) > 10
    assert min(frame.std() for frame in frames) > 3
    still = [np.abs(a - b).mean() < 0.05 for a, b in itertools.pairwise(frames)]
    assert np.mean(still) < 0.5


def test_the_world_is_at_most_40_mb_and_brings_its_notice() -> None:
    folder = resolve("freedoom")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 40e6
    assert "Freedoom project" in (folder / "NOTICE").read_text()
    assert exceeded(json.loads((folder / "fp32" / "parity.json").read_text()), Gates()) == []


def test_the_first_frame_comes_within_four_seconds_of_start() -> None:
    command = (
        "from engine import load_world; w = load_world('freedoom'); w.reset(0); w.step(w.action_space.idle())"
    )
    subprocess.run([sys.executable, "-c", command], check=True)  # warms the disk cache
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", command], check=True)
    assert time.perf_counter() - began < 4


def test_diamond_play_writes_a_video_without_a_display(tmp_path: Path) -> None:
    video = tmp_path / "play.mp4"
    pytest.importorskip("av", reason="the extra `record` is not installed")
    command = [sys.executable, "-m", "engine.cli", "freedoom", "--headless", str(video), "--frames", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert video.stat().st_size > 2000
    for word in ("fp32", "ONNX Runtime", "p50", "p95", "fps"):
        assert word in done.stdout + done.stderr
