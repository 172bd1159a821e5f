"""The tables of the pages and the plots hold what the kept reports say, and nothing else."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks.draw import BEGIN, END, draw, put
from benchmarks.pictures import latency_table, scaling_panels
from benchmarks.quality_page import frontier_panels, quality_section
from benchmarks.results import keep
from benchmarks.svg import COLOURS, Line, Panel, ticks
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


def quality_row(config: str, steps: tuple[int, int], p50: float, frontier: bool) -> dict[str, Any]:
    return {
        "config": config,
        "runs_on": "tiny: fp32 on Runtime 1",
        "precision": "int8" if "int8" in config else "fp32",
        "samplers": {
            name: {"steps": n} for name, n in zip(("denoiser", "upsampler"), steps, strict=True)
        },
        **figures(p50),
        "horizons": [
            {"horizon": 1, "psnr": 21.0, "ssim": 0.9, "sharpness": 0.5, "bend_px": 0.4}
            | {"psnr_low_res": 22.0, "ssim_low_res": 0.8},
            {"horizon": 16, "psnr": 15.0 + steps[0], "ssim": 0.5, "sharpness": 0.25, "bend_px": 0.6},
        ],
        "balance": 0.333,
        "frontier": frontier,
        "difference": {
            name: {"mean": 0.0, "error": error}
            for name, error in (("psnr", 0.42), ("ssim", 0.0123), ("sharpness", 0.05), ("bend_px", 0.07))
        },
    }  # fmt: skip


QUALITY = report(
    "quality",
    segments=8,
    episodes=12,
    seed=0,
    horizons=[1, 16],
    judged_at=16,
    baselines=[
        {
            "name": "the last real frame, copied",
            "horizons": [{"horizon": h, "psnr": 10.0, "ssim": 0.2, "sharpness": 1.0} for h in (1, 16)],
        }
    ],
    rows=[
        quality_row("precision=fp32+steps=2/1", (2, 1), 50.0, True),
        quality_row("precision=fp32+steps=1/1", (1, 1), 40.0, True),
        quality_row("precision=int8+preset=fast", (2, 1), 60.0, False),
    ],
    turning=None,
)
TURNING = {"mouse_units": 60, "shift_turning_left": 1.0, "shift_turning_right": -1.0, "opposite_fraction": 1}
ONE_QUALITY = {**QUALITY, "config": "one", "rows": QUALITY["rows"][:1], "turning": TURNING}


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
    assert "| tiny | here, fp32, Runtime 1 | 50.0 | 4.00 (3.90 - 4.10) |" in table
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


@pytest.mark.parametrize(("least", "most"), [(13.1, 15.9), (0.33, 0.51), (-1, 1), (7, 7), (0, 0)])
def test_ticks_that_need_not_begin_at_0_enclose_what_there_is(least: float, most: float) -> None:
    found = ticks(most, least)
    assert 2 <= len(found) <= 8
    assert found[0] <= least <= most <= found[-1]


def texts(svg: str, word: str) -> list[tuple[float, float, float]]:
    """Left, right and baseline of every text that is `word`; letters taken as 7 pixels wide."""
    found = [e for e in ET.fromstring(svg).iter() if e.tag.endswith("text") and e.text == word]
    return [(x := float(e.attrib["x"]), x + 7 * len(word), float(e.attrib["y"])) for e in found]


def test_words_beside_close_points_do_not_lie_on_each_other() -> None:
    points = [(10.0, 1.0), (10.1, 1.0), (10.2, 1.0)]
    lines = [Line(str(index), [point], joined=False, labels=["same"]) for index, point in enumerate(points)]
    found = texts(draw_svg([Panel("t", "x", "y", lines)], "c"), "same")
    assert len(found) == 3
    for index, (left, right, base) in enumerate(found):
        for other_left, other_right, other_base in found[:index]:
            assert right <= other_left or other_right <= left or abs(base - other_base) >= 12


def test_a_legend_that_all_panels_share_is_drawn_once_and_long_ones_take_rows() -> None:
    lines = [Line(f"a rather long name, {index}", [(1, 2), (3, 4)]) for index in range(4)]
    shared = draw_svg([Panel("one", "x", "y", lines), Panel("two", "x", "y", lines)], "c")
    rows = [texts(shared, line.name) for line in lines]
    assert [len(row) for row in rows] == [1, 1, 1, 1]
    assert len({base for ((_, _, base),) in rows}) == 2, "four names do not fit beside each other"
    width = float(ET.fromstring(shared).attrib["width"])
    assert max(right for ((_, right, _),) in rows) < width
    apart = draw_svg([Panel("one", "x", "y", lines), Panel("two", "x", "y", lines[:2])], "c")
    assert [len(texts(apart, line.name)) for line in lines] == [2, 2, 1, 1]


def test_panels_fill_rows_and_rings_are_hollow() -> None:
    line = Line("l", [(1, 2), (3, 4)], hollow=[True, False])
    svg = draw_svg([Panel(str(index), "x", "y", [line]) for index in range(3)], "c", columns=2)
    places = [e.attrib["transform"] for e in ET.fromstring(svg) if e.tag.endswith("g")]
    assert [place.partition(",")[0] for place in places[:3]] == [
        "translate(0",
        "translate(340",
        "translate(0",
    ]
    circles = [e.attrib["fill"] for e in ET.fromstring(svg).iter() if e.tag.endswith("circle")]
    assert circles == ["#fff", COLOURS[0]] * 3


def test_a_section_has_every_configuration_the_baselines_and_the_noise() -> None:
    section = quality_section([machine(LATENCY, ONE_QUALITY, QUALITY)], "tiny", "media")
    row = (
        "| `precision=fp32+steps=2/1` | fp32, 2 + 1 | 50.0 | 20.0 | 21.0 · 17.0 | 0.900 · 0.500 | 0.50 · 0.25 "
        "| 0.40 · 0.60 | 0.33 | yes |"
    )
    assert row in section
    assert (
        "| the last real frame, copied | | | | 10.0 · 10.0 | 0.200 · 0.200 | 1.00 · 1.00 |  | | |" in section
    )
    assert "up to 0.4 dB in PSNR, 0.012 in SSIM, 0.05 in sharpness, 0.07 px in lines." in section
    assert "(media/frontier-abacus-tiny.svg)" in section
    assert "| 1 | imagined | 21.0 | 0.900 | 0.50 | 0.40 | 22.0 | 0.800 |" in section, (
        "of one configuration, by horizon"
    )
    assert "opposite ways from 100% of the starts" in section
    assert section.count("python benchmarks/quality.py   # 2026-01-31") == 2
    assert quality_section([machine(LATENCY, QUALITY)], "another", "media") == ""


def test_rows_that_differ_in_the_denoisers_steps_make_a_line() -> None:
    ((name, panels, caption),) = frontier_panels([machine(ONE_QUALITY, QUALITY)])
    assert name == "abacus-tiny"
    assert "16 frames ahead, 8 held-out starts" in caption
    assert [panel.title.split(",")[0] for panel in panels[:3]] == ["PSNR", "SSIM", "Sharpness"]
    line, point = panels[0].lines
    assert (line.name, line.joined, list(line.labels)) == ("fp32, upsampler steps: 1", True, ["1", "2"])
    assert (list(line.points), list(line.hollow)) == ([(40.0, 16.0), (50.0, 17.0)], [False, False])
    assert (point.name, point.joined, list(point.labels)) == ("int8 presets", False, ["fast"])
    assert list(point.hollow) == [True]
    assert panels[3].lines[0].points[0] == (40.0, 0.333)


def test_the_tables_go_between_their_marks_and_nothing_else_changes(tmp_path: Path) -> None:
    results, readme, page, media = (tmp_path / name for name in ("results", "README.md", "tiny.md", "media"))
    results.mkdir()
    media.mkdir()
    for one in (LATENCY, SCALING, QUALITY):
        keep(one, results / "abacus.json")
    for file in (readme, page):
        file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        draw(results, readme, page, media, only_print=False)
    for file, first in ((readme, "Abacus"), (page, "8 starts in 12 held-out episodes")):
        text = file.read_text()
        assert text.startswith(f"before\n{BEGIN}\n{first}")
        assert text.endswith(f"```\n{END}\nafter\n")
        assert "old" not in text
    for kind in ("scaling", "frontier"):
        ET.fromstring((media / f"{kind}-abacus-tiny.svg").read_text())


def test_a_page_about_which_nothing_is_kept_is_left_alone(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("no marks, and no report that needs them")
    keep(SCALING, tmp_path / "abacus.json")
    draw(tmp_path, readme, tmp_path / "missing.md", tmp_path, only_print=False)
    assert readme.read_text() == "no marks, and no report that needs them"


def test_a_page_without_marks_and_a_folder_without_reports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DiamondError, match="no place for the table"):
        put("no marks", "table", "README.md")
    with pytest.raises(DiamondError, match="no report is kept there"):
        draw(tmp_path, tmp_path / "README.md", tmp_path / "tiny.md", tmp_path, only_print=False)
