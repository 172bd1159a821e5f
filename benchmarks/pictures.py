"""From kept reports to what people look at: rows of Markdown, and panels to plot. Plain data in, no files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.playing import spread_text
from benchmarks.svg import Line, Panel

Report = Mapping[str, Any]
Machine = Mapping[str, Any]


def latency_table(machines: Sequence[Machine]) -> str:
    """Every kept latency report, machine by machine, with the commands that measured them."""
    lines: list[str] = []
    for machine in machines:
        reports = [report for report in machine["reports"] if report["benchmark"] == "latency"]
        if not reports:
            continue
        lines += [
            f"{hardware_in_words(machine['machine'])}:",
            "",
            "| world | preset, evaluations | runs on | frame_ms p50 | p95 | p99 | fps | start | memory |",
            "|---|---|---|---|---|---|---|---|---|",
            *[_run_row(report["run"]) for report in reports],
            "",
        ]
        if in_turns := [row for report in reports for row in _turn_rows(report)]:
            lines += [
                "In turns, in one run: how many times as fast as the first of each, with quartiles over blocks.",
                "",
                "| world | what | frame_ms p50 | times as fast |",
                "|---|---|---|---|",
                *in_turns,
                "",
            ]
        lines += ["Measured with:", "", "```sh", *[command_in_words(report) for report in reports], "```", ""]
    return "\n".join(lines).rstrip()


def scaling_panels(machines: Sequence[Machine]) -> Iterator[tuple[str, list[Panel], str]]:
    """For every kept scaling report: a name for its file, its panels and its caption."""
    for machine in machines:
        for report in machine["reports"]:
            if report["benchmark"] == "scaling":
                caption = f"{report['runs_on'].partition(' (')[0]}; {hardware_in_words(machine['machine'])}"
                yield f"{machine['name']}-{report['world']}", _panels(report), caption


def hardware_in_words(machine: Mapping[str, Any]) -> str:
    """Processor, cores, memory, GPUs."""
    gpus = "".join(f", {gpu}" for gpu in machine.get("gpus", []))
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB{gpus}"


def _run_row(run: Report) -> str:
    steps = " + ".join(str(count) for count in run["evaluations"].values())
    runtime = run["runs_on"].partition(" on ")[2].partition(" (picked")[0].partition(" (asked")[0]
    ms, start = run["frame_ms"], run["start"]
    return (
        f"| {run['world']} {run['precision']} | {run['preset']}, {steps} | {runtime} | {ms['p50']} | {ms['p95']} "
        f"| {ms['p99']} | {run['fps']} | {start['shown_s']} s | {start['peak_memory_mb']:.0f} MB |"
    )


def _turn_rows(report: Report) -> Iterator[str]:
    world = report["world"]
    for index, other in enumerate(report.get("compare", [])):
        ratio = spread_text(other["ratio"]) if index else "1"
        yield f"| {world} | {other['config']} | {other['frame_ms']['p50']} | {ratio} |"
    for mode, result in report.get("reference", {}).items():
        original = f"the original, {mode}, PyTorch {result['torch']}, {report['run']['preset']}"
        yield f"| {world} | {original} | {result['original_ms_p50']} | 1 |"
        runtime = report["run"]["runs_on"].split(" on ", 1)[1].split(",", 1)[0]
        ours = f"here, {report['run']['precision']}, {runtime}"
        yield f"| {world} | {ours} | {result['ours_ms_p50']} | {spread_text(result['ratio_by_block'])} |"


def command_in_words(report: Report) -> str:
    """What measured a report, when, and whether it was disturbed: a line of a shell block."""
    busy = ", while others computed there" if report["load"]["busy"] else ""
    return f"{report['command']}   # {report['date']}{busy}"


def _panels(report: Report) -> list[Panel]:
    measured = [(row["threads"], 1e3 / row["frame_ms"]["p50"]) for row in report["threads"]]
    lines = [Line("measured", measured)]
    if report["expected"] is not None:
        computed = [(int(count), 1e3 / ms) for count, ms in report["expected"]["frame_ms"].items()]
        lines.append(Line("computed: Amdahl's law", computed, dashed=True))
    counts = sorted({x for line in lines for x, _ in line.points})
    panels = [Panel(f"Threads, preset {report['preset']}", "threads", "fps", lines, x_ticks=counts)]
    networks = dict.fromkeys(row["network"] for row in report["steps"])
    steps = [
        Line(name, [(r["steps"], r["frame_ms"]["p50"]) for r in report["steps"] if r["network"] == name])
        for name in networks
    ]
    counts = sorted({x for line in steps for x, _ in line.points})
    panels.append(
        Panel("Steps of one network, the other at one", "steps", "frame_ms p50", steps, x_ticks=counts)
    )
    if report["sizes"]:
        sizes = [(row["shown"][0] * row["shown"][1] / 1e3, row["frame_ms"]["p50"]) for row in report["sizes"]]
        line = Line("measured, random weights", sizes)
        panels.append(Panel("Frame size, one step each", "thousand pixels shown", "frame_ms p50", [line]))
    return panels
