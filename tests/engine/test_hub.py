"""Fetching the published world: from a double of the hub that can cut, stall, alter and refuse."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import DiamondError
from engine.hub import fetch_release
from tests.engine.hub_double import HubDouble, fetch, serving, sha256, start_fetch

TINY = Path(__file__).parents[1] / "golden" / "published_tiny"
CHECKPOINT, YAML = "csgo/model/csgo.pt", "csgo/config/agent/csgo.yaml"
SMALL_FILES = {"resumed_from_bytes": 400_000, "chunk_bytes": 4096}  # small here, large to the engine


def repository() -> dict[str, bytes]:
    """The tiny release as `csgo/`, beside what else the published repository holds."""
    release = {
        f"csgo/{path.relative_to(TINY)}": path.read_bytes() for path in TINY.rglob("*") if path.is_file()
    }
    return {**release, "README.md": b"# DIAMOND", "atari_100k/models/Pong.pt": b"Pong"}


@pytest.fixture
def hub() -> Iterator[HubDouble]:
    pytest.importorskip("huggingface_hub", reason="fetching needs huggingface_hub")
    with serving(HubDouble(repository())) as double:
        yield double


@pytest.fixture(scope="module")
def fetched_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's Hugging Face directory after a good fetch; not to be changed."""
    pytest.importorskip("huggingface_hub", reason="fetching needs huggingface_hub")
    home = tmp_path_factory.mktemp("fetched")
    with serving(HubDouble(repository())) as double:
        assert_whole(fetch(double, home).path)
    return home


@pytest.fixture
def home(fetched_home: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(fetched_home, tmp_path / "home", symlinks=True)


def checkpoint_in(home: Path) -> Path:
    (path,) = home.glob(f"hub/models--*/snapshots/*/{CHECKPOINT}")
    return path


def assert_whole(path: Path | None) -> None:
    """The fetched directory is the published one, byte for byte."""
    assert path is not None
    names = sorted(str(file.relative_to(TINY)) for file in TINY.rglob("*") if file.is_file())
    assert sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()) == names
    for name in names:
        assert (path / name).read_bytes() == (TINY / name).read_bytes(), name


# A good connection.


@pytest.mark.parametrize("options", [{}, SMALL_FILES], ids=["whole", "resumable"])
def test_a_fetched_release_is_the_published_directory_and_nothing_else_is_asked_for(
    hub: HubDouble, tmp_path: Path, options: dict[str, int]
) -> None:
    outcome = fetch(hub, tmp_path, **options)
    assert outcome.error == ""
    assert_whole(outcome.path)
    assert hub.requested_names() == {name for name in hub.files if name.startswith("csgo/")}
    assert set(outcome.addresses) == {"127.0.0.1"}


def test_the_download_and_the_free_disk_are_stated_before_a_byte_is_spent(
    hub: HubDouble, tmp_path: Path
) -> None:
    outcome = fetch(hub, tmp_path, free_bytes=10**6)
    assert "csgo: 1.49 MB to download; 1.00 MB free" in outcome.said[1]
    assert "1.00 MB free" in outcome.error
    assert "set HF_HUB_CACHE" in outcome.error
    assert not hub.downloads()


def test_what_is_in_the_cache_is_not_downloaded_again(hub: HubDouble, home: Path) -> None:
    outcome = fetch(hub, home)
    assert_whole(outcome.path)
    assert not hub.downloads()
    assert "nothing to download" in outcome.said[1]


def test_the_users_token_reaches_the_hub_and_nobody_else(hub: HubDouble, tmp_path: Path) -> None:
    hub.token = "hf_secret"
    outcome = fetch(hub, tmp_path, {"HF_TOKEN": "hf_secret"}, **SMALL_FILES)
    assert_whole(outcome.path)
    elsewhere = [request for request in hub.requests if request.server == "storage"]
    assert elsewhere
    assert not [request for request in elsewhere if "hf_secret" in str(request.headers)]


def test_the_users_cache_directory_is_used(hub: HubDouble, tmp_path: Path) -> None:
    outcome = fetch(hub, tmp_path / "home", {"HF_HUB_CACHE": str(tmp_path / "big disk")})
    assert_whole(outcome.path)
    assert outcome.path is not None
    assert outcome.path.is_relative_to(tmp_path / "big disk")


# A bad one.


def test_a_cut_download_is_named_and_goes_on_where_it_stopped(hub: HubDouble, tmp_path: Path) -> None:
    hub.cut[CHECKPOINT] = 300_000
    outcome = fetch(hub, tmp_path, **SMALL_FILES)
    assert outcome.path is None
    assert f"({CHECKPOINT} is missing)" in outcome.error
    assert "what has arrived is kept" in outcome.error

    hub.cut.clear()
    hub.requests.clear()
    outcome = fetch(hub, tmp_path, **SMALL_FILES)
    assert_whole(outcome.path)
    assert "going on after" in outcome.said[1]
    checkpoint = f"/{sha256(hub.files[CHECKPOINT])}"
    (again,) = [request for request in hub.downloads() if request.path == checkpoint]
    kept = int(again.headers["Range"].removeprefix("bytes=").rstrip("-"))
    assert 300_000 - 4096 <= kept <= 300_000
    assert again.sent_bytes == len(hub.files[CHECKPOINT]) - kept


def test_a_killed_download_goes_on_where_it_stopped(hub: HubDouble, tmp_path: Path) -> None:
    hub.stalled[CHECKPOINT] = 300_000
    process = start_fetch(hub, tmp_path, {}, **SMALL_FILES)
    try:
        deadline = time.monotonic() + 60
        while not [f for f in tmp_path.rglob("*.incomplete") if f.stat().st_size > 200_000]:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    hub.resume.set()
    hub.stalled.clear()
    hub.requests.clear()
    assert_whole(fetch(hub, tmp_path, **SMALL_FILES).path)
    checkpoint = f"/{sha256(hub.files[CHECKPOINT])}"
    assert sum(r.sent_bytes for r in hub.requests if r.path == checkpoint) < 240_000


def test_a_cut_small_file_is_named_and_nothing_is_returned(hub: HubDouble, tmp_path: Path) -> None:
    hub.cut[YAML] = 100
    outcome = fetch(hub, tmp_path)
    assert outcome.path is None
    assert f"({YAML} " in outcome.error
    hub.cut.clear()
    assert_whole(fetch(hub, tmp_path).path)


def test_a_file_that_ends_early_on_the_hub_is_named(hub: HubDouble, tmp_path: Path) -> None:
    hub.served[CHECKPOINT] = hub.files[CHECKPOINT][:200_000]
    for _ in range(2):  # nor does what it left behind stand in the way
        outcome = fetch(hub, tmp_path, **SMALL_FILES)
        assert outcome.path is None
        assert f"({CHECKPOINT} is missing)" in outcome.error
    hub.served.clear()
    assert_whole(fetch(hub, tmp_path, **SMALL_FILES).path)


def test_a_large_file_with_a_wrong_hash_is_named_and_deleted(hub: HubDouble, tmp_path: Path) -> None:
    hub.served[CHECKPOINT] = bytes(len(hub.files[CHECKPOINT]))
    outcome = fetch(hub, tmp_path, **SMALL_FILES)
    assert outcome.path is None
    assert f"{CHECKPOINT}: arrived with other contents" in outcome.error
    hub.served.clear()
    assert_whole(fetch(hub, tmp_path, **SMALL_FILES).path)


def test_a_small_file_with_a_wrong_hash_is_named_with_what_to_delete(hub: HubDouble, tmp_path: Path) -> None:
    hub.served[YAML] = hub.files[YAML].replace(b"sigma_data: 0.5", b"sigma_data: 0.6")
    outcome = fetch(hub, tmp_path)
    assert outcome.path is None
    assert f"{YAML} has other contents than the hub lists" in outcome.error
    hub.served.clear()
    _, _, rest = outcome.error.partition("Fix: delete ")
    for path in rest.partition(", then run again")[0].split(" and "):
        Path(path).unlink()
    assert_whole(fetch(hub, tmp_path).path)


@pytest.mark.parametrize("offline", [False, True])
def test_a_file_altered_in_the_cache_is_named(hub: HubDouble, home: Path, offline: bool) -> None:
    data = bytearray(hub.files[CHECKPOINT])
    data[len(data) // 2] ^= 1
    checkpoint_in(home).write_bytes(data)
    outcome = fetch(hub, home, offline=offline)
    assert outcome.path is None
    assert f"{CHECKPOINT} has other contents" in outcome.error
    assert f"blobs/{sha256(hub.files[CHECKPOINT])}" in outcome.error


def test_a_hub_that_cannot_be_reached_is_one_error_with_the_other_ways(
    hub: HubDouble, tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        outcome = fetch(hub, tmp_path, {"HF_ENDPOINT": endpoint})
    assert f"could not be fetched from {endpoint}" in outcome.error
    assert "--release DIR" in outcome.error
    assert "--offline" in outcome.error


def test_a_refused_token_is_told_apart_from_a_broken_network(hub: HubDouble, tmp_path: Path) -> None:
    hub.token = "another"
    outcome = fetch(hub, tmp_path, {"HF_TOKEN": "hf_expired"})
    assert "check HF_TOKEN" in outcome.error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_named(hub: HubDouble, tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir(mode=0o500)
    outcome = fetch(hub, tmp_path, **SMALL_FILES)
    assert "permission to write in" in outcome.error


def test_a_cache_that_is_a_file_is_named(hub: HubDouble, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = fetch(hub, tmp_path, {"HF_HUB_CACHE": str(tmp_path / "file")}, **SMALL_FILES)
    assert "permission to write in" in outcome.error


# Offline.


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["option", "environment"])
def test_offline_finds_a_checked_release_without_a_connection(
    hub: HubDouble, home: Path, environment: dict[str, str]
) -> None:
    outcome = fetch(hub, home, environment, offline=not environment)
    assert_whole(outcome.path)
    assert outcome.addresses == []
    assert hub.requests == []


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["option", "environment"])
def test_offline_without_a_release_says_so_without_a_connection(
    hub: HubDouble, tmp_path: Path, environment: dict[str, str]
) -> None:
    outcome = fetch(hub, tmp_path, environment, offline=not environment)
    assert "holds no complete csgo release" in outcome.error
    assert "--release DIR" in outcome.error
    assert outcome.addresses == []


def test_offline_never_takes_what_an_interrupted_download_left(hub: HubDouble, tmp_path: Path) -> None:
    hub.cut["csgo/spawn/1/low_res.npy"] = 10
    assert fetch(hub, tmp_path).path is None
    outcome = fetch(hub, tmp_path, offline=True)
    assert outcome.path is None
    assert "holds no complete csgo release" in outcome.error


def test_offline_names_the_file_that_is_gone(hub: HubDouble, home: Path) -> None:
    checkpoint_in(home).unlink()
    assert f"{CHECKPOINT} is missing" in fetch(hub, home, offline=True).error


def test_offline_points_at_what_another_program_downloaded(hub: HubDouble, home: Path) -> None:
    shutil.rmtree(checkpoint_in(home).parents[4] / "diamond-engine")
    error = fetch(hub, home, offline=True).error
    assert f"--release {checkpoint_in(home).parents[1]}" in error


# Without the library, without the network.


def test_a_missing_library_is_answered_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DiamondError, match=r'pip install "diamond-engine\[hub\]"'):
        fetch_release(offline=True)


def test_importing_the_fetcher_does_not_import_the_library() -> None:
    code = "import engine.hub, sys; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
