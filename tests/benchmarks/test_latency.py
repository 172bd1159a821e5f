"""The benchmark measures what it says, says it in JSON, and refuses what it does not understand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.latency import Config, percentiles, spread
from benchmarks.machine import hardware, peak_memory_bytes, resident_bytes, versions
from engine.errors import DiamondError

ROOT = Path(__file__).resolve().parents[2]


def test_percentiles_are_those_of_the_frames() -> None:
    assert percentiles(np.arange(101.0)) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == {"p25": 2.0, "p50": 3.0, "p75": 4.0}


def test_a_configuration_changes_what_it_names() -> None:
    base = Config(precision="fp32", threads=2)
    assert Config.parse("precision=int8+threads=1", base) == Config(precision="int8", threads=1)
    assert Config.parse("preset=quality", base) == Config(precision="fp32", preset="quality", threads=2)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("speed=high", "'speed=high'"), ("fp32", "'fp32'"), ("threads=two", "'two' threads")],
)
def test_a_configuration_that_means_nothing_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(DiamondError, match=complaint):
        Config.parse(text, Config())


def test_this_machine_is_described() -> None:
    assert hardware()["cpu"]
    assert versions()["numpy"] == np.__version__
    assert 10**7 < resident_bytes() <= peak_memory_bytes() * 1.1


def test_the_last_line_is_the_report(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks" / "latency.py"), "freedoom", "--frames", "8"),
            *("--warmup", "1", "--threads", "1", "--compare", "threads=1,preset=quality"),
            *("--json", str(tmp_path / "report.json")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report == json.loads((tmp_path / "report.json").read_text())
    run = report["run"]
    assert run["layers"]["denoiser"]["Conv fp32"] == 90
    assert run["evaluations"] == {"denoiser": 2, "upsampler": 1}
    stages = run["stages_ms_p50"]
    assert set(stages) == {"conditioner", "denoiser", "upsampler", "other"}
    assert 0.5 < sum(stages.values()) / run["frame_ms"]["p50"] < 1.5
    assert run["roofline"]["times_roofline"] > 0.5
    first, second = report["compare"]
    assert first["ratio"] == {"p25": 1.0, "p50": 1.0, "p75": 1.0}
    assert second["config"] == {"preset": "quality", "threads": 1}
    assert second["ratio"]["p50"] < 0.8, "twice the denoiser's steps, three times the upsampler's"
    assert "| freedoom fp32 fast |" in done.stdout


def test_it_runs_from_anywhere_and_names_the_extra_that_it_lacks(tmp_path: Path) -> None:
    """In an environment where this checkout is not installed, and without the exporter's libraries."""
    code = f"""
import runpy, sys
sys.path[:] = [path for path in sys.path if path not in ("", {str(ROOT)!r})]
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
sys.modules["onnx"] = None
sys.argv[1:] = ["freedoom", "--frames", "1"]
runpy.run_path({str(ROOT / "benchmarks" / "latency.py")!r}, run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "[export]" in done.stderr
    assert "Traceback" not in done.stderr


def test_random_weights_are_for_the_published_architecture() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "latency.py"), "freedoom", "--random-weights"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 2
    assert "--random-weights with csgo" in done.stderr
