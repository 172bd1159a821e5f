"""Files that appear under their name only when they are complete.

A full disk, a crash or Ctrl-C leaves the old file, or none, and never half of the new one.
"""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.errors import DiamondError


class WholeFile:
    """A temporary file beside `path`, written through `.file`; `commit` gives it its name, `discard`
    deletes it.

    As a context manager it commits when the block ends and discards when the block raises; an `OSError` of
    the block (a full disk) becomes a `DiamondError`.

    Raises:
        DiamondError: the file cannot be written: no such directory, no permission, disk full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self.file = self._part.open("wb")
        except OSError as error:
            raise cannot_write(path, error) from error

    def commit(self) -> None:
        """Flushes to the disk and renames."""
        try:
            self.file.flush()
            os.fsync(self.file.fileno())  # a full disk may speak up only here
            self.file.close()
            os.replace(self._part, self.path)
        except OSError as error:
            self.discard()
            raise cannot_write(self.path, error) from error

    def discard(self) -> None:
        """Leaves nothing behind; harmless when repeated."""
        with suppress(OSError):  # closing flushes, which fails on a full disk
            self.file.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.commit()
            return
        self.discard()
        if isinstance(error, OSError):
            raise cannot_write(self.path, error) from error


def cannot_write(path: Path, error: OSError) -> DiamondError:
    """What to tell the user when the operating system refuses to write `path`."""
    reason = error.strerror or str(error) or type(error).__name__
    return DiamondError(f"{path}: cannot be written: {reason}", "", "free some space, or name another place")
