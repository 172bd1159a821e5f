"""From the command line's config to a rendering, with the real `World` on a made-up network."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine.loading
from engine.actions import KEYBOARD_MOUSE_51 as SPACE
from engine.actions import Action
from engine.bundle import write_bundle
from engine.errors import DiamondError
from engine.player.launch import PlayConfig, play
from engine.player.playable import Pixels
from engine.player.recording import Recording
from engine.player.video import VideoWriter
from tests.engine.doubles import NumpyBackend
from tests.engine.tiny_world import world_files, world_json

pytest.importorskip("av", reason="video needs the extra `record`")

Play = Callable[..., str]
DEMO = Recording(np.array([SPACE.encode(Action(["w"], mouse_dx=30))] * 130, np.uint8), SPACE, 10.0, spawn=1)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A tiny world with a demo of 13 seconds."""
    manifest = world_json() | {"actions": {"demo": "actions/demo.npz"}}
    DEMO.save(tmp_path / "demo.npz")
    files = world_files(tmp_path, manifest) | {"actions/demo.npz": (tmp_path / "demo.npz").read_bytes()}
    return write_bundle(tmp_path / "tiny", manifest, files)


@pytest.fixture
def run(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Play:
    """Plays in an empty working directory without a display; gives what was printed."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(engine.loading, "open_backend", lambda name, threads: NumpyBackend())

    def run(**config: Any) -> str:
        play(PlayConfig(**({"world": str(world)} | config)))
        return capsys.readouterr().out

    return run


def test_without_a_display_ten_seconds_of_the_demo_are_rendered(run: Play) -> None:
    printed = run()
    assert [path.name for path in Path().iterdir()] == ["tiny.mp4"]
    first, second = printed.splitlines()[:2]
    assert first.startswith("tiny: fp32 on numpy double")
    assert first.endswith("fast (1 + 1 steps); seed 0")
    assert second == "no display: DISPLAY is not set; rendering 10 s of play to tiny.mp4"
    for row in ("world      tiny: fp32 on numpy double", "preset     fast", "frame_ms   p50", "fps        "):
        assert row in printed
    assert "100 frames, 10.0 s at 10 fps" in printed


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[list[Pixels]]:
    """The frames of each video so far, before the encoder."""
    videos: list[list[Pixels]] = []
    begin, add = VideoWriter.__init__, VideoWriter.add

    def noted_begin(video: VideoWriter, *arguments: Any) -> None:
        videos.append([])
        begin(video, *arguments)

    def noted_add(video: VideoWriter, rgb: Pixels) -> None:
        videos[-1].append(rgb)
        add(video, rgb)

    monkeypatch.setattr(VideoWriter, "__init__", noted_begin)
    monkeypatch.setattr(VideoWriter, "add", noted_add)
    return videos


def test_a_recorded_rendering_replays_to_the_same_frames(run: Play, shown: list[list[Pixels]]) -> None:
    run(headless=Path("a.mp4"), frames=8, record=Path("a.npz"), seed=5, preset="quality")
    recording = Recording.load(Path("a.npz"))
    assert (recording.seed, recording.spawn, len(recording.actions)) == (5, 1, 8)
    printed = run(headless=Path("b.mp4"), actions=Path("a.npz"))
    np.testing.assert_array_equal(*shown)
    assert "quality" in printed.splitlines()[0]
    assert "seed 5" in printed.splitlines()[0]


@pytest.mark.parametrize("change", [{"seed": 6}, {"preset": "fast"}, {"spawn": 0}, {"steps": (2,)}])
def test_what_is_asked_for_counts_more_than_the_recording(
    run: Play, shown: list[list[Pixels]], change: dict[str, Any]
) -> None:
    run(headless=Path("a.mp4"), frames=8, record=Path("a.npz"), seed=5, preset="quality")
    run(headless=Path("b.mp4"), actions=Path("a.npz"), **change)
    assert not np.array_equal(*shown)


def test_steps_replace_those_of_the_preset(run: Play) -> None:
    assert "custom (4 + 2 steps)" in run(headless=Path("a.mp4"), frames=2, steps=(4, 2))


def test_a_recording_of_another_build_of_the_world_is_noted(run: Play) -> None:
    dataclasses.replace(DEMO, bundle="0" * 64, world="tiny").save(Path("old.npz"))
    assert "another build of tiny" in run(headless=Path("a.mp4"), frames=2, actions=Path("old.npz"))


def test_a_recording_of_another_action_space_is_refused(run: Play) -> None:
    other = dataclasses.replace(SPACE, mouse_y=(-1, 0, 1), camera_keys={}, forbidden=(), labels={})
    Recording(np.array([other.idle()], np.uint8), other, 10.0).save(Path("other.npz"))
    with pytest.raises(DiamondError, match=r"other\.npz: recorded for another action space: .*mouse_y"):
        run(headless=Path("a.mp4"), actions=Path("other.npz"))
    assert not Path("a.mp4").exists()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"headless": Path("a.avi")}, "not an mp4"),
        ({"headless": Path("no/a.mp4")}, "there is no directory no"),
        ({"frames": 5}, "--frames without --headless"),
        ({"frames": 0, "headless": Path("a.mp4")}, "--frames is 0"),
        ({"fps": -1.0}, "--fps is -1"),
        ({"steps": (1, 2, 3)}, "--steps has 3"),
        ({"record": Path("a.gif")}, "unknown kind of recording"),
        ({"actions": Path("none.npz")}, "no such file"),
        ({"preset": "best"}, "no preset 'best'"),
        ({"steps": (0,)}, "steps is 0"),
        ({"spawn": 9, "headless": Path("a.mp4")}, "spawn 9"),
        ({"world": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said(run: Play, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(DiamondError, match=reason):
        run(**config)
    assert not list(Path().iterdir())


def test_the_world_is_closed_when_its_settings_are_refused(
    run: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = NumpyBackend()
    monkeypatch.setattr(engine.loading, "open_backend", lambda name, threads: backend)
    with pytest.raises(DiamondError):
        run(steps=(0,))
    with pytest.raises(DiamondError, match="closed"):
        backend.load(None)  # type: ignore[arg-type]


def test_ctrl_c_leaves_nothing_half_made(world: Path, tmp_path: Path) -> None:
    code = """
import engine.loading
from engine.errors import run_cli
from pathlib import Path
from engine.player.launch import PlayConfig, play
from tests.engine.doubles import NumpyBackend
import sys
engine.loading.open_backend = lambda name, threads: NumpyBackend()
run_cli(lambda: play(PlayConfig(world=sys.argv[1], headless=Path("a.mp4"), frames=130, steps=(50, 50))))
"""
    folder = tmp_path / "interrupted"
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(world)],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not list(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)  # until the video is being written
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=30)
    assert process.returncode == 130, printed
    assert printed.endswith("interrupted\n")
    assert not list(folder.iterdir())
