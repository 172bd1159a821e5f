"""A soak notices what it is there for: NaN, a stuck picture, a leak; and does not cry wolf."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak import scripted, soak
from benchmarks.watching import FEWEST_SAMPLES, STUCK_FRAMES, Growth, Watch
from engine.actions import KEYBOARD_MOUSE_51, ActionSpace
from engine.bundle import Bundle, write_bundle
from engine.world import World
from tests.engine.doubles import NumpyBackend
from tests.engine.tiny_world import world_files, world_json

ROOT = Path(__file__).resolve().parents[2]
MB = 1 << 20


def quiet(line: str) -> None:
    """Nobody reads it."""


@pytest.fixture
def played(tmp_path: Path) -> Iterator[tuple[World, NumpyBackend]]:
    manifest = world_json() | {"horizon": 7}
    backend = NumpyBackend()
    with World(
        Bundle.open(write_bundle(tmp_path / "tiny", manifest, world_files(tmp_path, manifest))), backend
    ) as world:
        yield world, backend


def pictures(count: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    for _ in range(count):
        yield random.integers(0, 256, (4, 6, 3), np.uint8)


def test_a_world_that_plays_well_passes(played: tuple[World, NumpyBackend]) -> None:
    watch = soak(played[0], frames=40, every=4, seed=0, say=quiet)
    assert (watch.frames, len(watch.samples)) == (40, 11)
    assert watch.failures(64 * MB) == []
    assert played[0].spawn == 1, "resets go to the next spawn"


def test_a_world_that_paints_nan_fails(played: tuple[World, NumpyBackend]) -> None:
    world, backend = played
    backend.poison.add("upsampler")
    watch = soak(world, frames=40, every=4, seed=0, say=quiet)
    assert watch.frames == 0
    assert "the upsampler painted NaN" in watch.failures()[0]


def test_a_stuck_picture_fails(played: tuple[World, NumpyBackend], monkeypatch: pytest.MonkeyPatch) -> None:
    world, step = played[0], World.step
    kept = []

    def stuck_step(self: World, action: object) -> object:
        kept.append(step(self, action))  # type: ignore[arg-type]
        return kept[min(len(kept), 3) - 1]

    monkeypatch.setattr(World, "step", stuck_step)
    watch = soak(world, frames=40, every=2, seed=0, say=quiet)
    assert watch.frames == 3 + STUCK_FRAMES, "it ends there"
    assert any("stood still for 8 frames" in failure for failure in watch.failures())


def test_a_picture_of_one_colour_is_as_dead_as_one_that_stands_still() -> None:
    watch = Watch()
    for level in range(STUCK_FRAMES):
        watch.see(np.full((4, 6, 3), level, np.uint8))
    assert watch.stuck


def test_few_equal_frames_and_those_around_a_reset_are_no_failure() -> None:
    watch = Watch()
    for picture in pictures(20):
        for _ in range(STUCK_FRAMES):
            watch.see(picture)
            watch.start_over()
        watch.see(picture)
        watch.see(picture)
    assert (watch.stuck, watch.longest_equal) == (False, 1)


@pytest.mark.parametrize(("leaked_bytes", "fails"), [(0, False), (500, False), (5000, True)])
def test_a_leak_is_told_from_noise_and_from_a_jump(leaked_bytes: int, fails: bool) -> None:
    random, watch = np.random.default_rng(0), Watch()
    for index, picture in enumerate(pictures(200)):
        for _ in range(20):
            watch.see(picture)
            watch.start_over()
        warm_up, jump = min(index, 10) * 4 * MB, (index > 150) * 3 * MB
        noise = int(random.normal() * MB / 2)
        watch.sample(200 * MB + warm_up + jump + noise + leaked_bytes * watch.frames)
    assert bool(watch.failures()) is fails, watch.failures()


def test_growth_is_the_median_slope_behind_the_warm_up() -> None:
    samples = [(frame, 10 * MB + 3 * frame) for frame in range(100, 1100, 100)]
    samples[0] = (100, 0)  # the first tenth warms up
    assert Growth.of(samples) == Growth(bytes_a_frame=3.0, frames=800)
    assert Growth.of(samples).total_bytes == 2400
    assert Growth.of(samples[:1]).total_bytes == 0


def test_memory_that_was_hardly_sampled_is_not_called_flat() -> None:
    watch = Watch(samples=[(frame, MB) for frame in range(FEWEST_SAMPLES - 1)])
    assert "too few to judge by" in watch.failures()[0]


def test_the_script_repeats_and_uses_what_the_world_has() -> None:
    def first(space: ActionSpace, seed: int) -> np.ndarray:
        actions = scripted(space, seed)
        return np.stack([next(actions) for _ in range(200)])

    rows = first(KEYBOARD_MOUSE_51, 1)
    assert np.array_equal(rows, first(KEYBOARD_MOUSE_51, 1))
    assert not np.array_equal(rows, first(KEYBOARD_MOUSE_51, 2))
    assert (rows.any(axis=0)[:13]).all(), "every key and button"
    plain = ActionSpace(keys=("left", "right"), mouse_x=(), mouse_y=(), buttons=())
    assert first(plain, 1).shape == (200, 2)


def test_the_command_ends_in_json_and_keeps_the_report(tmp_path: Path) -> None:
    kept = tmp_path / "machine.json"
    script = ROOT / "benchmarks" / "soak.py"
    arguments = [
        "--frames",
        "12",
        "--every",
        "2",
        "--threads",
        "1",
        "--growth-mb",
        "200",
        "--json",
        str(kept),
    ]
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert json.loads(kept.read_text())["reports"] == [report]
    assert (report["benchmark"], report["frames"], report["failures"]) == ("soak", 12, [])
    assert len(report["resident_mb"]) == 7

    done = subprocess.run(
        [sys.executable, str(script), "--frames", "2", "--threads", "1"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "too few to judge by" in done.stderr
