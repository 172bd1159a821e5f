"""A recording replays to the same frames, and its file is whole or absent."""

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.actions import KEYBOARD_MOUSE_51 as SPACE
from engine.errors import DiamondError
from engine.player.keymap import Command
from engine.player.playable import Pixels
from engine.player.recording import Recording
from engine.schedule import SamplerConfig
from tests.player.fake_world import FakeWorld
from tests.player.test_session import Game, script


def play_something(game: Game) -> list[Pixels]:
    """Some frames of everything that a recording must keep; returns them."""
    frames = []
    game.controller.press("w")
    game.controller.move(37, -5)
    frames += game.play(3)
    game.session.obey(Command.PRESET)
    game.controller.press("left click")
    frames += game.play(2)
    game.session.obey(Command.RESET)
    game.controller.release("w")
    frames += game.play(2)
    game.world.set_sampler("denoiser", SamplerConfig(steps=2))
    game.recorder.on_sampler()
    return frames + game.play(2)


def test_a_recording_replays_to_the_same_frames(tmp_path: Path) -> None:
    path = tmp_path / "play.npz"
    game = Game(target=path, seed=7, spawn=1)
    frames = play_something(game)
    assert game.session.finish() == path

    recording = Recording.load(path)
    assert (recording.seed, recording.spawn, recording.world) == (7, 1, "fake")
    assert recording.bundle == game.world.bundle.digest
    again = Game(recording, seed=7)
    np.testing.assert_array_equal(frames, again.play(len(frames)))
    assert not again.session.replaying


def test_another_seed_paints_other_frames(tmp_path: Path) -> None:
    game = Game(target=tmp_path / "play.npz", seed=7)
    frames = play_something(game)
    game.session.finish()
    again = Game(Recording.load(tmp_path / "play.npz"), seed=8)
    assert not np.array_equal(frames, again.play(len(frames)))


def test_a_recording_of_a_replay_is_that_recording(tmp_path: Path) -> None:
    first = Game(target=tmp_path / "1.npz", spawn=1)
    play_something(first)
    first.session.finish()
    second = Game(Recording.load(tmp_path / "1.npz"), target=tmp_path / "2.npz")
    second.play(9)
    second.session.finish()
    one, two = (Recording.load(tmp_path / name) for name in ("1.npz", "2.npz"))
    np.testing.assert_array_equal(one.actions, two.actions)
    assert dataclasses.replace(one, actions=0, source="") == dataclasses.replace(two, actions=0, source="")


def test_a_recording_started_in_mid_play_begins_at_the_last_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    game = Game()
    game.session.obey(Command.RESET)
    game.controller.press("d")
    frames = game.play(3)
    game.session.obey(Command.RECORD)
    frames += game.play(2)
    assert game.session.status().recording.startswith("fake-")
    game.session.obey(Command.RECORD)
    (path,) = tmp_path.glob("fake-*.npz")
    assert game.session.status().message == f"saved {path.name}"
    recording = Recording.load(path)
    assert recording.spawn == 1
    np.testing.assert_array_equal(frames, Game(recording).play(5))


def test_actions_and_their_space_suffice(tmp_path: Path) -> None:
    actions = np.array([SPACE.idle()] * 4)  # float32, as another program may write them
    space = json.dumps(SPACE.to_json())
    np.savez(tmp_path / "a.npz", actions=actions, action_space=np.array(space), fps=np.array(17.5))
    recording = Recording.load(tmp_path / "a.npz")
    assert (len(recording.actions), recording.seed, recording.sampling) == (4, None, None)


def good_fields() -> dict[str, Any]:
    space = json.dumps(SPACE.to_json())
    return {"actions": np.array([SPACE.idle()]), "action_space": np.array(space), "fps": np.array(10.0)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"actions": None}, "KeyError"),
        ({"action_space": np.array("{}")}, "action space"),
        ({"actions": np.zeros((3, 50))}, "shape"),
        ({"actions": np.zeros(51)}, "actions have shape"),
        ({"actions": np.zeros((0, 51))}, "no actions"),
        ({"actions": np.full((1, 51), 0.5)}, "entry 0 is 0.5"),
        ({"actions": np.array([{}], dtype=object)}, "pickle"),
        ({"sampler": np.array('{"denoiser": {"steps": 0}}'), "preset": np.array("fast")}, "lacks"),
        ({"events": np.array('[{"before": 1}]')}, "KeyError"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_the_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "bad.npz"
    fields = {name: value for name, value in {**good_fields(), **change}.items() if value is not None}
    np.savez(path, **fields)
    with pytest.raises(DiamondError, match=reason) as caught:
        Recording.load(path)
    assert str(path) in caught.value.what


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"text"])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.npz"
    path.write_bytes(content)
    with pytest.raises(DiamondError, match="not a usable action recording"):
        Recording.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiamondError, match="no such file"):
        Recording.load(tmp_path / "none.npz")


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "play.npz"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiamondError, match="No space left on device"):
        script().save(path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("play.npz", b"old")]


def test_a_recording_that_cannot_be_saved_does_not_end_the_game(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    game = Game()
    game.session.obey(Command.RECORD)
    game.play(1)

    def full(recording: Recording, path: Path) -> None:
        raise DiamondError("disk full")

    monkeypatch.setattr(Recording, "save", full)
    game.session.obey(Command.RECORD)
    assert game.session.status().message == "recording failed: disk full"
    assert game.session.status().recording == ""
    assert len(game.play(2)) == 2


@pytest.mark.parametrize("name", ["play.txt", "no/such/directory/play.npz"])
def test_a_target_that_cannot_be_recorded_to_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(DiamondError, match="play"):
        Game(target=tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_fake_world_is_deterministic() -> None:
    runs = []
    for _ in range(2):
        world = FakeWorld(seed=3)
        world.reset(1)
        runs.append([world.step(action).rgb for action in script().actions])
    np.testing.assert_array_equal(*runs)
