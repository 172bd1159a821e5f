"""Memory and disk in words, and what does not fit."""

from pathlib import Path

import pytest

from engine import space
from engine.errors import DiamondError
from engine.space import available_memory_bytes, free_disk_bytes, memory_text, require_disk, size_text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(12, "12 bytes"), (436_498, "436.50 kB"), (1_526_000_000, "1.53 GB")],
)
def test_sizes_in_words(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


def test_a_directory_that_is_not_there_yet_lies_on_its_parents_disk(tmp_path: Path) -> None:
    here, there = free_disk_bytes(tmp_path), free_disk_bytes(tmp_path / "not" / "yet")
    assert here > 0
    assert abs(here - there) < 1 << 30


def test_what_does_not_fit_the_disk_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "free_disk_bytes", lambda path: 10**9)
    require_disk(tmp_path, 9 * 10**8, "the world", "free some space")
    with pytest.raises(
        DiamondError, match=r"1\.00 GB free(.|\n)*1\.03 GB for the world(.|\n)*free some space"
    ):
        require_disk(tmp_path, 960 * 10**6, "the world", "free some space")


def test_too_little_memory_is_said_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "available_memory_bytes", lambda: 4 * 10**9)
    assert memory_text(3e9) == "about 3.00 GB of memory, 4.00 GB available"
    assert "TOO LITTLE" in memory_text(5e9)
    monkeypatch.setattr(space, "available_memory_bytes", lambda: None)
    assert memory_text(5e9) == "about 5.00 GB of memory"


def test_this_machine_has_some_memory() -> None:
    available = available_memory_bytes()
    assert available is None or 10**7 < available < 10**14
