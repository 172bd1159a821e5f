"""Where a world is put together: a temporary directory beside its place, on the same disk, that never stays behind."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import DiamondError


@contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """A temporary directory beside `out`, gone afterwards; a disk that refuses is a DiamondError."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".precisions", dir=out.parent))
    except OSError as error:
        raise DiamondError(
            f"{out}: cannot be written: {error.strerror}",
            "a place to write the world to",
            "choose another --out",
        ) from error
    try:
        yield folder
    except OSError as error:
        raise DiamondError(
            f"{out}: cannot be written: {error.strerror or error}",
            f"room for the world's files in {out.parent}",
            "free some space, or choose another --out",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
