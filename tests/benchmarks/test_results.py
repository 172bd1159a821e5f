"""Kept reports: one file a machine, the newest of every subject, and no other machine's."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import keep, machines, read
from engine.errors import DiamondError


def report(config: str = "defaults", cpu: str = "abacus", **more: Any) -> dict[str, Any]:
    hardware = {"cpu": cpu, "cores": 2}
    return {"benchmark": "latency", "world": "tiny", "config": config, "hardware": hardware, **more}


def test_a_newer_report_of_the_same_subject_replaces_the_older(tmp_path: Path) -> None:
    file = tmp_path / "abacus.json"
    for one in (report(fps=1), report("threads=1", fps=2), report(fps=3)):
        keep(one, file)
    assert [(r["config"], r["fps"]) for r in read(file)["reports"]] == [("defaults", 3), ("threads=1", 2)]


def test_another_machines_file_is_refused(tmp_path: Path) -> None:
    keep(report(), tmp_path / "abacus.json")
    with pytest.raises(DiamondError, match="another machine, abacus"):
        keep(report(cpu="difference engine"), tmp_path / "abacus.json")


@pytest.mark.parametrize("text", ["no json", "[]", '{"fps": 3}'])
def test_a_file_that_holds_something_else_is_neither_read_nor_replaced(tmp_path: Path, text: str) -> None:
    file = tmp_path / "notes.json"
    file.write_text(text)
    with pytest.raises(DiamondError, match=r"notes\.json"):
        keep(report(), file)
    assert file.read_text() == text


def test_a_folder_of_results_may_hold_other_files(tmp_path: Path) -> None:
    keep(report(), tmp_path / "abacus.json")
    (tmp_path / "quality.json").write_text('{"psnr": 20}')
    (found,) = machines(tmp_path)
    assert (found["name"], len(found["reports"])) == ("abacus", 1)
