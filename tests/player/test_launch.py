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
    monkeypatch.setattr(engine.loading, "open_backend", lambda name, threads, precision: NumpyBackend())

    def run(**config: Any) -> str:
        play(PlayConfig(**({"world": str(world)} | config)))
        return capsys.readouterr().out

    return run


def test_without_a_display_ten_seconds_of_the_demo_are_rendered(run: Play) -> None:
    printed = run()
    assert [path.name for path in Path().iterdir()] == ["tiny.mp4"]
    first, *networks, fourth = printed.splitlines()[:4]
    assert first.startswith("tiny: fp32 on numpy double")
    assert first.endswith("fast (1 + 1 steps); seed 0; horizon 1000")
    assert networks[0].startswith("denoiser: 1 Euler step, sigma 5")
    assert networks[1].startswith("upsampler: 1 Heun step, sigma 5, churn 10 x 0.9 in [1, 5]")
    assert fourth == "no display: DISPLAY is not set; rendering 10 s of play to tiny.mp4"
    for row in ("world      tiny: fp32 on numpy double", "preset     fast", "frame_ms   p50", "fps        "):
        assert row in printed
    assert "100 frames, 10.0 s at 10 fps" in printed


def test_nothing_is_asked_before_play(run: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    run(headless=Path("a.mp4"), frames=1)


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


def test_settings_of_ones_own_are_recorded_and_replayed_bit_for_bit(
    run: Play, shown: list[list[Pixels]]
) -> None:
    Path("own.yaml").write_text("denoiser: {steps: 2, s_cond: 0.1, s_tmax: inf}\nupsampler: {sigma_max: 4}")
    config = {"frames": 6, "sampler": Path("own.yaml"), "settings": ("upsampler.s_churn=5",), "steps": (3,)}
    printed = run(headless=Path("a.mp4"), record=Path("a.npz"), preset="quality", **config)
    recorded = Recording.load(Path("a.npz")).sampling
    assert recorded is not None
    denoiser, upsampler = recorded.networks["denoiser"], recorded.networks["upsampler"]
    assert (denoiser.steps, denoiser.s_cond, denoiser.order) == (3, 0.1, 2)
    assert (upsampler.sigma_max, upsampler.s_churn, upsampler.steps) == (4.0, 5.0, 2)
    assert "denoiser: 3 Heun steps, sigma 5 -> 0.002, s_cond 0.1\n" in printed
    assert "upsampler: 2 Heun steps, sigma 4 -> 1, churn 5 x 0.9 in [1, 5]\n" in printed
    again = run(headless=Path("b.mp4"), actions=Path("a.npz"), record=Path("b.npz"))
    assert "denoiser: 3 Heun steps, sigma 5 -> 0.002, s_cond 0.1\n" in again
    np.testing.assert_array_equal(*shown)
    assert Recording.load(Path("b.npz")).sampling == recorded


def test_a_replay_renders_the_recorded_actions_of_the_spawn(run: Play, shown: list[list[Pixels]]) -> None:
    printed = run(headless=Path("a.mp4"), replay=True, spawn=1, record=Path("a.npz"))
    assert len(shown[0]) == 2, "the newest action of the spawn, and the one after it"
    np.testing.assert_array_equal(Recording.load(Path("a.npz")).actions, [SPACE.idle()] * 2)
    assert "stopped early" not in printed
    printed = run(headless=Path("b.mp4"), replay=True, spawn=1, frames=5)
    assert len(shown[1]) == 2
    assert "stopped early: spawn 0 has no recorded actions: you are in control" in printed
    run(headless=Path("c.mp4"), replay=True, spawn=1, horizon=1)
    assert len(shown[2]) == 1


def test_the_horizon_is_that_of_the_option_then_of_the_file_then_of_the_world(run: Play) -> None:
    Path("own.yaml").write_text("horizon: 3")
    own = {"headless": Path("a.mp4"), "frames": 2, "sampler": Path("own.yaml")}
    assert "; fast (1 + 1 steps); seed 0; horizon 3\n" in run(**own)
    assert "; horizon 2\n" in run(**own, horizon=2)


@pytest.mark.parametrize(
    "change",
    [{"seed": 6}, {"preset": "fast"}, {"spawn": 0}, {"steps": (2,)}, {"settings": ("denoiser.s_cond=1",)}],
)
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
        ({"horizon": 0}, "--horizon is 0"),
        ({"sampler": Path("none.yaml")}, r"none\.yaml: cannot be read"),
        ({"settings": ("denoiser.step=1",)}, "'step' is unknown"),
        ({"replay": True, "actions": Path("a.npz")}, "--replay and --actions"),
        ({"world": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said(run: Play, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(DiamondError, match=reason):
        run(**config)
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"preset": "best"}, "no preset 'best'"),
        ({"steps": (0,)}, "steps is 0"),
        ({"spawn": 2}, r"--spawn 2: world 'tiny' has 2 spawns\.\nExpected: 0 to 1\."),
        ({"spawn": -1}, r"--spawn -1: world 'tiny' has 2 spawns\.\nExpected: 0 to 1\."),
        ({"actions": Path("far.npz")}, r"far\.npz: spawn 7: world 'tiny' has 2 spawns"),
        ({"replay": True}, "--replay: spawn 0 has no recorded actions"),
    ],
)
def test_what_the_world_cannot_do_is_said_before_its_networks_load(
    run: Play, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], reason: str
) -> None:
    dataclasses.replace(DEMO, spawn=7).save(Path("far.npz"))
    opened: list[str] = []
    monkeypatch.setattr(engine.loading, "open_backend", lambda name, threads, precision: opened.append(name))
    with pytest.raises(DiamondError, match=reason):
        run(**config)
    assert not opened
    assert [path.name for path in Path().iterdir()] == ["far.npz"]


def test_ctrl_c_leaves_nothing_half_made(world: Path, tmp_path: Path) -> None:
    code = """
import engine.loading
from engine.errors import run_cli
from pathlib import Path
from engine.player.launch import PlayConfig, play
from tests.engine.doubles import NumpyBackend
import sys
engine.loading.open_backend = lambda name, threads, precision: NumpyBackend()
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
