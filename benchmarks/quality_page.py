"""Kept quality reports as a section of a world's page, and as plots against time. Plain data in, no files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.pictures import Machine, Report, command_in_words, hardware_in_words
from benchmarks.quality_words import frontier_table, horizon_table, noise_in_words, turning_in_words
from benchmarks.svg import Line, Panel

AXES = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "sharpness": "Sharpness, 1 as recorded",
    "balance": "Balance of SSIM and sharpness",
}


def quality_section(machines: Sequence[Machine], world: str, media: str) -> str:
    """Every kept quality report of a world; `media` is the folder of the plots as the page names it."""
    parts: list[str] = []
    for machine in machines:
        reports = [report for report in _reports(machine) if report["world"] == world]
        for report in reports:
            starts = f"{report['segments']} starts in {report['episodes']} held-out episodes, seed {report['seed']}"
            parts.append(f"{starts}; {hardware_in_words(machine['machine'])}:")
            if _is_frontier(report):
                parts += [frontier_table(report), noise_in_words(report)]
                parts.append(f"![Quality against time]({media}/frontier-{_name(machine, report)}.svg)")
            else:
                parts += [report["rows"][0]["runs_on"], "\n".join(horizon_table(report))]
                parts += [turning_in_words(report["turning"])] if report["turning"] else []
        if reports:
            commands = "\n".join(command_in_words(report) for report in reports)
            parts += ["Measured with:", f"```sh\n{commands}\n```"]
    return "\n\n".join(parts)


def frontier_panels(machines: Sequence[Machine]) -> Iterator[tuple[str, list[Panel], str]]:
    """For every kept report of several configurations: a name for its file, its panels and its caption."""
    for machine in machines:
        for report in filter(_is_frontier, _reports(machine)):
            caption = (
                f"{report['world']}, {report['judged_at']} frames ahead, {report['segments']} held-out starts. "
                f"Numbers: denoiser steps. Filled: on the frontier. {hardware_in_words(machine['machine'])}"
            )
            panels = [
                Panel(title, "frame_ms p50", "", _series(report, name), y_from_zero=name == "sharpness")
                for name, title in AXES.items()
            ]
            yield _name(machine, report), panels, caption


def _reports(machine: Machine) -> list[Report]:
    return [report for report in machine["reports"] if report["benchmark"] == "quality"]


def _is_frontier(report: Report) -> bool:
    return len(report["rows"]) > 1


def _name(machine: Machine, report: Report) -> str:
    return f"{machine['name']}-{report['world']}"


def _series(report: Report, figure: str) -> list[Line]:
    """Rows that differ in the denoiser's steps alone make a line; others are single points, by precision."""
    groups: dict[str, list[Report]] = {}
    for row in report["rows"]:
        groups.setdefault(_all_but_denoiser_steps(row), []).append(row)
    lines: dict[tuple[str, bool], list[Report]] = {}
    for rows in groups.values():
        rows.sort(key=lambda row: row["samplers"]["denoiser"]["steps"])
        joined = len(rows) > 1
        lines.setdefault((_series_name(rows[0], joined), joined), []).extend(rows)
    at = report["horizons"].index(report["judged_at"])
    return [
        Line(
            name,
            [(row["frame_ms"]["p50"], _value(row, at, figure)) for row in rows],
            joined=joined,
            labels=[str(row["samplers"]["denoiser"]["steps"]) if joined else _chosen(row) for row in rows],
            hollow=[not row["frontier"] for row in rows],
        )
        for (name, joined), rows in lines.items()
    ]


def _value(row: Report, at: int, figure: str) -> float:
    return float(row[figure] if figure in row else row["horizons"][at][figure])


def _series_name(row: Report, joined: bool) -> str:
    if not joined:
        return f"{row['precision']} presets" if "preset=" in row["config"] else f"{row['precision']}, others"
    if (upsampler := row["samplers"].get("upsampler")) is None:
        return str(row["precision"])
    return f"{row['precision']}, upsampler steps: {upsampler['steps']}"


def _all_but_denoiser_steps(row: Report) -> str:
    samplers = row["samplers"]
    denoiser: Mapping[str, Any] = {**samplers["denoiser"], "steps": None}
    return json.dumps([row["precision"], denoiser, samplers.get("upsampler")], sort_keys=True)


def _chosen(row: Report) -> str:
    """What a configuration's label says beside the precision: "quality" of "precision=int8+preset=quality"."""
    parts = [part.partition("=") for part in row["config"].split("+")]
    return " ".join(value or name for name, _, value in parts if name != "precision")
