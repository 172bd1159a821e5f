"""Recording Freedoom: reproducible, valid, continued where it stopped, stopped without partial files."""

import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from engine.actions import Action
from engine.errors import DiamondError
from train.data.arena import HALF, MONSTER_THINGS, PILLAR_DISTANCE, PILLAR_HALF, arena_wad, monster_count
from train.data.doom import DoomGame, DoomSettings, View, crop_and_resize, load_vizdoom
from train.data.episode import Episode, write_episode
from train.data.folder import episode_path, episode_paths, split_of, write_dataset_info
from train.data.policy import INTENTS, Policy
from train.data.record import ACTION_SPACE, RecordConfig, episode_seed, record, record_episode
from train.data.report import stats, validate
from train.data.textures import SPARE, WALLS, paint_textures

try:
    load_vizdoom()
except DiamondError:
    pytest.skip("vizdoom is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    config = RecordConfig(
        tmp_path_factory.mktemp("recording"), episodes=3, frames=60, test_fraction=0.34, workers=2
    )
    record(config)
    return config


def test_a_recording_is_valid_and_split(recording):
    result = validate(recording.out)
    assert (result.episodes, result.frames, result.broken) == (3, 180, [])
    assert len(episode_paths(recording.out, "test")) == 1


def test_actions_are_what_the_space_encodes(recording):
    rows = Episode(episode_paths(recording.out)[0]).actions(0, 60)
    for row in rows:
        vector = row.astype(np.float32)
        assert np.array_equal(ACTION_SPACE.encode(ACTION_SPACE.decode(vector)), vector)


def differences(one, other):
    """Which frames of two episodes differ, and in what. Two files of a megabyte are nothing for pytest to compare."""
    if hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest():
        return []
    first, second = Episode(one), Episode(other)
    if (len(first), first.meta) != (len(second), second.meta):
        return [f"{len(first)} frames of {first.meta} instead of {len(second)} of {second.meta}"]
    found = []
    for name in ("actions", "low_res", "full_res"):
        apart = np.array(
            [
                np.abs(getattr(first, name)(t, t + 1).astype(int) - getattr(second, name)(t, t + 1)).max()
                for t in range(len(first))
            ]
        )
        found.append(f"{name}: frames {np.flatnonzero(apart).tolist()} differ, by {apart.max()} at most")
    return found


def test_the_same_seed_gives_the_same_bytes(recording, tmp_path):
    again = replace(recording, out=tmp_path, workers=1)
    record_episode(again, 0)
    assert differences(episode_path(tmp_path, 0, "train"), episode_path(recording.out, 0, "train")) == []


def test_what_lies_in_memory_does_not_show(recording, tmp_path, monkeypatch):
    """The engine's memory filled with 0x55: it reads past a texture's end, and did so past a wall's last column."""
    monkeypatch.setenv("MALLOC_PERTURB_", "170")  # of the engine's process; glibc only
    record_episode(replace(recording, out=tmp_path), 0)
    assert differences(episode_path(tmp_path, 0, "train"), episode_path(recording.out, 0, "train")) == []


def test_a_frame_that_differs_is_found(recording, tmp_path):
    path = episode_path(recording.out, 0, "train")
    episode, changed = Episode(path), tmp_path / "changed.safetensors"
    low_res = episode.low_res(0, 60).copy()
    low_res[7, 0, 0, 0] ^= 1
    write_episode(changed, episode.meta, low_res, episode.actions(0, 60), episode.full_res(0, 60))
    assert "low_res: frames [7] differ, by 1 at most" in differences(path, changed)


def test_episodes_have_seeds_of_their_own():
    seeds = {episode_seed(seed, index) for seed in range(3) for index in range(100)}
    assert len(seeds) == 300


def test_a_recording_is_continued_and_a_broken_file_made_anew(recording, tmp_path):
    config = replace(recording, out=tmp_path, episodes=2)
    first = record(config)
    broken = episode_path(tmp_path, 1, "train")
    whole = broken.with_suffix(".whole")
    shutil.copy(broken, whole)
    broken.write_bytes(whole.read_bytes()[:500])
    second = record(replace(config, episodes=3))
    assert (first.recorded, first.kept) == (2, 0)
    assert (second.recorded, second.kept) == (2, 1)
    assert differences(broken, whole) == []


def test_another_recording_in_the_same_folder_is_refused(recording):
    with pytest.raises(DiamondError, match="seed 0 there, 1 asked for"):
        record(replace(recording, seed=1))


def test_a_recording_of_the_older_map_is_not_continued(tmp_path):
    config = RecordConfig(tmp_path, episodes=1, frames=2)
    older = {name: value for name, value in config.info.recorder.items() if name != "map"}
    write_dataset_info(tmp_path, replace(config.info, recorder=older))
    with pytest.raises(DiamondError, match="map None there, 'panelled court' asked for"):
        record(config)
    assert episode_paths(tmp_path) == []


def test_nothing_is_left_in_the_working_directory(recording, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with DoomGame(DoomSettings(), 1) as game:
        game.act(Action())
    assert list(tmp_path.iterdir()) == []


def test_interrupting_leaves_whole_episodes_only(tmp_path):
    out = tmp_path / "d"
    command = [sys.executable, "-m", "train.data.cli", "record", "freedoom", "--out", str(out)]
    command += ["--episodes", "50", "--frames", "80", "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(episode_paths(out)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    process.communicate(timeout=60)
    assert process.returncode == 130
    result = validate(out)
    assert result.broken == []
    assert 2 <= result.episodes < 50
    assert [path.name for path in out.rglob(".*")] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 1}, "--frames"),
        ({"test_fraction": 1.0}, "--test-fraction"),
        ({"monsters": "some"}, "none, few or many"),
        ({"blind": 1.5}, "--blind"),
    ],
)
def test_settings_that_make_no_recording_are_refused(tmp_path, change, message):
    with pytest.raises(DiamondError, match=message):
        RecordConfig(tmp_path, **change)


def turned_by(dx):
    """How far the view turned, degrees to the right."""
    with DoomGame(DoomSettings(monsters="none"), 2) as game:
        vizdoom = load_vizdoom()
        before = game._game.get_game_variable(vizdoom.GameVariable.ANGLE)
        game.act(Action(mouse_dx=dx))
        after = game._game.get_game_variable(vizdoom.GameVariable.ANGLE)
    return (before - after + 180) % 360 - 180


@pytest.mark.parametrize("dx", [-1000, -60, -2, 0, 2, 300])
def test_a_mouse_unit_turns_a_twentieth_of_a_degree(dx):
    assert turned_by(dx) == pytest.approx(0.05 * dx, abs=0.02)


def test_the_next_frame_already_shows_the_action():
    with DoomGame(DoomSettings(monsters="none"), 2) as game:
        before = game.act(Action()).screen[:80].astype(int)  # above the gun
        turned = game.act(Action(mouse_dx=100)).screen[:80].astype(int)
        after = game.act(Action()).screen[:80].astype(int)
    assert np.abs(turned - before).mean() > 5
    assert np.abs(after - turned).mean() < 0.5


def test_moving_the_mouse_down_looks_down():
    with DoomGame(DoomSettings(monsters="none"), 2) as game:
        assert game.act(Action(mouse_dy=100)).pitch == pytest.approx(-5, abs=0.05)
        assert game.act(Action(mouse_dy=-200)).pitch == pytest.approx(5, abs=0.05)


def test_keys_move_the_player():
    with DoomGame(DoomSettings(monsters="none"), 2) as game:
        start = np.array(game.view().position)
        walked = np.linalg.norm(
            np.array([game.act(Action(keys={"s"})).position for _ in range(8)])[-1] - start
        )
        rose = max(game.act(Action(keys={"space"})).position[2] for _ in range(6)) - start[2]
    assert walked > 20
    assert rose > 8


def test_area_resizing_keeps_the_mean_and_averages_blocks():
    screen = np.random.default_rng(0).integers(0, 256, (180, 320, 3), np.uint8)
    source = screen[4:176].astype(float)
    assert crop_and_resize(screen, (150, 280)).mean() == pytest.approx(source.mean(), abs=0.1)
    halves = crop_and_resize(screen, (86, 160)).astype(float)
    assert np.abs(halves - source.reshape(86, 2, 160, 2, 3).mean((1, 3))).max() <= 0.51


def test_the_map_has_one_start_and_the_monsters_asked_for():
    wad = arena_wad(np.random.default_rng(0), "many")
    kinds = [int(kind) for kind in re.findall(rb"type=(\d+);", wad)]
    assert kinds.count(1) == 1
    assert sum(kind in MONSTER_THINGS for kind in kinds) == 10
    assert len(kinds) == 11  # nothing to pick up
    alone = arena_wad(np.random.default_rng(0), "none")
    assert [int(kind) for kind in re.findall(rb"type=(\d+);", alone)] == [1]


def test_every_texture_of_the_map_is_in_its_file_and_painted_whole():
    wad = arena_wad(np.random.default_rng(0), "none")
    used = set(re.findall(rb'texture(?:middle|floor)="(\w+)"', wad)) | {b"HILLS"}
    textures = paint_textures(144)
    assert used == {name.encode() for name in textures}
    sizes = {name: Image.open(io.BytesIO(png)).size for name, png in textures.items()}
    assert sizes["HILLS"] == (1024, 128)
    assert all(sizes[name] == (112, 144 + SPARE) for name in WALLS)
    foot = np.array(Image.open(io.BytesIO(textures["WEST"])))[143:]
    assert (foot == foot[0]).all()
    assert all(wad.count(png) == 1 for png in textures.values())


def test_nobody_starts_in_a_wall_or_a_pillar():
    rng = np.random.default_rng(0)
    for _ in range(300):
        wad = arena_wad(rng, "none")
        (found,) = re.findall(rb"thing \{ x=([-\d.]+); y=([-\d.]+);", wad)
        x, y = (abs(float(value)) for value in found)
        assert max(x, y) <= HALF - 32
        assert max(abs(x - PILLAR_DISTANCE), abs(y - PILLAR_DISTANCE)) > PILLAR_HALF + 16


def test_every_side_of_the_court_is_seen_from_its_middle():
    """The engine finds the textures: from one spot, four directions show four dominant colours at the horizon."""
    with DoomGame(DoomSettings(monsters="none"), seed=3) as game:
        colours = []
        for _ in range(4):
            screen = game.view().screen
            colours.append(np.median(screen[78:90].reshape(-1, 3), axis=0))
            for _ in range(9):
                game.act(Action(mouse_dx=200))
    apart = [np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[i + 1 :]]
    assert min(apart) > 30


def test_few_monsters_means_often_none_and_never_more_than_three():
    rng = np.random.default_rng(0)
    counts = [monster_count(rng, "few") for _ in range(500)]
    assert max(counts) == 3
    assert 0.3 < counts.count(0) / 500 < 0.5
    assert {monster_count(rng, "none") for _ in range(20)} == {0}


def test_the_player_is_seldom_idle_and_uses_the_moving_keys(recording, tmp_path):
    config = replace(recording, out=tmp_path, episodes=2, frames=400)
    record(config)
    result = stats(tmp_path)
    assert result.idle < 0.05
    assert min(result.shares[key] for key in "wasd") > 0.01
    assert max(result.shares[f"mouse x {value:+d}"] for value in ACTION_SPACE.mouse_x) < 0.6
    assert sum(INTENTS.values()) == pytest.approx(1)


def share_walking(blind):
    """How often a player who stands before a wall presses the key ahead."""
    policy = Policy(ACTION_SPACE, np.random.default_rng(0), blind)
    wall = View(
        screen=np.zeros((180, 320, 3), np.uint8),
        depth=np.ones((180, 320), np.uint8),
        position=(0.0, 0.0, 0.0),
        pitch=0.0,
        targets=(),
    )
    return np.mean(["w" in policy.act(wall).keys for _ in range(1000)])


def test_a_blind_player_walks_on_against_walls():
    assert share_walking(blind=False) < 0.1
    assert share_walking(blind=True) > 0.3


def test_the_share_of_blind_players_does_not_change_the_others(recording, tmp_path):
    config = replace(recording, out=tmp_path, blind=0.5)
    chosen = [config.is_blind(index) for index in range(400)]
    assert 0.4 < sum(chosen) / 400 < 0.6
    assert not any(replace(config, blind=0.0).is_blind(index) for index in range(400))
    seeing = chosen.index(False)
    record_episode(config, seeing)
    record_episode(replace(recording, out=tmp_path / "seeing"), seeing)
    episodes = [
        Episode(episode_path(folder, seeing, split_of(seeing, 0.34)))
        for folder in (tmp_path, tmp_path / "seeing")
    ]
    assert np.array_equal(*(episode.actions(0, 60) for episode in episodes))
    blind = chosen.index(True)
    record_episode(config, blind)
    assert Episode(episode_path(tmp_path, blind, split_of(blind, 0.34))).meta.extra["player"] == "blind"


def test_recordings_from_before_blind_players_are_continued(recording):
    assert "blind" not in recording.info.recorder
    with pytest.raises(DiamondError, match=r"blind None there, 0\.5 asked for"):
        record(replace(recording, blind=0.5))
