"""Names of worlds."""

from pathlib import Path

import pytest

from engine import catalog
from engine.catalog import resolve
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


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("csgo", "cannot load the published world yet"), ("doom", "no such name or directory")],
)
def test_an_unknown_name_is_refused_with_the_list(name: str, complaint: str) -> None:
    with pytest.raises(DiamondError, match=rf"{complaint}(.|\n)*\['freedoom'\]"):
        resolve(name)


def test_a_file_is_not_a_world(tmp_path: Path) -> None:
    (tmp_path / "world.json").touch()
    with pytest.raises(DiamondError, match="is a file"):
        resolve(tmp_path / "world.json")
