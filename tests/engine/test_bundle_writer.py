"""Writing a world: whole or not at all, and never over something else."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from engine import bundle_writer
from engine.bundle import Bundle, write_bundle
from engine.errors import DiamondError
from engine.manifest import SCHEMA
from tests.engine.tiny_world import world_files, world_json


@pytest.fixture
def manifest() -> dict[str, Any]:
    return world_json()


@pytest.fixture
def files(tmp_path: Path, manifest: dict[str, Any]) -> dict[str, Path | bytes]:
    files = world_files(tmp_path, manifest)
    (tmp_path / "spawn.npz").unlink()
    return files


def entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_files_are_copied_from_paths_and_bytes_alike(
    tmp_path: Path, manifest: dict[str, Any], files: dict[str, Path | bytes]
) -> None:
    source = tmp_path / "source.onnx"
    source.write_bytes(b"x" * 3_000_000)
    out = write_bundle(tmp_path / "deep" / "world", manifest, files | {"fp32/denoiser.onnx": source})
    assert Bundle.open(out).file("fp32/denoiser.onnx").read_bytes() == source.read_bytes()
    assert entries(tmp_path / "deep") == ["world"]


def test_the_schema_is_filled_in(
    tmp_path: Path, manifest: dict[str, Any], files: dict[str, Path | bytes]
) -> None:
    del manifest["schema"]
    out = write_bundle(tmp_path / "world", manifest, files)
    assert json.loads((out / "world.json").read_text(encoding="utf-8"))["schema"] == SCHEMA


def test_others_may_read_what_was_written(
    tmp_path: Path, manifest: dict[str, Any], files: dict[str, Path | bytes]
) -> None:
    out = write_bundle(tmp_path / "world", manifest, files)
    assert stat.S_IMODE(out.stat().st_mode) == 0o755


def test_a_bundle_is_replaced_with_all_its_files(
    tmp_path: Path, manifest: dict[str, Any], files: dict[str, Path | bytes]
) -> None:
    out = write_bundle(tmp_path / "world", manifest, files | {"NOTICE": b"old"})
    write_bundle(out, manifest | {"title": "The new one"}, files)
    assert Bundle.open(out).manifest.title == "The new one"
    assert not (out / "NOTICE").exists()
    assert entries(tmp_path) == ["world"]


def test_files_that_are_given_away_are_moved_and_hashed(
    tmp_path: Path, manifest: dict[str, Any], files: dict[str, Path | bytes]
) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(b"weights")
    inode = large.stat().st_ino
    out = write_bundle(tmp_path / "world", manifest, files | {"fp32/large.bin": large}, take=True)
    assert not large.exists()
    assert Bundle.open(out).file("fp32/large.bin").stat().st_ino == inode
    assert Bundle.open(out).file("fp32/large.bin").read_bytes() == b"weights"


def test_an_empty_directory_is_taken_over(
    tmp_path: Path, manifest: dict[str, Any], files: dict[str, Path | bytes]
) -> None:
    (tmp_path / "world").mkdir()
    assert Bundle.open(write_bundle(tmp_path / "world", manifest, files)).manifest.name == "tiny"


def test_a_directory_of_something_else_is_left_alone(
    tmp_path: Path, manifest: dict[str, Any], files: dict[str, Path | bytes]
) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "thesis.tex").touch()
    with pytest.raises(DiamondError, match="exists and is not a world"):
        write_bundle(tmp_path / "world", manifest, files)
    assert entries(tmp_path / "world") == ["thesis.tex"]


def test_a_manifest_that_a_reader_would_refuse_is_not_written(
    tmp_path: Path, manifest: dict[str, Any], files: dict[str, Path | bytes]
) -> None:
    out = write_bundle(tmp_path / "world", manifest, files)
    before = (out / "world.json").read_bytes()
    with pytest.raises(DiamondError, match="fps is 0"):
        write_bundle(out, manifest | {"fps": 0}, files)
    with pytest.raises(DiamondError, match=r"spawns/0\.npz is used"):
        write_bundle(out, manifest, {name: data for name, data in files.items() if name != "spawns/0.npz"})
    with pytest.raises(DiamondError, match=r"file name '\.\./evil'"):
        write_bundle(out, manifest, files | {"../evil": b""})
    assert (out / "world.json").read_bytes() == before
    assert entries(tmp_path) == ["world"]


def test_a_missing_source_is_named(
    tmp_path: Path, manifest: dict[str, Any], files: dict[str, Path | bytes]
) -> None:
    with pytest.raises(DiamondError, match=r"nowhere\.onnx"):
        write_bundle(tmp_path / "world", manifest, files | {"x.onnx": tmp_path / "nowhere.onnx"})
    assert entries(tmp_path) == []


@pytest.mark.parametrize("files_before_full", [0, 3, 6])
def test_a_full_disk_leaves_the_old_bundle_and_nothing_else(
    tmp_path: Path,
    manifest: dict[str, Any],
    files: dict[str, Path | bytes],
    monkeypatch: pytest.MonkeyPatch,
    files_before_full: int,
) -> None:
    out = write_bundle(tmp_path / "world", manifest, files)
    before = (out / "world.json").read_bytes()
    written = 0

    def flush_to_a_full_disk(output: BinaryIO) -> None:
        nonlocal written
        written += 1
        if written > files_before_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bundle_writer, "_flush", flush_to_a_full_disk)
    with pytest.raises(DiamondError, match=r"No space left on device(.|\n)*free some space"):
        write_bundle(out, manifest | {"title": "The new one"}, files)
    assert written == files_before_full + 1
    assert (out / "world.json").read_bytes() == before
    assert entries(tmp_path) == ["world"]


def test_if_the_last_rename_fails_the_old_bundle_comes_back(
    tmp_path: Path,
    manifest: dict[str, Any],
    files: dict[str, Path | bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = write_bundle(tmp_path / "world", manifest, files)
    rename = Path.rename

    def refuse_the_new_one(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(DiamondError, match="Permission denied"):
        write_bundle(out, manifest | {"title": "The new one"}, files)
    monkeypatch.undo()
    assert Bundle.open(out).manifest.title == "A tiny world"
    assert entries(tmp_path) == ["world"]
