"""The published world from the Hugging Face hub: `csgo/` of eloialonso/diamond, whole and checked, or an error.

huggingface_hub does the talking, so the user's cache, token, endpoint and proxy settings hold. Added here: what it will
cost is said before it is spent; a large file goes on where an interrupted download stopped, in a later run too (recent
versions of the library start over); every file is compared with the hash that the hub lists; and offline means that
no connection is opened at all. Knows nothing of what the files contain.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import DiamondError
from engine.hub_listing import ListedFile, read_listing, require_files, total_bytes, write_listing
from engine.space import free_disk_bytes, require_disk, size_text

REPO = "eloialonso/diamond"
FOLDER = "csgo"
INSTALL = 'pip install "diamond-engine[hub]"'
RESUMED_FROM_BYTES = 16 << 20  # smaller files are as quick to fetch anew, and in parallel
RANGE_NOT_SATISFIABLE = 416

Say = Callable[[str], None]
_GIVE_IT = "give the release's directory with --release DIR"
_OTHER_WAYS = f"or {_GIVE_IT}"


def fetch_release(offline: bool = False, say: Say = print) -> Path:
    """The directory of the release, downloaded if need be.

    Args:
        offline: open no connection; find what an earlier run has downloaded and checked. Also when the environment
            sets HF_HUB_OFFLINE.
        say: takes one line at a time: what will be downloaded, the free disk, what is being done.

    Returns:
        The directory that holds config/, model/ and spawn/, in the user's Hugging Face cache. Every file in it has
        just been compared with the hub's hashes.

    Raises:
        DiamondError: huggingface_hub is missing, the network or the disk fails, or a file is not what the hub lists.
            What has arrived stays in the cache for the next run.
    """
    storage = _storage()
    if reason := _offline_reason(offline):
        return _find_checked(storage, reason, say)

    with _explained_failures():
        commit, files = _list_release()

    def missing() -> list[ListedFile]:
        places = {
            file: (storage / "snapshots" / commit / file.name, storage / "blobs" / file.digest)
            for file in files
        }
        return [file for file in files if not any(place.exists() for place in places[file])]

    _state_cost(storage, files, missing(), say)
    for file in missing():
        if file.size_bytes >= RESUMED_FROM_BYTES:
            _fetch_blob(storage, commit, file, say)
    with _explained_failures(missing):
        folder = _fetch_snapshot()
    if folder.name != commit:
        raise DiamondError(
            f"{REPO} has changed during the download: {commit[:12]} is now {folder.name[:12]}",
            "one version of the release",
            "run again: what has arrived is kept",
        )
    say(f"{FOLDER}: comparing {size_text(total_bytes(files))} with the hub's hashes")
    require_files(folder, files, storage, "run again")
    with suppress(OSError):  # a cache that cannot be written is good for now, only not for --offline later
        write_listing(_listings(storage) / f"{commit}.json", files)
    return folder / FOLDER


def _storage() -> Path:
    """Where huggingface_hub keeps this repository: blobs by hash, snapshots by commit."""
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise DiamondError(
            "the published world is fetched with huggingface_hub, which is not installed",
            "huggingface_hub, or a release that is here already",
            f"{INSTALL}, {_OTHER_WAYS}",
        ) from error
    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{REPO.replace('/', '--')}"


def _listings(storage: Path) -> Path:
    """Ours: the listings that snapshots were checked against. They go when the user deletes the repository."""
    return storage / "diamond-engine"


# Offline.


def _offline_reason(offline: bool) -> str:
    from huggingface_hub import constants

    return "--offline" if offline else "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""


def _find_checked(storage: Path, reason: str, say: Say) -> Path:
    """The snapshot that was checked last, checked again."""
    listings = sorted(_listings(storage).glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not listings:
        fix = f"run once with the network, {_OTHER_WAYS}"
        if unchecked := sorted((storage / "snapshots").glob(f"*/{FOLDER}")):
            fix += f" (to use what another program has downloaded, unchecked: --release {unchecked[-1]})"
        raise DiamondError(
            f"{reason}, and {storage.parent} holds no complete {FOLDER} release",
            "a release that an earlier run has downloaded and checked",
            fix,
        )
    folder = storage / "snapshots" / listings[-1].stem
    files = read_listing(listings[-1])
    say(f"{FOLDER}: {reason}; comparing {size_text(total_bytes(files))} in {folder} with the hub's hashes")
    require_files(folder, files, storage, "run again with the network")
    return folder / FOLDER


# Online.


def _list_release() -> tuple[str, tuple[ListedFile, ...]]:
    """The current commit, and the release's files in it."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(library_name="diamond-engine")
    commit = str(api.model_info(REPO).sha)
    files = tuple(
        ListedFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in api.list_repo_tree(REPO, FOLDER, recursive=True, revision=commit)
        if isinstance(entry, RepoFile)
    )
    if not files:
        raise DiamondError(f"{REPO} lists no files in {FOLDER}/", "the published release", _GIVE_IT)
    return commit, files


def _state_cost(storage: Path, files: tuple[ListedFile, ...], missing: list[ListedFile], say: Say) -> None:
    """Says what is about to be spent; refuses where the disk is too small for it."""
    from huggingface_hub import constants

    cache = storage.parent
    here_bytes = sum(min(_partial(storage, file)[1], file.size_bytes) for file in missing)
    needed_bytes = total_bytes(missing) - here_bytes
    say(f"{FOLDER}: {len(files)} files, {size_text(total_bytes(files))}, of {REPO} at {constants.ENDPOINT}")
    if not missing:
        say(f"{FOLDER}: nothing to download, all of it is in {cache}")
        return
    resuming = f", going on after {size_text(here_bytes)}" if here_bytes else ""
    free = size_text(free_disk_bytes(cache))
    say(f"{FOLDER}: {size_text(needed_bytes)} to download{resuming}; {free} free in {cache}")
    fix = f"free some space, set HF_HUB_CACHE to a directory on a larger disk, {_OTHER_WAYS}"
    require_disk(cache, needed_bytes, "the download", fix)


def _partial(storage: Path, file: ListedFile) -> tuple[Path, int]:
    """The file that an interrupted download left, and its length; 0 where there is none."""
    path = storage / "blobs" / f"{file.digest}.incomplete"
    return path, path.stat().st_size if path.is_file() else 0


def _fetch_blob(storage: Path, commit: str, file: ListedFile, say: Say) -> None:
    """Downloads one file into the cache's blobs, going on after what is there; moved into place when its hash is right.

    Uses the library's own names and lock, so that it finds the blob, and two programs do not write one file.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    blob = storage / "blobs" / file.digest
    lock = storage.parent / ".locks" / storage.name / f"{file.digest}.lock"
    with _explained_failures(lambda: [file]), _locked(lock):
        blob.parent.mkdir(parents=True, exist_ok=True)
        if blob.exists():  # another program was faster
            return
        partial, here_bytes = _partial(storage, file)
        if here_bytes > file.size_bytes:
            partial.unlink()
        with partial.open("ab") as output:
            try:
                http_get(
                    hf_hub_url(REPO, file.name, revision=commit),
                    output,
                    resume_size=output.tell(),
                    headers={
                        **build_hf_headers(library_name="diamond-engine"),
                        "Accept-Encoding": "identity",
                    },
                    expected_size=file.size_bytes,
                    displayed_filename=file.name,
                )
            except Exception as error:
                if _status(error) == RANGE_NOT_SATISFIABLE:  # what is here is no beginning of what is there
                    partial.unlink()
                raise
        say(f"{file.name}: comparing with the hub's hash")
        if not file.describes(partial):
            partial.unlink()
            raise DiamondError(
                f"{file.name}: arrived with other contents than {REPO} lists, and was deleted",
                f"{file.size_bytes} bytes with SHA-256 {file.digest}",
                f"run again; if it arrives so again, something on the way alters it: change the network, {_OTHER_WAYS}",
            )
        partial.replace(blob)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the library's own lock on a blob; waits where another program downloads it."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(path):
        yield


def _fetch_snapshot() -> Path:
    """Downloads what is still missing, and links all of it under the names of the repository."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(REPO, allow_patterns=f"{FOLDER}/*", library_name="diamond-engine"))


@contextmanager
def _explained_failures(missing: Callable[[], list[ListedFile]] = list) -> Iterator[None]:
    """Failures of network and disk become one DiamondError that names the files still missing and says what to do."""
    from huggingface_hub import constants

    try:
        yield
    except Exception as error:
        if isinstance(error, DiamondError) or not _is_transfer_failure(error):
            raise
        absent = [file.name for file in missing()]
        still = f" ({absent[0]} and {len(absent) - 1} more are missing)" if absent[1:] else ""
        still = f" ({absent[0]} is missing)" if len(absent) == 1 else still
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        what = f"{REPO} could not be fetched from {constants.ENDPOINT}: {reason}{still}"
        if isinstance(error, OSError) and (error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT)):
            fix = "free some space, or set HF_HUB_CACHE to another directory"
            raise DiamondError(
                what, f"room and permission to write in {constants.HF_HUB_CACHE}", fix
            ) from error
        if _status(error) in (401, 403):
            fix = f"the repository is public, but a wrong token is refused: check HF_TOKEN, {_OTHER_WAYS}"
            raise DiamondError(what, "no token, or a valid one", fix) from error
        fix = f"run again, what has arrived is kept; --offline finds an earlier download, {_OTHER_WAYS}"
        raise DiamondError(what, "a connection to the hub that lasts", fix) from error


def _status(error: Exception) -> int | None:
    """The HTTP status of an answer that was no success."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_transfer_failure(error: Exception) -> bool:
    """Whether the network, hub or disk failed, rather than this program; HTTP libraries differ between versions."""
    transports = ("huggingface_hub", "httpx", "httpx2", "httpcore", "requests", "urllib3", "hf_xet")
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in transports
