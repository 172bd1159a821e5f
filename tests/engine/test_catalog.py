"""Names of worlds."""

import json
import sys
from pathlib import Path

import pytest

from engine import catalog
from engine.catalog import is_here, own_world, resolve
from engine.errors import DiamondError


def test_a_directory_is_itself(tmp_path: Path) -> None:
    assert resolve(tmp_path) == tmp_path
    assert resolve(str(tmp_path)) == tmp_path


def test_an_embedded_world_lies_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_WORLDS", tmp_path)
    (tmp_path / "freedoom").mkdir()
    assert resolve("freedoom") == tmp_path / "freedoom"


def test_an_embedded_world_that_the_installation_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_WORLDS", tmp_path)
    with pytest.raises(DiamondError, match="this installation lacks it"):
        resolve("freedoom")


def test_an_embedded_name_wins_over_a_directory_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "freedoom").mkdir(parents=True)
    (tmp_path / "worlds" / "freedoom").mkdir(parents=True)
    monkeypatch.setattr(catalog, "_WORLDS", tmp_path / "worlds")
    monkeypatch.chdir(tmp_path / "here")
    assert resolve("freedoom") == tmp_path / "worlds" / "freedoom"
    for directory in ("./freedoom", Path("freedoom")):
        assert resolve(directory).resolve() == tmp_path / "here" / "freedoom"


def test_an_unknown_name_is_refused_with_the_list() -> None:
    with pytest.raises(DiamondError, match=r"no such name or directory(.|\n)*\['freedoom', 'csgo'\]"):
        resolve("doom")


def test_the_published_world_is_found_once_it_has_been_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path))
    assert not is_here("csgo")
    with pytest.raises(DiamondError, match="not made yet") as failure:
        resolve("csgo")
    assert "diamond-export csgo" in failure.value.fix
    make_world_json(tmp_path / "worlds" / "csgo")
    assert is_here("csgo")
    assert resolve("csgo") == own_world("csgo") == tmp_path / "worlds" / "csgo"


def make_world_json(folder: Path, **files: str) -> Path:
    """As much of a world as the catalog looks at: names and hashes of its files."""
    folder.mkdir(parents=True)
    (folder / "world.json").write_text(json.dumps({"files": files}))
    return folder


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ({"graph": "abc", "spawn": "def", "fp16 graph": "123"}, "own"),  # more precisions
        ({"graph": "abc", "spawn": "of an older version"}, "original"),
        ({"graph": "abc"}, "original"),
    ],
)
def test_a_copy_with_more_precisions_wins_over_the_embedded_world_it_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: dict[str, str], found: str
) -> None:
    monkeypatch.setattr(catalog, "_WORLDS", tmp_path / "package")
    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path / "home"))
    paths = {
        "original": make_world_json(tmp_path / "package" / "freedoom", graph="abc", spawn="def"),
        "own": make_world_json(tmp_path / "home" / "worlds" / "freedoom", **own),
    }
    assert resolve("freedoom") == paths[found]


def test_a_damaged_copy_of_an_embedded_world_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_WORLDS", tmp_path / "package")
    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path / "home"))
    original = make_world_json(tmp_path / "package" / "freedoom", graph="abc")
    own = make_world_json(tmp_path / "home" / "worlds" / "freedoom")
    (own / "world.json").write_text('{"files": ')
    assert resolve("freedoom") == original


def test_worlds_made_here_lie_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIAMOND_ENGINE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert own_world("csgo") == tmp_path / "diamond-engine" / "worlds" / "csgo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert own_world("csgo") == tmp_path / "home" / ".cache" / "diamond-engine" / "worlds" / "csgo"


def test_a_file_is_not_a_world(tmp_path: Path) -> None:
    (tmp_path / "world.json").touch()
    with pytest.raises(DiamondError, match="is a file"):
        resolve(tmp_path / "world.json")
