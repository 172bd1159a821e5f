"""Snapshots of a world's history: restored ones continue bit for bit."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from engine.errors import DiamondError
from engine.frame import to_pixels
from engine.world import World
from tests.engine.doubles import NumpyBackend
from tests.engine.playing import WALK, assert_same_frames, play


def test_a_restored_snapshot_continues_bit_for_bit(world: World) -> None:
    play(world, WALK[:2])
    saved = world.snapshot()
    first = [world.step(action) for action in WALK]
    play(world, WALK, spawn=1)
    restored = world.restore(saved)
    assert (restored.index, world.spawn) == (2, 0)
    assert_same_frames([world.step(action) for action in WALK], first)
    world.restore(saved)
    assert_same_frames([world.step(action) for action in WALK], first)


def test_restore_gives_the_frame_and_the_recorded_actions_of_the_snapshot(world: World) -> None:
    frame = play(world, WALK, spawn=1)[-1]
    saved = world.snapshot()
    world.reset(0)
    assert_same_frames([world.restore(saved)], [frame])
    assert len(world.next_actions) == 1


def test_a_snapshot_can_be_restored_into_a_world_that_was_never_reset(world: World) -> None:
    play(world, WALK)
    other = World(world.bundle, NumpyBackend(), seed=3)
    other.restore(world.snapshot())
    assert_same_frames([other.step(WALK[0])], [world.step(WALK[0])])


def test_a_snapshot_does_not_change_while_the_world_plays_on(world: World) -> None:
    play(world, WALK)
    saved = world.snapshot()
    kept = saved.low_res.copy()
    world.step(WALK[0])
    np.testing.assert_array_equal(saved.low_res, kept)


@pytest.mark.parametrize("name", ["low_res", "full_res", "actions"])
def test_a_snapshot_of_other_sizes_is_refused_and_changes_nothing(world: World, name: str) -> None:
    frame = play(world, WALK)[-1]
    changes: dict[str, Any] = {name: np.zeros((1, 1), np.float32)}
    bad = dataclasses.replace(world.snapshot(), **changes)
    with pytest.raises(DiamondError, match=rf"snapshot: {name} has shape \(1, 1\)"):
        world.restore(bad)
    np.testing.assert_array_equal(to_pixels(world.snapshot().low_res[:, -3:]), frame.low_res)
