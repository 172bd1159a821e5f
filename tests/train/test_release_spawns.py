"""Spawns of releases: in the original's order, the last frames of each file, and checked by file."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import DiamondError
from tests.train.releases import make_release
from train.release import read_release


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A small release, to be damaged."""
    return make_release(tmp_path / "release")


def test_spawns_come_in_the_order_of_their_names_as_text(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", spawns=12)
    (release / "spawn" / ".DS_Store").touch()
    names = [folder.name for folder in read_release(release).spawn_folders]
    assert names == ["0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9"]


def test_a_longer_recording_is_entered_at_its_end(release: Path) -> None:
    folder = release / "spawn" / "0"
    frames = np.random.default_rng(0).integers(0, 256, (9, 3, 6, 10), np.uint8)
    np.save(folder / "low_res.npy", frames)
    np.testing.assert_array_equal(read_release(release).spawns()[0].low_res, frames[-2:])


def test_a_spawn_may_have_no_recorded_future_and_actions_of_any_number_type(release: Path) -> None:
    folder = release / "spawn" / "0"
    for dtype in (np.uint8, np.int64, np.float64, np.bool_):
        np.save(folder / "act.npy", np.eye(7)[:2].astype(dtype))
        np.save(folder / "next_act.npy", np.zeros((0, 7), dtype))
        (spawn,) = read_release(release).spawns()
        assert spawn.next_actions.shape == (0, 7)
        np.testing.assert_array_equal(spawn.actions, np.eye(7)[:2])


@pytest.mark.parametrize(
    ("name", "array", "complaint"),
    [
        ("low_res", np.zeros((1, 3, 6, 10), np.uint8), r"at least 2, 3, 6, 10"),
        ("low_res", np.zeros((2, 3, 6, 10), np.float32), "is float32"),
        ("low_res", np.zeros((2, 6, 10, 3), np.uint8), r"is uint8 \(2, 6, 10, 3\)"),
        ("low_res", np.zeros((2, 3, 0, 10), np.uint8), r"is uint8 \(2, 3, 0, 10\)"),
        ("full_res", np.zeros((2, 3, 18, 29), np.uint8), r"at least 1, 3, 18, 30"),
        ("full_res", np.zeros((0, 3, 18, 30), np.uint8), r"at least 1, 3, 18, 30"),
        ("act", np.zeros((2, 6), np.uint8), "at least 2 vectors of 7"),
        ("act", np.zeros((1, 7), np.uint8), "at least 2 vectors of 7"),
        ("act", np.full((2, 7), 2, np.uint8), r"\[0\]: action vector: entry 0 is 2"),
        ("next_act", np.zeros(7, np.uint8), "any number of vectors of 7"),
        ("next_act", np.full((3, 7), np.nan), r"\[0\]: action vector: entry 0 is nan"),
        ("next_act", np.array([[{}] * 7], object), "without pickles"),
        ("next_act", None, "is missing"),
        ("low_res", b"\x93NUMPY", "cannot be read"),
        ("low_res", b"", "cannot be read"),
        ("low_res", pickle.dumps(np.zeros(3)), "cannot be read"),
    ],
)
def test_a_spawn_that_does_not_fit_is_refused_by_file(
    release: Path, name: str, array: Any, complaint: str
) -> None:
    path = release / "spawn" / "0" / f"{name}.npy"
    if array is None:
        path.unlink()
    elif isinstance(array, bytes):
        path.write_bytes(array)
    else:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(DiamondError, match=complaint) as caught:
        read_release(release).spawns()
    assert str(path) in caught.value.what


def test_a_spawn_of_another_size_than_the_first_is_refused(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", spawns=2)
    np.save(release / "spawn" / "1" / "low_res.npy", np.zeros((2, 3, 6, 11), np.uint8))
    with pytest.raises(DiamondError, match=r"spawn/1/low_res\.npy: is uint8 \(2, 3, 6, 11\)"):
        read_release(release).spawns()
