"""Spawns: exactly the arrays that the world needs, and no pickles."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.bundle import Bundle
from engine.errors import DiamondError
from tests.engine.tiny_world import TINY, npz_bytes, put, spawn_arrays

MakeWorld = Callable[..., Path]


def test_a_spawn_reads_back_as_it_was_written(make_world: MakeWorld) -> None:
    spawn = Bundle.open(make_world()).spawn(1)
    arrays = spawn_arrays(TINY, 1)
    np.testing.assert_array_equal(spawn.low_res, arrays["low_res"])
    np.testing.assert_array_equal(spawn.full_res, arrays["full_res"])
    np.testing.assert_array_equal(spawn.actions, arrays["actions"])
    np.testing.assert_array_equal(spawn.next_actions, arrays["next_actions"])
    assert spawn.actions.dtype == np.float32


def test_actions_from_before_the_start_of_an_episode_are_all_zero(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world()
    arrays = spawn_arrays(TINY, 0)
    arrays["actions"][:2] = 0
    put(world, "spawns/0.npz", npz_bytes(tmp_path / "x.npz", **arrays))
    np.testing.assert_array_equal(Bundle.open(world).spawn(0).actions, arrays["actions"])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"low_res": np.zeros((4, 3, 14, 21), np.uint8)}, "low_res is uint8 .4, 3, 14, 21."),
        ({"low_res": np.zeros((4, 3, 14, 20), np.float32)}, "low_res is float32"),
        ({"full_res": np.zeros((2, 3, 70, 100), np.uint8)}, "full_res is"),
        ({"actions": np.zeros((4, 50), np.uint8)}, "actions is"),
        ({"actions": np.ones((4, 51), np.uint8)}, r"actions\[0\]: action vector: 23 mouse_x bins"),
        ({"next_actions": np.full((1, 51), 2, np.uint8)}, r"next_actions\[0\]: action vector: entry 0 is 2"),
        ({"surprise": np.zeros(1)}, "holds .*surprise"),
        ({"low_res": np.array([{"a": "pickle"}], dtype=object)}, "cannot be read"),
    ],
)
def test_a_wrong_spawn_is_refused(
    make_world: MakeWorld, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    world = make_world()
    put(world, "spawns/0.npz", npz_bytes(tmp_path / "x.npz", **(spawn_arrays(TINY, 0) | change)))
    with pytest.raises(DiamondError, match=complaint):
        Bundle.open(world).spawn(0)


@pytest.mark.parametrize("content", [b"", b"not an npz", b"PK\x03\x04 cut short"])
def test_a_damaged_spawn_is_refused(make_world: MakeWorld, content: bytes) -> None:
    world = make_world()
    put(world, "spawns/0.npz", content)
    with pytest.raises(DiamondError, match=r"0\.npz: cannot be read"):
        Bundle.open(world).spawn(0)


def test_a_bare_array_in_place_of_a_spawn_is_refused(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    np.save(tmp_path / "bare.npy", np.zeros(3))
    put(world, "spawns/0.npz", (tmp_path / "bare.npy").read_bytes())
    with pytest.raises(DiamondError, match="a bare array"):
        Bundle.open(world).spawn(0)


def test_a_pickle_is_never_run(make_world: MakeWorld, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    world = make_world()
    np.savez(tmp_path / "x.npz", low_res=np.array([Bomb()], dtype=object))
    put(world, "spawns/0.npz", (tmp_path / "x.npz").read_bytes())
    with pytest.raises(DiamondError, match="cannot be read"):
        Bundle.open(world).spawn(0)
    assert not (tmp_path / "exploded").exists()
