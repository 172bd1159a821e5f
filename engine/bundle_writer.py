"""Writes a world to disk whole or not at all.

The bundle is put together in a temporary directory beside its place, every file hashed while it is copied,
its world.json checked as a reader would, and moved into place last. An existing bundle is replaced only then,
and nothing is left behind by a failure.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import DiamondError
from engine.manifest import SCHEMA, check_file_name, manifest_from_json

WORLD_JSON = "world.json"
_CHUNK_BYTES = 1 << 20


def write_bundle(
    out_dir: Path | str, manifest: Mapping[str, Any], files: Mapping[str, Path | bytes], take: bool = False
) -> Path:
    """Writes a world.

    Args:
        out_dir: the directory to make; one that holds a bundle is replaced, any other is left alone.
        manifest: world.json without "files" and, at will, without "schema"; see docs/bundle.md.
        files: name inside the bundle -> a file to copy, or its bytes.
        take: move files that lie on the same disk instead of copying them. A failure leaves some of them moved, to a
            directory that is then deleted: for files that nobody else needs.

    Returns:
        `out_dir` as a path.

    Raises:
        DiamondError: a manifest that a reader would refuse, `out_dir` is something else, or the disk refuses.
            Then `out_dir` is as it was.
    """
    out_dir = Path(out_dir)
    if (
        out_dir.exists()
        and not (out_dir / WORLD_JSON).is_file()
        and (not out_dir.is_dir() or any(out_dir.iterdir()))
    ):
        raise DiamondError(f"{out_dir}: exists and is not a world", "a new directory, or a world to replace")
    for name in files:
        check_file_name(name)
    with _temporary_directory(out_dir) as building:
        entries = {name: _put(source, building / name, take) for name, source in sorted(files.items())}
        document = {"schema": SCHEMA, **manifest, "files": entries}
        manifest_from_json(document)
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        _put(text.encode("utf-8"), building / WORLD_JSON, take)
        _move_into_place(building, out_dir)
    return out_dir


@contextmanager
def _temporary_directory(out_dir: Path) -> Iterator[Path]:
    """A new directory beside `out_dir`, gone afterwards unless it was moved; OSError becomes DiamondError."""
    building: Path | None = None
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", suffix=".partial", dir=out_dir.parent))
        building.chmod(0o755)  # mkdtemp makes it private
        yield building
    except OSError as error:
        raise DiamondError(
            f"{out_dir}: cannot be written: {error}",
            "a place to write the world to",
            "free some space, or choose another directory",
        ) from error
    finally:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)


def _put(source: Path | bytes, target: Path, take: bool) -> dict[str, Any]:
    """Copies or moves to the place of the bundle being built; returns the entry for "files"."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if take and isinstance(source, Path) and source.stat().st_dev == target.parent.stat().st_dev:
        source.rename(target)
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
            return {"sha256": digest, "bytes": file.tell()}
    sha256 = hashlib.sha256()
    with target.open("xb") as output:
        for chunk in _chunks(source):
            sha256.update(chunk)
            output.write(chunk)
        _flush(output)
        return {"sha256": sha256.hexdigest(), "bytes": output.tell()}


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _flush(output: BinaryIO) -> None:
    """Waits until the data is on the disk, so that the move cannot overtake it."""
    output.flush()
    os.fsync(output.fileno())


def _move_into_place(building: Path, out_dir: Path) -> None:
    """Two renames where there is an old bundle: a directory cannot be replaced in one."""
    if not out_dir.exists():
        building.rename(out_dir)
        return
    old = building.with_suffix(".old")
    out_dir.rename(old)
    try:
        building.rename(out_dir)
    except OSError:
        old.rename(out_dir)
        raise
    shutil.rmtree(old, ignore_errors=True)
