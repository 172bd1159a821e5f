"""Spawns: held-out frames, spread out, moving, and aligned with their actions."""

from pathlib import Path

import numpy as np
import pytest

from engine.errors import DiamondError
from export.spawns import Windows, choose_position, pick_spawns
from tests.export.recordings import HEIGHT, WIDTH, write_recordings
from tests.export.worlds import SPACE

WINDOWS = Windows((HEIGHT, WIDTH), (2 * HEIGHT, 2 * WIDTH), 2, 1, SPACE)


def moving(speed: np.ndarray) -> np.ndarray:
    """Frames (T, 4, 4, 3) whose mean change from one to the next is `speed`; brightness goes up and down."""
    signs = np.where(np.arange(len(speed)) % 2, -1, 1)
    level = 100 + np.concatenate([[0], np.cumsum(speed * signs)])
    return np.broadcast_to(level[:, None, None, None], (len(level), 4, 4, 3)).astype(np.uint8)


def test_a_still_stretch_is_not_chosen() -> None:
    speed = np.zeros(120)
    speed[40:60] = 10
    position = choose_position(moving(speed), history=4)
    assert 36 <= position < 60  # its next 8 frames move


def test_a_cut_is_kept_out_of_the_spawn_and_its_first_frames() -> None:
    speed = np.full(120, 2.0)
    speed[30:50] = 4
    speed[40] = 60
    position = choose_position(moving(speed), history=4)
    assert not position - 3 <= 40 < position + 8


def test_an_episode_without_motion_still_gives_a_position() -> None:
    assert 3 <= choose_position(moving(np.zeros(60)), history=4) < 60


def test_a_view_is_preferred_to_a_wall() -> None:
    frames = moving(np.full(120, 4.0)).copy()
    frames[40:80, ::2] += np.array((90, 0, 30), np.uint8)
    position = choose_position(frames, history=4)
    assert 40 <= position - 3, "the history is on this side of the cut, too"
    assert position + 8 <= 80


def test_spawns_of_one_episode_come_from_different_stretches() -> None:
    frames = moving(np.full(300, 5.0))
    positions = [choose_position(frames, 4, stretch, 3) for stretch in range(3)]
    assert len(set(positions)) == 3
    assert positions == sorted(positions)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings"), test_episodes=3, frames=60)


def test_spawns_are_spread_over_the_held_out_episodes(recordings: Path) -> None:
    spawns = pick_spawns(recordings, WINDOWS, 3)
    marks = [int(spawn.low_res[0, 2, 0, 0]) for spawn in spawns]  # the recordings write the episode in blue
    assert marks == [100, 101, 102]  # train episodes are marked from 0
    assert len(pick_spawns(recordings, WINDOWS, 7)) == 7


def test_a_spawn_holds_its_frames_and_the_actions_that_go_with_them(recordings: Path) -> None:
    """The recordings write 4 times the frame's number in green, and press the key of number t mod 3 in frame t."""
    for spawn in pick_spawns(recordings, WINDOWS, 5):
        assert spawn.low_res.shape == (2, 3, HEIGHT, WIDTH)
        assert spawn.full_res is not None
        assert spawn.full_res.shape == (1, 3, 2 * HEIGHT, 2 * WIDTH)
        first, newest = (int(frame[1, 0, 0]) // 4 for frame in spawn.low_res)
        assert newest == first + 1
        assert abs(int(spawn.full_res[0, 1, 0, 0]) - 4 * newest) < 4  # through JPEG
        assert spawn.actions.argmax(1).tolist() == [first % 3, newest % 3]
        assert spawn.next_actions[0].argmax() == (newest + 1) % 3
        assert len(spawn.next_actions) >= 16


def test_a_world_without_an_upsampler_takes_no_full_frames(recordings: Path) -> None:
    (spawn,) = pick_spawns(recordings, Windows((HEIGHT, WIDTH), None, 2, 1, SPACE), 1)
    assert spawn.full_res is None


def test_too_few_or_too_short_episodes_are_refused(tmp_path: Path) -> None:
    short = write_recordings(tmp_path, test_episodes=2, frames=17)
    with pytest.raises(DiamondError, match=r"no held-out episode of 18 frames or more \(2 in"):
        pick_spawns(short, WINDOWS, 1)


def test_recordings_of_another_size_are_refused(recordings: Path) -> None:
    with pytest.raises(DiamondError, match="give the recordings that the run was trained on"):
        pick_spawns(recordings, Windows((9, 9), None, 2, 1, SPACE), 1)
