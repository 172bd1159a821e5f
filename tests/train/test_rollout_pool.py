"""Rollouts as training data: what a batch holds, how it moves on, that a resumed run continues bit for bit."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train.loop
from engine.errors import DiamondError
from tests.train.test_loop import assert_identical, request, weights
from train.checkpoint import load_checkpoint
from train.loop import imagine, train_network
from train.model import Denoiser
from train.rollout import sample
from train.rollout_pool import RolloutPool
from train.run import prepare_run
from train.segments import Batch, SegmentSampler, open_episodes, to_unit

HISTORY, ROWS, LENGTH = 4, 6, 5
SETTINGS = ("denoiser.steps=8", "denoiser.checkpoint_every=4", "denoiser.rollout_frames=3")


@pytest.fixture
def pool(recordings: Path) -> RolloutPool:
    return RolloutPool(open_episodes(recordings, "train")[0], HISTORY, ROWS, LENGTH, seed=(1,))


def marked(value: int) -> torch.Tensor:
    return torch.full((ROWS, 3, 16, 24), value, dtype=torch.uint8)


def test_a_batch_is_a_history_and_the_recorded_frame_after_it(pool: RolloutPool) -> None:
    batch = pool.batch()
    assert batch.low_res.shape == (ROWS, HISTORY + 1, 3, 16, 24)
    assert batch.low_res.dtype == torch.uint8
    assert batch.valid.all()
    state = pool.state()
    for row in range(ROWS):
        episode, at = pool.episodes[int(state["episode"][row])], int(state["at"][row])
        recorded = torch.from_numpy(episode.low_res(at - HISTORY, at + 1)).permute(0, 3, 1, 2)
        assert torch.equal(batch.low_res[row], recorded)  # nothing imagined yet
        actions = torch.from_numpy(episode.actions(at - HISTORY, at + 1)).float()
        assert torch.equal(batch.actions[row], actions)


def test_imagined_frames_become_the_newest_and_the_targets_stay_recorded(pool: RolloutPool) -> None:
    going_on = pool.state()["left"] > 1
    assert going_on.any()
    before = pool.batch()
    at = pool.state()["at"]
    pool.advance(marked(200), step=0)
    after, state = pool.batch(), pool.state()
    assert torch.equal(state["at"][going_on], at[going_on] + 1)
    assert (after.low_res[going_on, HISTORY - 1] == 200).all()
    assert torch.equal(
        after.low_res[going_on, : HISTORY - 1], before.low_res[going_on, 1:HISTORY]
    )  # the older ones moved up
    for row in np.flatnonzero(going_on):
        episode = pool.episodes[int(state["episode"][row])]
        target = torch.from_numpy(episode.low_res(int(state["at"][row]), int(state["at"][row]) + 1)[0])
        assert torch.equal(after.low_res[row, HISTORY], target.permute(2, 0, 1))


def test_every_row_starts_anew_within_its_length_and_not_all_together(pool: RolloutPool) -> None:
    depths = []
    for step in range(3 * LENGTH):
        imagined = (pool.batch().low_res[:, :HISTORY] == 201).flatten(2).all(2).sum(1)
        depths.append(imagined)
        left = pool.state()["left"]
        assert ((left >= 1) & (left <= LENGTH)).all()
        pool.advance(marked(201), step)
    seen = torch.stack(depths)
    assert ((seen[LENGTH:] == 0).any(0)).all()  # each row came back to recorded frames
    assert (seen.max(0).values == HISTORY).any()  # and some had none left
    assert any(len(set(row.tolist())) > 1 for row in seen[1:])


def test_a_saved_pool_goes_on_as_if_never_saved(pool: RolloutPool, recordings: Path) -> None:
    for step in range(3):
        pool.advance(marked(step), step)
    other = RolloutPool(open_episodes(recordings, "train")[0], HISTORY, ROWS, LENGTH, seed=(1,))
    assert other.restore(pool.state())
    for step in range(3, 9):
        ours, theirs = pool.batch(), other.batch()
        assert torch.equal(ours.low_res, theirs.low_res)
        assert torch.equal(ours.actions, theirs.actions)
        pool.advance(marked(step), step)
        other.advance(marked(step), step)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(pool: RolloutPool) -> None:
    before = pool.state()
    narrow = RolloutPool(pool.episodes, HISTORY, ROWS - 1, LENGTH, seed=(1,)).state()
    far = {**before, "at": before["at"] + 10_000}
    strange = {**before, "episode": before["episode"] + 50}
    for state in (narrow, far, strange):
        assert not pool.restore(state)
    assert_identical(before, pool.state())


def test_episodes_too_short_are_left_out(recordings: Path) -> None:
    episodes = open_episodes(recordings, "train")[0]
    with pytest.raises(DiamondError, match="more than 40 frames"):
        RolloutPool(episodes, 40, ROWS, LENGTH, seed=(0,))


def test_imagined_frames_are_what_the_player_s_sampler_paints(recordings: Path, tmp_path: Path) -> None:
    info = prepare_run(request(tmp_path / "run", recordings, settings=("denoiser.bf16=false",)))
    torch.manual_seed(0)
    network = Denoiser(info.recipe.agent.denoiser, info.recipe.agent.num_actions)
    sampler = info.recipe.default_sampler("denoiser")
    pool = RolloutPool(open_episodes(recordings, "train")[0], HISTORY, ROWS, LENGTH, seed=(1,))
    batch = pool.batch()
    changed = Batch(batch.low_res.clone(), batch.actions.clone(), batch.valid, None)
    changed.low_res[:, HISTORY] = 0  # the frame to predict must not be looked at
    changed.actions[:, HISTORY] = 1
    frames = imagine(network, sampler, batch, info.recipe.denoiser, 7, "cpu")
    assert frames.shape == (ROWS, 3, 16, 24)
    assert torch.equal(frames, imagine(network, sampler, changed, info.recipe.denoiser, 7, "cpu"))
    generator = torch.Generator().manual_seed(info.recipe.denoiser.seed * 1_000_003 + 7 + (1 << 40))
    expected = sample(
        network,
        sampler,
        to_unit(batch.low_res[:, :HISTORY]).flatten(1, 2),
        batch.actions[:, :HISTORY],
        lambda name, shape: torch.randn(shape, generator=generator),
    )
    assert (to_unit(frames) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_training_on_rollouts_resumes_bit_for_bit(recordings: Path, tmp_path: Path, fraction: float) -> None:
    settings = (*SETTINGS, f"denoiser.rollout_fraction={fraction}")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    info = prepare_run(request(whole, recordings, settings=settings))
    assert train_network(whole, info, "denoiser", say=lambda line: None)
    info = prepare_run(request(stopped, recordings, settings=settings))
    reports: list[object] = []

    def stop_after_five(progress: object) -> None:
        reports.append(progress)
        if len(reports) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    assert not train_network(
        stopped, info, "denoiser", report=stop_after_five, report_every=1, say=lambda line: None
    )
    assert train_network(stopped, info, "denoiser", resume=True, say=lambda line: None)
    assert_identical(weights(stopped), weights(whole))
    ours, theirs = (load_checkpoint(run / "denoiser")["rollouts"][0] for run in (stopped, whole))
    assert_identical(ours, theirs)


def test_other_settings_start_the_rollouts_anew_and_say_so(recordings: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    info = prepare_run(request(run, recordings, settings=SETTINGS))
    train_network(run, info, "denoiser", say=lambda line: None)
    wider = request(
        run, None, resume=True, settings=("denoiser.steps=9", "denoiser.batch_size=3"), preset=None
    )
    lines: list[str] = []
    assert train_network(run, prepare_run(wider), "denoiser", resume=True, say=lines.append)
    assert any("start anew" in line for line in lines)


def test_rollouts_begin_after_their_part_of_the_steps(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    settings = (*SETTINGS, "denoiser.rollout_after=0.75")
    info = prepare_run(request(run, recordings, settings=settings))
    advanced: list[int] = []
    monkeypatch.setattr(RolloutPool, "advance", lambda pool, frames, step: advanced.append(step))
    train_network(run, info, "denoiser", say=lambda line: None)
    assert advanced == [6, 7]


def test_a_batch_beside_another_has_its_size(pool: RolloutPool, recordings: Path) -> None:
    drawn = SegmentSampler(pool.episodes, HISTORY + 1, ROWS + 3, seed=1, full_res=False).batch(0)
    imagined = pool.batch()
    both = imagined.beside(drawn)
    for name in ("low_res", "actions", "valid"):
        ours, theirs, joined = (getattr(batch, name) for batch in (imagined, drawn, both))
        assert torch.equal(joined, torch.cat((ours, theirs[ROWS:]))), name
        assert joined.dtype == theirs.dtype
    assert both.full_res is None
    whole = imagined.beside(SegmentSampler(pool.episodes, HISTORY + 1, ROWS, 1, full_res=False).batch(0))
    assert torch.equal(whole.low_res, imagined.low_res), "rollouts alone, where there are as many"


@pytest.mark.parametrize(("fraction", "rows"), [(1.0, 4), (0.5, 2), (0.3, 1), (0.0, 1)])
def test_so_many_rows_are_rollouts_and_the_others_are_drawn_as_usual(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fraction: float, rows: int
) -> None:
    """One row at least; before rollouts begin there are none."""
    settings = (
        "denoiser.steps=3",
        "denoiser.batch_size=4",
        "denoiser.rollout_frames=3",
        "denoiser.rollout_after=0.3",
        f"denoiser.rollout_fraction={fraction}",
    )
    info = prepare_run(request(tmp_path / "run", recordings, settings=settings))
    trained: list[Batch] = []
    imagined: list[Batch] = []
    learn, give = train.loop.batch_loss, RolloutPool.batch

    def batch_loss(network: Denoiser, batch: Batch, *rest: Any) -> torch.Tensor:
        trained.append(batch)
        return learn(network, batch, *rest)

    def batch_of(pool: RolloutPool) -> Batch:
        imagined.append(give(pool))
        return imagined[-1]

    monkeypatch.setattr(train.loop, "batch_loss", batch_loss)
    monkeypatch.setattr(RolloutPool, "batch", batch_of)
    train_network(tmp_path / "run", info, "denoiser", say=lambda line: None)

    sampler = SegmentSampler(
        open_episodes(recordings, "train")[0], HISTORY + 1, 4, info.recipe.denoiser.seed, full_res=False
    )
    drawn = [sampler.batch(step) for step in range(3)]
    assert torch.equal(trained[0].low_res, drawn[0].low_res)
    assert len(imagined) == 2
    for step, ours in zip((1, 2), imagined, strict=True):
        assert len(ours.actions) == rows
        for name in ("low_res", "actions", "valid"):
            got = getattr(trained[step], name)
            assert torch.equal(got[:rows], getattr(ours, name)), name
            assert torch.equal(got[rows:], getattr(drawn[step], name)[rows:]), name


def test_another_fraction_starts_the_rollouts_anew_and_one_that_is_none_is_refused(
    recordings: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = (*SETTINGS, "denoiser.batch_size=4", "denoiser.steps=2")
    train_network(
        run, prepare_run(request(run, recordings, settings=settings)), "denoiser", say=lambda line: None
    )
    half = ("denoiser.steps=3", "denoiser.rollout_fraction=0.5")
    lines: list[str] = []
    info = prepare_run(request(run, None, resume=True, settings=half, preset=None))
    assert train_network(run, info, "denoiser", resume=True, say=lines.append)
    assert any("start anew" in line for line in lines)
    for wrong in (-0.1, 1.1):
        with pytest.raises(DiamondError, match=r"rollout_fraction is .*\n.*a fraction from 0 to 1"):
            prepare_run(
                request(tmp_path / "other", recordings, settings=(f"denoiser.rollout_fraction={wrong}",))
            )
