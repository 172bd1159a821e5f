"""How time grows: the law that extrapolates is exact where it can be checked, and the command measures what it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.amdahl import Stage, fit, frame_ms, parallel_share
from benchmarks.configuration import Config
from benchmarks.growth import numbers, rows, with_steps, with_threads
from engine.errors import DiamondError

ROOT = Path(__file__).resolve().parents[2]


def quiet(line: str) -> None:
    """Nobody reads it."""


@pytest.mark.parametrize("counts", [(1, 2), (1, 2, 4, 8)])
def test_times_that_follow_the_law_give_it_back(counts: tuple[int, ...]) -> None:
    law = Stage.fit({n: 3 + 12 / n for n in counts})
    assert (law.serial_ms, law.parallel_ms) == (pytest.approx(3), pytest.approx(12))
    assert law.at(8) == pytest.approx(4.5)


def test_neither_part_is_less_than_nothing() -> None:
    assert Stage.fit({1: 10.0, 2: 12.0}) == Stage(11.0, 0.0), "slower with threads"
    law = Stage.fit({1: 10.0, 2: 4.0})  # faster than their number
    assert law.serial_ms == 0
    assert law.at(1) == pytest.approx(9.6)
    assert Stage.fit({1: 10.0}).at(8) == 10


def test_a_frame_is_its_stages_one_after_the_other() -> None:
    laws = fit({1: {"denoiser": 8.0, "other": 2.0}, 2: {"denoiser": 4.0, "other": 2.0}})
    assert frame_ms(laws, 4) == pytest.approx(4.0)
    assert parallel_share(laws) == pytest.approx(0.8)


def test_numbers_are_read_or_refused() -> None:
    assert numbers("--steps", "10,1,2,2") == [1, 2, 10]
    assert numbers("--threads", "") == []
    with pytest.raises(DiamondError, match="--steps 1,few"):
        numbers("--steps", "1,few")


def test_more_steps_take_longer(tiny_bundle: Path) -> None:
    found = with_steps(tiny_bundle, Config(threads=1), [1, 6], 8, quiet)
    times = {(row["network"], row["steps"]): row["stages_ms_p50"][row["network"]] for row in found}
    for network in ("denoiser", "upsampler"):
        # Six on an idle machine; one that others use in the meantime may stretch the single steps threefold.
        assert times[network, 6] / times[network, 1] > 1.5, times


def test_what_is_computed_is_labelled_so(tiny_bundle: Path) -> None:
    report = with_threads(tiny_bundle, Config(), [1, 2], 8, quiet)
    assert [row["threads"] for row in report["threads"]] == [1, 2]
    assert report["threads"][0]["ratio"]["p50"] == 1
    around = {"hardware": {"cpu": "c", "cores": 2}, "load": {"busy": True}, "steps": [], "sizes": []}
    text = "\n".join(rows({**report, **around}))
    assert "| 8, computed |" in text
    assert "| 2, computed |" not in text
    assert "BUSY" in text


def test_the_command_ends_in_json_and_keeps_the_report(tmp_path: Path, tiny_bundle: Path) -> None:
    script, kept = ROOT / "benchmarks" / "scaling.py", tmp_path / "machine.json"
    arguments = [str(tiny_bundle), "--frames", "8", "--threads", "1", "--steps", "1,2", "--no-sizes"]
    command = [sys.executable, str(script), *arguments, "--json", str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert json.loads(kept.read_text())["reports"] == [report]
    assert (report["benchmark"], report["world"], report["expected"]) == ("scaling", "tiny", None)
    assert len(report["steps"]) == 4
