"""The hub's listing of files: what it may say, and comparing a directory with it."""

import dataclasses
from pathlib import Path

import pytest

from engine.errors import DiamondError
from engine.hub_listing import ListedFile, read_listing, require_files, write_listing
from tests.engine.hub_double import git_sha1, sha256

LISTED = ListedFile("csgo/a", 3, sha256(b"abc"))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../a"},
        {"name": "/etc/passwd"},
        {"name": "csgo/../../a"},
        {"name": "csgo\\a"},
        {"digest": ""},
        {"digest": "../../a"},
        {"size_bytes": -1},
        {"size_bytes": None},
    ],
)
def test_a_listing_that_leads_elsewhere_or_names_no_contents_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DiamondError, match="the hub lists"):
        dataclasses.replace(LISTED, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("digest", [sha256(b"abc"), git_sha1(b"abc")], ids=["sha256", "git"])
def test_both_digests_of_the_hub_describe_contents(tmp_path: Path, digest: str) -> None:
    file = dataclasses.replace(LISTED, digest=digest)
    (tmp_path / "csgo").mkdir()
    (tmp_path / "csgo/a").write_bytes(b"abc")
    require_files(tmp_path, [file], tmp_path, "run again")
    (tmp_path / "csgo/a").write_bytes(b"abd")
    with pytest.raises(DiamondError, match="csgo/a has other contents"):
        require_files(tmp_path, [file], tmp_path, "run again")


def test_every_wrong_file_is_named_at_once(tmp_path: Path) -> None:
    files = [LISTED, dataclasses.replace(LISTED, name="b"), dataclasses.replace(LISTED, name="c")]
    (tmp_path / "b").write_bytes(b"ab")
    (tmp_path / "c").write_bytes(b"abd")
    complaint = "csgo/a is missing; b is cut short: 2 of 3 bytes; c has other contents"
    with pytest.raises(DiamondError, match=complaint):
        require_files(tmp_path, files, tmp_path, "run again")


def test_many_wrong_files_are_counted_and_the_whole_cache_is_to_be_deleted(tmp_path: Path) -> None:
    files = [dataclasses.replace(LISTED, name=str(index)) for index in range(100)]
    with pytest.raises(
        DiamondError, match=r"3 is missing; 96 more are wrong(.|\n)*delete /cache, then run again"
    ):
        require_files(tmp_path, files, Path("/cache"), "run again")


def test_a_kept_listing_reads_back_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "listing.json"
    write_listing(path, [LISTED])
    assert read_listing(path) == (LISTED,)
    assert list(path.parent.iterdir()) == [path]
    path.write_text('{"files": [["../a", 3, "x"]]}')
    with pytest.raises(DiamondError, match="is damaged"):
        read_listing(path)
