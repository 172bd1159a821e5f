"""A real window, under Xvfb with Mesa, played with real X events."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("window_driver.py")
MISSING = [program for program in ("Xvfb", "xdotool") if shutil.which(program) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A virtual screen of its own."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x800x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as number:
        yield f":{number.readline().strip()}"
    server.terminate()
    server.wait(10)


def drive(scene: str, display: str | None, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"DISPLAY": display} if display else {})
    return subprocess.run(
        [sys.executable, str(DRIVER), scene],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("window")


@pytest.fixture(scope="module")
def seen(display: str, folder: Path) -> dict[str, Any]:
    """What one long sitting looked like; each test below judges a part of it."""
    done = drive("play", display, folder)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert "error" not in result, "".join(result["error"])
    return result


def test_the_window_opens_at_its_size_without_taking_the_screen_or_the_mouse(seen: dict[str, Any]) -> None:
    assert seen["at first"] == [[840, 450], False, False]


def test_an_arrow_key_turns_the_camera(seen: dict[str, Any]) -> None:
    assert seen["arrow key"] == -60


def test_a_replay_goes_from_spawn_to_spawn_until_one_has_no_recorded_actions(seen: dict[str, Any]) -> None:
    assert seen["replay"] == ["recording", 3]
    assert seen["after the replay"] == ["you", "spawn 0 has no recorded actions: you are in control"]


def test_keys_reach_the_world(seen: dict[str, Any]) -> None:
    assert seen["held"] >= 5
    assert seen["not held for ever"]


def test_a_tap_within_a_frame_is_not_lost(seen: dict[str, Any]) -> None:
    assert seen["tapped"] in (1, 2)  # 2: on a busy machine the release may come a frame later


def test_a_digit_typed_under_shift_is_that_digit(seen: dict[str, Any]) -> None:
    assert seen["digit under shift"] in (1, 2)


def test_the_screen_shows_the_newest_frame_exactly(seen: dict[str, Any]) -> None:
    assert seen["paused shows the newest"]
    assert seen["step shows the newest"]
    assert seen["reset shows the spawn"]


def test_pause_and_single_step(seen: dict[str, Any]) -> None:
    assert seen["paused"]
    assert seen["stepped"]
    assert seen["reset frame"] == 0


def test_the_inset_is_the_low_resolution_frame(seen: dict[str, Any]) -> None:
    assert seen["inset"]


def test_the_mouse_counts_only_while_captured_and_then_all_of_it(seen: dict[str, Any]) -> None:
    assert seen["mouse before the click"] == [0, 0]
    assert seen["mouse after the click"] == [30, 1]
    assert seen["the click itself"] == 0
    assert seen["mouse after escape"] == 30


def test_focus_loss_releases_the_keys(seen: dict[str, Any]) -> None:
    assert seen["after focus loss"] == []


def test_a_screenshot_is_what_the_window_showed(seen: dict[str, Any], folder: Path) -> None:
    (path,) = folder.glob("fake world-*.png")
    picture = np.asarray(Image.open(path))
    assert picture.shape == (450, 840, 3)
    assert picture.std() > 20  # not a blank buffer


def test_closing_in_the_middle_of_a_step_ends_cleanly(display: str, tmp_path: Path) -> None:
    done = drive("close", display, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["closed"] < 5


def test_input_has_its_turn_when_drawing_is_slower_than_the_frames(display: str, tmp_path: Path) -> None:
    done = drive("slow", display, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"last frame shown": True}


def test_a_defect_of_the_world_closes_the_window_and_shows_its_traceback(
    display: str, tmp_path: Path
) -> None:
    done = drive("broken", display, tmp_path)
    assert done.returncode == 1
    assert "the fake world broke, as asked" in done.stderr


@pytest.mark.parametrize("display_name", [None, ":4711"])
def test_a_window_that_does_not_open_suggests_headless(display_name: str | None, tmp_path: Path) -> None:
    done = drive("play", display_name, tmp_path)
    assert done.returncode == 2
    assert "the window does not open" in done.stderr
    assert "--headless" in done.stderr
    assert "Traceback" not in done.stderr
