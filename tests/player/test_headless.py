"""A rendering shows the frames, stops where it should, and is whole or absent."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DiamondError
from engine.player.headless import render
from engine.player.playable import Pixels
from engine.player.video import Enlargement, VideoWriter
from tests.player.fake_world import H, W
from tests.player.test_session import Game, script

av = pytest.importorskip("av", reason="video needs the extra `record`")


def decode(path: Path) -> list[Pixels]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal to noise ratio in dB."""
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def smooth_frames(count: int) -> list[Pixels]:
    """Moving coloured waves: without the hard edges whose colours yuv420p halves by its nature."""
    y, x = np.mgrid[0:H, 0:W]
    waves = [
        np.stack([np.sin(x / 30 + t / 5), np.cos(y / 20 - t / 7), np.sin((x + y) / 40)], -1)
        for t in range(count)
    ]
    return [(127.5 + 120 * wave).astype(np.uint8) for wave in waves]


@pytest.mark.parametrize("enlargement", ["nearest", "lanczos"])
@pytest.mark.parametrize("scale", [1, 2])
def test_the_video_shows_the_frames(tmp_path: Path, scale: int, enlargement: Enlargement) -> None:
    frames = smooth_frames(12)
    with VideoWriter(tmp_path / "clip.mp4", 17.5, scale, enlargement) as video:
        for frame in frames:
            video.add(frame)
    decoded = decode(tmp_path / "clip.mp4")
    assert len(decoded) == len(frames)
    assert decoded[0].shape == (H * scale, W * scale, 3)
    for shown, frame in zip(decoded, frames, strict=True):
        assert psnr(shown[::scale, ::scale], frame) > 34, "dB"


def test_the_video_says_its_rate_and_colours(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 17.5) as video:
        for frame in smooth_frames(7):
            video.add(frame)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        (stream,) = container.streams
        assert (float(stream.average_rate), stream.codec_context.name) == (17.5, "h264")
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1)
        assert float(stream.duration * stream.time_base) == pytest.approx(7 / 17.5)


def test_odd_sizes_are_made_even(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 10, scale=1) as video:
        video.add(np.zeros((15, 21, 3), np.uint8))
    assert decode(tmp_path / "clip.mp4")[0].shape == (16, 22, 3)


def test_a_rendering_plays_the_script_and_stops_with_it(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    rendered = render(Game(script(6, spawn=1)).session, path, frames=50, fps=25)
    expected = Game(script(6, spawn=1)).play(6)
    assert len(rendered.frame_ms) == 6
    for shown, frame in zip(decode(path), expected, strict=True):
        assert psnr(shown[::2, ::2], frame) > 25, "dB"  # hard edges of the checkerboard: 4:2:0 costs some
    assert "6 frames, 0.2 s at 25 fps" in rendered.rows()["video"]
    assert list(rendered.rows()) == ["video", "frame_ms", "fps"]


def test_a_rendering_has_as_many_frames_as_asked_for(tmp_path: Path) -> None:
    assert len(render(Game(script(6)).session, tmp_path / "a.mp4", 4, 25).frame_ms) == 4
    game = Game(horizon=2)  # no script: nobody plays, and the frame of a reset is not counted
    assert len(render(game.session, tmp_path / "b.mp4", 5, 25).frame_ms) == 5


def test_a_rendered_replay_goes_on_with_the_next_spawn_and_ends_where_nothing_is_recorded(
    tmp_path: Path,
) -> None:
    assert len(render(Game(spawn=1, replay=1).session, tmp_path / "a.mp4", 5, 25).frame_ms) == 5
    game = Game(spawn=1, replay=1)
    assert len(render(game.session, tmp_path / "b.mp4", 50, 25).frame_ms) == 6  # spawns 1 and 2, three each
    assert game.session.status().message.startswith("spawn 0 has no recorded actions")


def test_a_failure_leaves_no_video(tmp_path: Path) -> None:
    game = Game()
    game.world.fail_at = game.world.steps + 8
    with pytest.raises(RuntimeError):
        render(game.session, tmp_path / "clip.mp4", 20, 25)
    assert not list(tmp_path.iterdir())


def test_a_video_without_frames_leaves_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 10):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frames", [3, 200])  # the disk fills when the file is finished, or while frames come
def test_a_full_disk_leaves_nothing_half_made(tmp_path: Path, frames: int) -> None:
    code = """
import sys, numpy as np
from pathlib import Path
from engine.errors import run_cli
from engine.player.video import VideoWriter
def write():
    noise = np.random.RandomState(0)
    with VideoWriter(Path(sys.argv[1]), 10) as video:
        for _ in range(int(sys.argv[2])):
            video.add(noise.randint(0, 256, (150, 280, 3)).astype(np.uint8))
run_cli(write)
"""

    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    path = tmp_path / "clip.mp4"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(frames)],
        preexec_fn=small_disk,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert f"{path}: cannot be written: {os.strerror(errno.EFBIG)}" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_video_recording_that_fails_does_not_end_the_game(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    game = Game(target=tmp_path / "clip.mp4")
    game.play(2)

    def full(video: VideoWriter, rgb: Pixels) -> None:
        video.discard()
        raise DiamondError("disk full")

    monkeypatch.setattr(VideoWriter, "add", full)
    assert len(game.play(3)) == 3
    assert game.session.status().message == "recording given up: disk full"
    with pytest.raises(DiamondError, match="disk full"):
        game.session.finish()  # once more, for the terminal
    assert not list(tmp_path.iterdir())


def test_play_is_recorded_as_video(tmp_path: Path) -> None:
    game = Game(target=tmp_path / "clip.mp4")
    game.controller.press("w")
    frames = game.play(5)
    assert game.session.finish() == tmp_path / "clip.mp4"
    assert [psnr(a[::2, ::2], b) > 25 for a, b in zip(decode(tmp_path / "clip.mp4"), frames, strict=True)]


def test_without_av_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DiamondError, match=r"diamond-engine\[record\]"):
        VideoWriter(tmp_path / "clip.mp4", 10)
    assert not list(tmp_path.iterdir())
