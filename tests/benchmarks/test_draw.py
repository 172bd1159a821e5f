"""The README's table and the plots hold what the kept reports say, and nothing else."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks.draw import BEGIN, END, draw, put
from benchmarks.pictures import latency_table, scaling_panels
from benchmarks.results import keep
from benchmarks.svg import Line, Panel, ticks
from benchmarks.svg import draw as draw_svg
from engine.errors import DiamondError

HARDWARE = {"cpu": "Abacus <9>", "cores": 2, "memory_gb": 1.5, "gpus": []}


def report(benchmark: str, **more: Any) -> dict[str, Any]:
    return {
        "benchmark": benchmark,
        "world": "tiny",
        "config": "defaults",
        "hardware": HARDWARE,
        "command": f"python benchmarks/{benchmark}.py",
        "date": "2026-01-31",
        "load": {"load_average": 0.1, "busy": False},
        **more,
    }


def figures(p50: float) -> dict[str, Any]:
    return {"frame_ms": {"p50": p50, "p95": p50 + 1, "p99": p50 + 2}, "fps": round(1e3 / p50, 1)}


def spread(ratio: float) -> dict[str, float]:
    return {"p25": ratio - 0.1, "p50": ratio, "p75": ratio + 0.1}


LATENCY = report(
    "latency",
    run={
        **figures(50.0),
        "world": "tiny",
        "precision": "fp32",
        "preset": "fast",
        "evaluations": {"denoiser": 2, "upsampler": 1},
        "runs_on": "tiny: fp32 on Runtime 1, CPU, 2 threads (picked by auto: the first that runs here)",
        "start": {"shown_s": 0.5, "painted_s": 0.6, "peak_memory_mb": 180.4},
    },
    compare=[
        {"config": "threads=1", **figures(90.0), "ratio": spread(1)},
        {"config": "threads=2", **figures(50.0), "ratio": spread(1.8)},
    ],
    reference={
        "eager": {
            "torch": "2.13", "original_ms_p50": 200.0, "ours_ms_p50": 50.0, "ratio_by_block": spread(4.0),
        }
    },
)  # fmt: skip
SCALING = report(
    "scaling",
    runs_on="tiny: fp32 on Runtime 1, CPU, 2 threads (picked)",
    preset="fast",
    threads=[{"threads": 1, **figures(100.0)}, {"threads": 2, **figures(50.0)}],
    expected={"frame_ms": {"1": 100.0, "8": 20.0}},
    steps=[
        {"network": n, "steps": s, **figures(10.0 * s)} for n in ("denoiser", "upsampler") for s in (1, 2)
    ],
    sizes=[{"shown": [150, 280], **figures(50.0)}],
)


def machine(*reports: dict[str, Any]) -> dict[str, Any]:
    return {"name": "abacus", "machine": HARDWARE, "reports": list(reports)}


def test_the_table_names_the_machine_the_figures_and_the_command() -> None:
    table = latency_table([machine(LATENCY, SCALING)])
    assert "Abacus <9>, 2 cores, 1.5 GB:" in table
    row = (
        "| tiny fp32 | fast, 2 + 1 | Runtime 1, CPU, 2 threads | 50.0 | 51.0 | 52.0 | 20.0 | 0.5 s | 180 MB |"
    )
    assert row in table
    assert "| tiny | threads=2 | 50.0 | 1.80 (1.70 - 1.90) |" in table
    assert "| tiny | the original, eager, PyTorch 2.13, fast | 200.0 | 1 |" in table
    assert "| tiny | here | 50.0 | 4.00 (3.90 - 4.10) |" in table
    assert "python benchmarks/latency.py   # 2026-01-31\n" in table


def test_what_was_measured_on_a_busy_machine_says_so() -> None:
    busy = {**LATENCY, "load": {"load_average": 3.0, "busy": True}}
    assert "while others computed there" in latency_table([machine(busy)])


def test_computed_points_are_dashed_and_named() -> None:
    ((name, panels, caption),) = scaling_panels([machine(SCALING)])
    assert name == "abacus-tiny"
    assert caption == "tiny: fp32 on Runtime 1, CPU, 2 threads; Abacus <9>, 2 cores, 1.5 GB"
    assert len(panels) == 3
    measured, computed = panels[0].lines
    assert (list(measured.points), measured.dashed) == ([(1, 10.0), (2, 20.0)], False)
    assert (list(computed.points), computed.dashed) == ([(1, 10.0), (8, 50.0)], True)
    assert "computed" in computed.name


def test_a_plot_is_a_document_that_escapes_its_words() -> None:
    svg = draw_svg([Panel("a < b", "x", "y", [Line("l & m", [(1, 2), (3, 4)])])], "c > d")
    texts = [element.text for element in ET.fromstring(svg).iter() if element.text]
    assert {"a < b", "l & m", "c > d"} <= set(texts)


@pytest.mark.parametrize("most", [0.03, 1, 7, 9.99, 10, 240, 1234])
def test_ticks_are_few_round_and_reach_the_end(most: float) -> None:
    found = ticks(most)
    assert 4 <= len(found) <= 9
    assert found[0] == 0
    assert found[-2] < most <= found[-1] * (1 + 1e-9)


def test_the_table_goes_between_its_marks_and_nothing_else_changes(tmp_path: Path) -> None:
    results, readme, plot = tmp_path / "results", tmp_path / "README.md", tmp_path / "scaling.svg"
    results.mkdir()
    for one in (LATENCY, SCALING):
        keep(one, results / "abacus.json")
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        draw(results, readme, plot, only_print=False)
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\nAbacus")
    assert text.endswith(f"```\n{END}\nafter\n")
    assert "old" not in text
    ET.fromstring((tmp_path / "scaling-abacus-tiny.svg").read_text())


def test_a_page_without_marks_and_a_folder_without_reports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DiamondError, match="no place for the table"):
        put("no marks", "table", "README.md")
    with pytest.raises(DiamondError, match="no report is kept there"):
        draw(tmp_path, tmp_path / "README.md", tmp_path / "plot.svg", only_print=False)
