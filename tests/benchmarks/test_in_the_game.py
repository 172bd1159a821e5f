"""The game is led back to a recorded frame, plays a script of ours from there, and refuses what it did not record."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.held_out import Start
from benchmarks.in_the_game import Moment, find_moment, lead_back, play_in_the_game, settings_of
from benchmarks.limits import from_spawns
from engine.errors import DiamondError
from engine.graphs import Sizes
from train.data.doom import FPS, DoomGame, crop_and_resize, load_vizdoom
from train.data.episode import Episode, write_episode
from train.data.folder import episode_paths
from train.data.record import ACTION_SPACE, RecordConfig, record

try:
    load_vizdoom()
except DiamondError:
    pytest.skip("vizdoom is not installed", allow_module_level=True)

SIZES = Sizes((30, 56), (150, 280), denoiser_history=4, upsampler_history=1, action_size=ACTION_SPACE.size)
NEWEST = 25


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in-the-game")
    record(RecordConfig(folder, episodes=2, frames=40, test_fraction=0.5, monsters="none"))
    return folder


@pytest.fixture(scope="module")
def episode(recordings: Path) -> Episode:
    (path,) = episode_paths(recordings, "test")
    return Episode(path)


@pytest.fixture(scope="module")
def bundle(episode: Episode) -> Any:
    manifest = SimpleNamespace(sizes=SIZES, action_space=ACTION_SPACE, fps=FPS)
    spawn = Start(episode, NEWEST - 3, SIZES).spawn()
    return SimpleNamespace(manifest=manifest, spawn=lambda index: spawn)


def test_from_the_moment_of_a_spawn_the_game_repeats_the_recording(bundle: Any, episode: Episode) -> None:
    moment = find_moment(bundle.spawn(0), [episode], "spawn 0")
    assert (moment.episode, moment.newest) == (episode, NEWEST)
    with DoomGame(settings_of(episode), episode.meta.seed) as game:
        lead_back(game, moment)
        for t in range(NEWEST, NEWEST + 8):
            view = game.act(ACTION_SPACE.decode(episode.actions(t, t + 1)[0].astype(np.float32)))
            shown = crop_and_resize(view.screen, SIZES.low_res)
            assert np.array_equal(shown, episode.low_res(t + 1, t + 2)[0]), t


def test_the_script_is_watched_for_as_long_as_asked_and_is_another_from_every_spawn(
    bundle: Any, recordings: Path, episode: Episode
) -> None:
    limits = from_spawns([episode.full_res(t, t + 1)[0] for t in (0, 20, 39)])
    said: list[str] = []
    logs = play_in_the_game(bundle, recordings, range(2), 12, limits, 0, said.append)
    (again,) = play_in_the_game(bundle, recordings, range(1), 12, limits, 0, said.append)
    assert [len(log.gradients) for log in logs] == [12, 12]
    assert again.gradients == logs[0].gradients != logs[1].gradients
    assert logs[0].bends.points > 100, "lines of the game are measured, too"
    assert said[0] == f"spawn 0 in the game: frame {NEWEST} of {episode.path.name}"


def test_a_spawn_from_elsewhere_is_refused(bundle: Any, episode: Episode) -> None:
    spawn = bundle.spawn(0)
    swapped = replace(spawn, low_res=spawn.low_res[::-1].copy())
    with pytest.raises(DiamondError, match="spawn 3: its frames are in none of 1"):
        find_moment(swapped, [episode], "spawn 3")


def test_a_game_that_does_not_repeat_its_recording_is_told(episode: Episode, tmp_path: Path) -> None:
    frames = len(episode)
    actions = np.roll(episode.actions(0, frames), 7, axis=0)
    path = tmp_path / "other.safetensors"
    meta = replace(episode.meta, full_res_size=None)
    write_episode(path, meta, episode.low_res(0, frames), actions, None)
    other = Episode(path)
    with (
        DoomGame(settings_of(other), other.meta.seed) as game,
        pytest.raises(DiamondError, match="shows another frame 25"),
    ):
        lead_back(game, Moment(other, NEWEST))


def test_another_source_has_no_game(episode: Episode) -> None:
    other = SimpleNamespace(path="dust.safetensors", meta=replace(episode.meta, source="a console"))
    with pytest.raises(DiamondError, match="'a console', whose game can't be played"):
        settings_of(other)  # type: ignore[arg-type]


def test_the_game_needs_recordings() -> None:
    from benchmarks.endurance import app

    done = CliRunner().invoke(app, ["freedoom", "--game"])
    assert isinstance(done.exception, DiamondError)
    assert "--game: no recordings" in str(done.exception)
