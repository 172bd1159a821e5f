"""Rare actions (`focus_keys`) and views that open are drawn more often, and nothing else about a batch changes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.actions import KEYBOARD_MOUSE_51, Action
from engine.errors import DiamondError
from tests.train.conftest import META
from tests.train.test_loop import request
from train.data.episode import Episode, write_episode
from train.run import prepare_run, train_world
from train.segments import Focus, SegmentSampler, focus_on, open_episodes, openings

RARE = (5, 12, 20)  # frames of 40 where `a` is held
A = KEYBOARD_MOUSE_51.keys.index("a")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    frames = np.repeat(np.arange(40, dtype=np.uint8), 16 * 24 * 3).reshape(40, 16, 24, 3)
    actions = [KEYBOARD_MOUSE_51.encode(Action(keys=["a"] if t in RARE else ["w"])) for t in range(40)]
    for index in range(2):
        path = folder / "train" / f"episode_{index:06d}.safetensors"
        write_episode(
            path, replace(META, full_res_size=None), frames, np.stack(actions).astype(np.uint8), None
        )
    return folder


@pytest.fixture(scope="module")
def episodes(data: Path) -> list[Episode]:
    return open_episodes(data, "train")[0]


def drawn(episodes: list[Episode], focuses: list[Focus]) -> float:
    """How often `a` is in the newest action that a prediction is given."""
    sampler = SegmentSampler(episodes, 5, 64, seed=0, full_res=False, focuses=focuses)
    return float(torch.cat([sampler.batch(step).actions[:, -2, A] for step in range(10)]).mean())


def test_rare_actions_are_drawn_more_often(episodes: list[Episode]) -> None:
    focuses = focus_on(episodes, KEYBOARD_MOUSE_51, ["a"], 0.75)
    assert drawn(episodes, []) == pytest.approx(len(RARE) / 40, abs=0.05)
    assert drawn(episodes, focuses) == pytest.approx(0.75 + 0.25 * len(RARE) / 40, abs=0.05)


def test_each_key_that_is_ever_held_gets_an_equal_part(episodes: list[Episode]) -> None:
    """However often it is held: `w` is, in all other frames. `space` never is, and gets nothing."""
    rare, common = focus_on(episodes, KEYBOARD_MOUSE_51, ["a", "space", "w"], 0.75)
    assert rare.fraction == common.fraction == 0.375
    after = {t + 1 for t in RARE}
    assert {tuple(row) for row in rare.frames} == {(e, t) for e in range(2) for t in after}
    assert {tuple(row) for row in common.frames} == {
        (e, t) for e in range(2) for t in range(1, 40) if t not in after
    }
    assert drawn(episodes, [rare, common]) == pytest.approx(0.375 + 0.25 * len(RARE) / 40, abs=0.05)


def test_a_key_named_twice_counts_once(episodes: list[Episode]) -> None:
    found = focus_on(episodes, KEYBOARD_MOUSE_51, ["a", "w", "a"], 0.5)
    assert [focus.fraction for focus in found] == [0.25, 0.25]


def test_what_is_predicted_follows_the_action(episodes: list[Episode]) -> None:
    focuses = focus_on(episodes, KEYBOARD_MOUSE_51, ["a"], 1.0)
    batch = SegmentSampler(episodes, 5, 64, seed=1, full_res=False, focuses=focuses).batch(0)
    assert set(batch.low_res[:, -1, 0, 0, 0].tolist()) == {t + 1 for t in RARE}


def test_without_a_fraction_batches_are_what_they_were(episodes: list[Episode]) -> None:
    nothing = focus_on(episodes, KEYBOARD_MOUSE_51, ["a"], 0.0)
    plain = SegmentSampler(episodes, 5, 8, seed=3, full_res=False).batch(4)
    same = SegmentSampler(episodes, 5, 8, seed=3, full_res=False, focuses=nothing).batch(4)
    assert torch.equal(plain.low_res, same.low_res)


def test_keys_that_cannot_be_drawn_are_errors(episodes: list[Episode]) -> None:
    with pytest.raises(DiamondError, match="focus_keys: 'nothing' is no key here"):
        focus_on(episodes, KEYBOARD_MOUSE_51, ["nothing"], 0.5)
    with pytest.raises(DiamondError, match="no recorded action holds space or left click"):
        focus_on(episodes, KEYBOARD_MOUSE_51, ["space", "left click"], 0.5)


def test_a_run_takes_them_from_the_command_line(data: Path, tmp_path: Path) -> None:
    settings = ("denoiser.steps=1", 'denoiser.focus_keys=["a","w"]', "denoiser.focus_fraction=0.5")
    train_world(request(tmp_path / "run", data, settings=settings, only="denoiser"))
    for wrong, message in (
        ("denoiser.focus_keys=a", "wrong kind of value"),
        ("denoiser.focus_fraction=0.5", "focus_fraction without focus_keys"),
        ("denoiser.focus_fraction=2", "a fraction from 0 to 1"),
        ("denoiser.opening_fraction=-1", "a fraction from 0 to 1"),
    ):
        with pytest.raises(DiamondError, match=message):
            prepare_run(request(tmp_path / "other", data, settings=(wrong,)))
    with pytest.raises(DiamondError, match="together 1 at most"):
        prepare_run(request(tmp_path / "other", data, settings=(*settings, "denoiser.opening_fraction=0.6")))


OPENS_AT = (10, 30)  # frames of 40 in which a wall, seen for some frames, ends


@pytest.fixture(scope="module")
def walls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open view, but for the frames before those of `OPENS_AT`: there it has little contrast."""
    folder = tmp_path_factory.mktemp("walls")
    frames = np.random.default_rng(0).integers(0, 256, (40, 16, 24, 3), np.uint8)
    for stop in OPENS_AT:
        frames[stop - 2 : stop] //= 16
    actions = np.stack([KEYBOARD_MOUSE_51.encode(Action(keys=["w"]))] * 40).astype(np.uint8)
    write_episode(
        folder / "train" / "episode_000000.safetensors",
        replace(META, full_res_size=None),
        frames,
        actions,
        None,
    )
    return folder


def test_views_that_open_are_found_and_drawn(walls: Path) -> None:
    (episode,), _ = open_episodes(walls, "train")
    found = openings([episode], 1.0)
    assert found.frames.tolist() == [[0, t] for t in OPENS_AT]
    batch = SegmentSampler([episode], 5, 64, seed=1, full_res=False, focuses=[found]).batch(0)
    newest = batch.low_res[:, -1].permute(0, 2, 3, 1).numpy()
    expected = [episode.low_res(t, t + 1)[0] for t in OPENS_AT]
    assert {next(k for k, frame in enumerate(expected) if (row == frame).all()) for row in newest} == {0, 1}


def test_shares_of_several_kinds_add_up(walls: Path) -> None:
    (episode,), _ = open_episodes(walls, "train")
    kinds = [Focus(0.25, np.array([[0, 5]])), Focus(0.5, np.array([[0, 25]]))]
    sampler = SegmentSampler([episode], 5, 64, seed=2, full_res=False, focuses=kinds)
    newest = torch.cat([sampler.batch(step).low_res[:, -1] for step in range(20)]).permute(0, 2, 3, 1).numpy()
    for kind in kinds:
        frame = episode.low_res(kind.frames[0, 1], kind.frames[0, 1] + 1)[0]
        assert np.mean([(row == frame).all() for row in newest]) == pytest.approx(
            kind.fraction + 0.25 / 40, abs=0.04
        )


def test_where_no_view_opens_it_is_an_error(data: Path, walls: Path, tmp_path: Path) -> None:
    with pytest.raises(DiamondError, match="no recording a bare view opens"):
        openings(open_episodes(data, "train")[0], 0.5)
    settings = ("denoiser.steps=1", "denoiser.opening_fraction=0.5")
    train_world(request(tmp_path / "run", walls, settings=settings, only="denoiser"))
