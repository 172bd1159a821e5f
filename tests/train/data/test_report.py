"""Checking recordings: broken files are found and listed, whole ones are counted."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from engine.errors import DiamondError
from tests.train.data.samples import FULL, LOW, SPACE, actions, frames, meta, write_folder
from train.data.episode import write_episode
from train.data.folder import episode_paths, read_dataset_info, split_of
from train.data.report import contact_sheet, stats, validate, wrong_actions


def diamond_data(*arguments):
    command = [sys.executable, "-m", "train.data.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_whole_folder_validates(tmp_path):
    write_folder(tmp_path)
    result = validate(tmp_path)
    assert (result.episodes, result.frames, result.broken) == (3, 36, [])


def test_a_broken_jpeg_is_found_though_the_file_opens(tmp_path):
    path = write_folder(tmp_path)[1]
    data = bytearray(path.read_bytes())
    start = data.rindex(b"\xff\xd8\xff")
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    assert [broken for broken, _ in validate(tmp_path).broken] == [path]


def test_sizes_that_disagree_with_dataset_json_are_found(tmp_path):
    path = write_folder(tmp_path)[0]
    write_episode(path, meta(low_res_size=(15, 28)), frames(4, (15, 28)), actions(4), frames(4, FULL))
    ((broken, reason),) = validate(tmp_path).broken
    assert broken == path
    assert "low_res_size is (15, 28)" in reason


@pytest.mark.parametrize(
    ("row", "column", "value", "reason"),
    [
        (2, 0, 7, "action 2 holds 7"),
        (3, 13, 1, "action 3 has 2 mouse_x"),
        (1, 43, 0, "action 1 has 0 mouse_y"),
    ],
)
def test_invalid_actions_are_found(row, column, value, reason):
    bad = actions(6)
    bad[row, column] = value
    assert wrong_actions(actions(6), SPACE) == ""
    assert reason in wrong_actions(bad, SPACE)


def test_validate_lists_a_broken_file_and_exits_with_2(tmp_path):
    path = write_folder(tmp_path)[1]
    path.write_bytes(path.read_bytes()[:-100])
    done = diamond_data("validate", tmp_path)
    assert done.returncode == 2, done.stderr
    assert "1 of 3 episodes are broken" in done.stderr
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_and_stats_of_a_whole_folder_exit_with_0(tmp_path):
    write_folder(tmp_path / "d")
    done = diamond_data("validate", tmp_path / "d")
    assert done.returncode == 0, done.stderr
    assert "3 episodes, 36 frames, all whole" in done.stdout
    done = diamond_data("stats", tmp_path / "d", "--sheet", tmp_path / "sheet.png")
    assert done.returncode == 0, done.stderr
    assert "2 training and 1 test episodes" in done.stdout
    assert Image.open(tmp_path / "sheet.png").size == (8 * 280, 6 * 150)


def test_a_folder_without_recordings_exits_with_2(tmp_path):
    done = diamond_data("validate", tmp_path)
    assert done.returncode == 2
    assert "dataset.json: not found" in done.stderr


def test_stats_count_keys_bins_and_files(tmp_path):
    paths = write_folder(tmp_path)
    paths[0].write_bytes(b"broken")
    result = stats(tmp_path)
    assert result.episodes == {"train": 1, "test": 1}
    assert result.skipped == [paths[0]]
    assert result.frames == 24
    assert result.shares["w"] == pytest.approx(1 / 3)
    assert result.shares["mouse x +30"] == pytest.approx(1 / 3)
    assert result.shares["mouse y +0"] == pytest.approx(2 / 3)
    assert result.idle == 0


def test_a_folder_without_full_frames_has_a_low_res_sheet(tmp_path):
    path = write_folder(tmp_path, episodes=1)[0]
    write_episode(path, meta(full_res=False), frames(9, LOW), actions(9))
    assert np.asarray(contact_sheet(tmp_path)).shape == (6 * 30, 8 * 56, 3)


def test_dataset_json_of_another_version_is_refused(tmp_path):
    write_folder(tmp_path)
    file = tmp_path / "dataset.json"
    file.write_text(file.read_text().replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(DiamondError, match="format version 9"):
        read_dataset_info(tmp_path)


def test_hidden_and_partial_files_are_not_episodes(tmp_path):
    paths = write_folder(tmp_path)
    (tmp_path / "train" / ".episode_000007.safetensors.1.part").write_bytes(b"")
    assert episode_paths(tmp_path) == paths


def test_one_episode_in_ten_is_held_out_however_many_there_are():
    splits = [split_of(index, 0.1) for index in range(120)]
    assert splits.count("test") == 12
    assert splits[:30].count("test") == 3
    assert [split_of(index, 0.0) for index in range(50)].count("test") == 0
