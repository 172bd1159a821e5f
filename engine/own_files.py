"""Files of the user's own that are opened only where nobody else could have written them.

Opening a plan or a program runs what it holds. So one is only ever read from here, through a handle whose owner and
mode are checked: it must be the user's, and nobody else may be able to write it or its directory. One in a bundle is
never looked at.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from engine.errors import DiamondError
from engine.space import require_disk
from engine.whole_file import WholeFile, cannot_write

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class OwnFiles:
    """A directory of such files; made when the first one is written.

    Args:
        folder: the directory.
        what: one of its files, for people: "plan".
    """

    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self._what = folder, what

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none.

        Raises:
            DiamondError: somebody else could have written it, or it cannot be read.
        """
        path = self.folder / name
        try:
            folder = os.stat(self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DiamondError(f"{self.folder}: cannot be read: {error.strerror}", "a directory") from error
        self._require_own(self.folder, folder, stat.S_ISDIR, "a directory")
        try:
            # Checked through the handle that is read from, so that no other file can take its place in between.
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except FileNotFoundError:
            return None
        except OSError as error:  # a link, or no permission
            raise DiamondError(
                f"{path}: cannot be read: {error.strerror}", "a file that diamond-engine wrote", f"rm {path}"
            ) from error
        try:
            self._require_own(path, os.fstat(handle), stat.S_ISREG, "a file")
            with open(handle, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(handle)

    def write(self, name: str, content: bytes) -> None:
        """Puts a file there, whole and readable by the user only.

        Raises:
            DiamondError: the disk refuses, or somebody else could write to the directory.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = os.stat(self.folder, follow_symlinks=False)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        self._require_own(self.folder, found, stat.S_ISDIR, "a directory")
        require_disk(self.folder, len(content), f"the {self._what}", f"free some space: rm -r {self.folder}")
        with WholeFile(self.folder / name) as whole:
            if hasattr(os, "fchmod"):
                os.fchmod(whole.file.fileno(), 0o600)  # whatever the umask lets others do
            whole.file.write(content)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        path = self.folder / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error

    def size_bytes(self) -> int:
        """Of all that lies there."""
        return folder_bytes(self.folder)

    def _require_own(
        self, path: Path, found: os.stat_result, is_kind: Callable[[int], bool], kind: str
    ) -> None:
        """Checks owner and mode; not on Windows, whose profiles are private and whose modes say nothing."""
        if not is_kind(found.st_mode):
            raise DiamondError(f"{path}: is not {kind}", f"{kind} that diamond-engine made", f"rm {path}")
        if not hasattr(os, "geteuid"):
            return
        opening = f"opening a {self._what} runs what it holds"
        if found.st_uid != os.geteuid():
            raise DiamondError(
                f"{path}: belongs to another user (id {found.st_uid})",
                f"{kind} of your own: {opening}",
                f"rm -r {path}, or name another place in DIAMOND_ENGINE_HOME",
            )
        if found.st_mode & _OTHERS_WRITE:
            raise DiamondError(
                f"{path}: others may write it (mode {stat.S_IMODE(found.st_mode):o})",
                f"{kind} that only you can write: {opening}",
                f"rm -r {path}: {self._what}s are made again",
            )


def folder_bytes(folder: Path) -> int:
    """Of all files below a directory; 0 where there is none."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
