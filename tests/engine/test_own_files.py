"""Plans are read from the user's own directory only, and only where nobody else could have written them."""

import os
from pathlib import Path

import pytest

from engine import catalog
from engine.errors import DiamondError
from engine.own_files import folder_bytes
from engine.tensorrt.plan_cache import PlanCache


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    cache = PlanCache(tmp_path / "plans")
    cache.write("a.plan", b"a plan")
    return cache


def test_what_is_written_is_read_and_counted(cache: PlanCache) -> None:
    assert cache.read("a.plan") == b"a plan"
    assert cache.read("b.plan") is None
    assert cache.size_bytes() == folder_bytes(cache.folder) == 6
    cache.remove("a.plan")
    cache.remove("a.plan")
    assert cache.read("a.plan") is None


def test_a_directory_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path / "none")
    assert cache.read("a.plan") is None
    assert cache.size_bytes() == 0
    assert not cache.folder.exists()


def test_plans_lie_in_the_users_own_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path))
    assert PlanCache().folder == tmp_path / "plans" == catalog.own_home() / "plans"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes say nothing on this system")
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_nobody_else_can_read_or_write_what_is_written(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        cache = PlanCache(tmp_path / "home" / "plans")
        cache.write("a.plan", b"a plan")
    finally:
        os.umask(before)
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert (cache.folder / "a.plan").stat().st_mode & 0o777 == 0o600
    assert cache.read("a.plan") == b"a plan"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes say nothing on this system")
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(cache: PlanCache, mode: int) -> None:
    (cache.folder / "a.plan").chmod(mode)
    with pytest.raises(DiamondError, match=rf"a\.plan: others may write it \(mode {mode:o}\)") as failure:
        cache.read("a.plan")
    assert failure.value.fix.startswith("rm -r ")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes say nothing on this system")
def test_a_directory_that_others_may_write_is_refused_for_reading_and_writing(cache: PlanCache) -> None:
    cache.folder.chmod(0o770)
    with pytest.raises(DiamondError, match="plans: others may write it"):
        cache.read("a.plan")
    with pytest.raises(DiamondError, match="plans: others may write it"):
        cache.write("b.plan", b"")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners say nothing on this system")
def test_what_belongs_to_another_user_is_refused(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(DiamondError, match=rf"belongs to another user \(id {owner}\)"):
        cache.read("a.plan")


def test_links_are_not_followed(cache: PlanCache, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.plan").write_bytes(b"another plan")
    (cache.folder / "b.plan").symlink_to(tmp_path / "elsewhere.plan")
    with pytest.raises(DiamondError, match=r"b\.plan: cannot be read"):
        cache.read("b.plan")
    (tmp_path / "linked").symlink_to(cache.folder)
    with pytest.raises(DiamondError, match="linked: is not a directory"):
        PlanCache(tmp_path / "linked").read("a.plan")


def test_a_directory_in_place_of_a_plan_is_refused(cache: PlanCache) -> None:
    (cache.folder / "b.plan").mkdir(mode=0o700)
    with pytest.raises(DiamondError, match=r"b\.plan: is not a file"):
        cache.read("b.plan")


def test_a_full_disk_is_said_before_anything_is_written(
    cache: PlanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine import space

    monkeypatch.setattr(space, "free_disk_bytes", lambda path: 1000)
    with pytest.raises(DiamondError, match=r"1\.00 kB free"):
        cache.write("b.plan", b"plan")
    assert [path.name for path in cache.folder.iterdir()] == ["a.plan"]
