"""The episode file: what is written is read back, fast, and a damaged file says so."""

import errno
import pathlib
import pickle
import statistics
import time

import numpy as np
import pytest
import safetensors.numpy

from engine.errors import DiamondError
from tests.train.data.samples import FULL, LOW, actions, frames, meta
from train.data import container
from train.data.episode import Episode, write_episode


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "episode_000000.safetensors"
    write_episode(path, meta(), frames(40, LOW), actions(40), frames(40, FULL))
    return path


def median_ms(call, repeats=50):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def test_low_res_and_actions_come_back_exactly(path):
    episode = Episode(path)
    assert len(episode) == 40
    assert np.array_equal(episode.low_res(0, 40), frames(40, LOW))
    assert np.array_equal(episode.actions(7, 12), actions(40)[7:12])


def test_full_res_comes_back_nearly(path):
    wanted = frames(40, FULL)[3:8].astype(int)
    difference = np.abs(Episode(path).full_res(3, 8).astype(int) - wanted)
    assert difference.max() <= 12, f"maximum {difference.max()}, mean {difference.mean():.2f}"
    assert difference.mean() < 1.5, f"maximum {difference.max()}, mean {difference.mean():.2f}"


def test_metadata_come_back(path):
    assert Episode(path).meta == meta()


def test_extra_metadata_are_kept(tmp_path):
    path = tmp_path / "e.safetensors"
    write_episode(path, meta(full_res=False, extra={"map": "court"}), frames(4, LOW), actions(4))
    assert Episode(path).meta.extra == {"map": "court"}


def test_full_res_is_optional_and_asking_for_it_says_so(tmp_path):
    path = tmp_path / "e.safetensors"
    write_episode(path, meta(full_res=False), frames(4, LOW), actions(4))
    assert not Episode(path).has_full_res
    with pytest.raises(DiamondError, match="no full-resolution"):
        Episode(path).full_res(0, 1)


def test_frames_may_come_as_jpegs(tmp_path, path):
    from train.data.jpeg import encode_jpeg

    jpegs = [encode_jpeg(frame, 92) for frame in frames(40, FULL)]
    write_episode(tmp_path / "b.safetensors", meta(), frames(40, LOW), actions(40), jpegs)
    assert (tmp_path / "b.safetensors").read_bytes() == path.read_bytes()


def test_pillow_reads_what_simplejpeg_wrote(path, monkeypatch):
    from train.data import jpeg

    if jpeg.simplejpeg is None:
        pytest.skip("simplejpeg is not installed, so Pillow wrote the file too")
    expected = Episode(path).full_res(0, 2).astype(int)
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    difference = np.abs(Episode(path).full_res(0, 2).astype(int) - expected)
    assert difference.max() <= 4, f"maximum {difference.max()}, mean {difference.mean():.2f}"


def test_the_safetensors_package_reads_it_and_writes_what_we_read(path, tmp_path):
    tensors = safetensors.numpy.load_file(path)
    assert np.array_equal(tensors["low_res"], frames(40, LOW))
    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file(tensors, other, metadata=meta().to_strings())
    assert np.array_equal(Episode(other).full_res(0, 40), Episode(path).full_res(0, 40))


def test_a_pickled_episode_opens_again_elsewhere(path):
    copy = pickle.loads(pickle.dumps(Episode(path)))
    assert np.array_equal(copy.low_res(0, 5), frames(40, LOW)[:5])


def test_reading_five_frames_is_fast(path):
    episode = Episode(path)
    low_ms = median_ms(lambda: episode.low_res(20, 25))
    full_ms = median_ms(lambda: episode.full_res(20, 25))
    assert low_ms < 1, f"low-res: {low_ms:.3f} ms"
    assert full_ms < 12, f"full-res: {full_ms:.3f} ms"  # 4 ms on a free machine


@pytest.mark.parametrize("span", [(-1, 2), (3, 2), (0, 41)])
def test_a_range_outside_the_episode_is_refused(path, span):
    with pytest.raises(DiamondError, match="0 <= start <= stop <= 40"):
        Episode(path).low_res(*span)


@pytest.mark.parametrize("keep", [0, 5, 100, 3000, -1])
def test_a_truncated_file_is_named(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DiamondError, match=r"episode_000000.safetensors: not a readable episode"):
        Episode(path)


@pytest.mark.parametrize(
    "garbage", [b"\xff" * 500, (8).to_bytes(8, "little") + b"[1, 2, 3", (2).to_bytes(8, "little") + b"[]"]
)
def test_a_file_of_something_else_is_named(path, garbage):
    path.write_bytes(garbage)
    with pytest.raises(DiamondError, match=r"episode_000000.safetensors"):
        Episode(path)


def test_a_damaged_jpeg_is_named_with_its_frame(path):
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data) - 2) if data[i : i + 3] == b"\xff\xd8\xff"]
    data[starts[6] : starts[7]] = bytes(starts[7] - starts[6])
    path.write_bytes(data)
    with pytest.raises(DiamondError, match=r"episode_000000.safetensors: .*frame 6"):
        Episode(path).full_res(5, 8)
    assert Episode(path).full_res(7, 8).shape == (1, *FULL, 3)


def test_a_newer_format_is_refused(path, tmp_path):
    strings = {**meta().to_strings(), "format_version": "2"}
    container.write_container(path, strings, {"low_res": frames(3, LOW), "actions": actions(3)})
    with pytest.raises(DiamondError, match="format version 2"):
        Episode(path)


def test_unequal_lengths_are_refused(tmp_path):
    with pytest.raises(DiamondError, match="equally many"):
        write_episode(tmp_path / "e.safetensors", meta(False), frames(4, LOW), actions(5))


def test_a_full_disk_gives_one_error_and_leaves_nothing(tmp_path, monkeypatch):
    real = pathlib.Path.open

    class Full:
        """The disk takes the header and no more."""

        def __init__(self, opened):
            self.opened, self.written, self.close = opened, [], opened.close

        def write(self, data):
            if self.written:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.written.append(self.opened.write(data))

    def open_full(self, mode="r", *args, **kwargs):
        opened = real(self, mode, *args, **kwargs)
        return Full(opened) if "w" in mode else opened

    monkeypatch.setattr(pathlib.Path, "open", open_full)
    with pytest.raises(DiamondError, match="No space left on device") as error:
        write_episode(tmp_path / "e.safetensors", meta(False), frames(4, LOW), actions(4))
    assert "free some space" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_replaced_fails_without_touching_the_old_one(path, monkeypatch):
    before = path.read_bytes()

    def no_sync(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", no_sync)
    with pytest.raises(DiamondError, match="Input/output error"):
        write_episode(path, meta(False), frames(4, LOW), actions(4))
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1
