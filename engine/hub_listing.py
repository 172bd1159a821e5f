"""The files of a release as the hub lists them: names, lengths and hashes, and whether a directory holds exactly these.

Git names small files by the SHA-1 of their blob, LFS large ones by their SHA-256: either way the listing says what the
contents must be. A listing that a directory was checked against is kept beside the cache as JSON, so that the check can
be repeated without the network. Knows no network and no library.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from engine.errors import DiamondError

_CHUNK_BYTES = 1 << 20
_NAMED = 4  # wrong files that an error names


@dataclass(frozen=True)
class ListedFile:
    """One file.

    Attributes:
        name: its path in the repository, with forward slashes.
        size_bytes: its length.
        digest: in hex: SHA-256 of the contents (64 digits), or git's SHA-1 of the blob (40 digits).

    Raises:
        DiamondError: a name that leads out of the directory, or something that is no length or digest.
    """

    name: str
    size_bytes: int
    digest: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.name)
        if (
            path.is_absolute()
            or ".." in path.parts
            or path.as_posix() != self.name
            or set(self.name) & set("\\:\0")
        ):
            raise DiamondError(f"the hub lists a file called {self.name!r}", "a plain relative path")
        whole = isinstance(self.size_bytes, int) and self.size_bytes >= 0
        if not whole or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", str(self.digest)):
            raise DiamondError(
                f"the hub lists {self.name} with {self.size_bytes!r} bytes and digest {self.digest!r:.80}",
                "a length, and a SHA-256 or a git SHA-1",
            )

    def describes(self, path: Path) -> bool:
        """Whether a file has these contents."""
        if path.stat().st_size != self.size_bytes:
            return False
        if len(self.digest) == 64:
            actual = hashlib.sha256()
        else:
            actual = hashlib.sha1(b"blob %d\0" % self.size_bytes, usedforsecurity=False)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                actual.update(chunk)
        return actual.hexdigest() == self.digest


def total_bytes(files: Iterable[ListedFile]) -> int:
    """The length of all files together."""
    return sum(file.size_bytes for file in files)


def require_files(folder: Path, files: Iterable[ListedFile], cache: Path, again: str) -> None:
    """Checks that a directory holds every file with the listed contents.

    Args:
        folder: where the names start.
        files: the listing.
        cache: what to delete where more than a few files are wrong.
        again: what to do after that.

    Raises:
        DiamondError: naming the files that are missing, cut short or altered, and what to delete.
    """
    wrong = []
    delete: set[str] = set()
    for file in files:
        path = folder / file.name
        if not path.is_file():
            wrong.append(f"{file.name} is missing")
            continue
        if file.describes(path):
            continue
        size_bytes = path.stat().st_size
        if size_bytes < file.size_bytes:
            wrong.append(f"{file.name} is cut short: {size_bytes} of {file.size_bytes} bytes")
        else:
            wrong.append(f"{file.name} has other contents than the hub lists")
        delete |= {str(path), str(path.resolve())}  # in the cache, the name is a link to the contents
    if wrong:
        if len(wrong) > _NAMED:
            wrong[_NAMED:] = [f"{len(wrong) - _NAMED} more are wrong"]
            delete = {str(cache)}
        raise DiamondError(
            f"{folder}: {'; '.join(wrong)}",
            "every file of the release, exactly as the hub lists it",
            f"delete {' and '.join(sorted(delete))}, then {again}" if delete else again,
        )


def write_listing(path: Path, files: Iterable[ListedFile]) -> None:
    """Keeps a listing, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps({"files": [astuple(file) for file in files]}, indent=1), "utf-8")
    partial.replace(path)


def read_listing(path: Path) -> tuple[ListedFile, ...]:
    """The listing that `write_listing` kept.

    Raises:
        DiamondError: damaged.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return tuple(ListedFile(*entry) for entry in document["files"])
    except (OSError, ValueError, KeyError, TypeError, DiamondError) as error:
        raise DiamondError(
            f"{path}: is damaged", fix=f"delete {path}, then run again without --offline"
        ) from error
