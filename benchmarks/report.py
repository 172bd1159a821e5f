"""A latency report in words: one row a subject, then a table to paste into an issue. Plain data in."""

from collections.abc import Mapping
from typing import Any

from benchmarks.playing import spread_text

Report = Mapping[str, Any]


def rows(report: Report) -> list[tuple[str, str]]:
    """One row a subject: its name, and what there is to say."""
    run, hardware, load = report["run"], report["hardware"], report["load"]
    frame, start = run["frame_ms"], run["start"]
    stages = ", ".join(f"{name} {value:.2f}" for name, value in run["stages_ms_p50"].items() if value)
    busy = ": BUSY, others compute here; trust ratios, not milliseconds" if load["busy"] else ""
    steps = ", ".join(f"{name} {count}" for name, count in run["evaluations"].items())
    return [
        ("hardware", f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gb']} GB, "
                     f"{' '.join(hardware['instructions'])}"),
        *[("gpu", gpu) for gpu in hardware["gpus"]],
        ("load", f"{load['busy_cores']} cores at work beside this one, load average {load['load_average']}{busy}"),
        ("versions", ", ".join(f"{name} {value}" for name, value in report["versions"].items())),
        ("runs on", run["runs_on"]),
        *([("weights", run["made_by"])] if run["made_by"] else []),
        ("layers", run.get("not_counted") or layers_in_words(run)),
        ("preset", f"{run['preset']}; evaluations a frame: {steps}"),
        ("start", f"{start['shown_s']} s to the first frame, {start['painted_s']} s to the first painted one; "
                  f"warm-up {run['warm_up_ms']} ms"),
        ("memory", f"{start['peak_memory_mb']} MB at the peak, in a process of its own"),
        ("frame_ms", f"p50 {frame['p50']}, p95 {frame['p95']}, p99 {frame['p99']} over {run['frames']} frames"),
        ("fps", f"{run['fps']}"),
        ("stages", f"{stages} ms (p50); other: histories, pixels, checks; "
                   f"{run['outside_networks']:.1%} of the time is outside the networks"),
        ("roofline", run.get("not_counted") or _roofline(run["roofline"])),
    ]  # fmt: skip


def layers_in_words(run: Mapping[str, Any]) -> str:
    """Types of the networks' layers in the files; where a backend computes in another precision than theirs, which."""
    layers = "; ".join(
        f"{role}: " + ", ".join(f"{count} {name}" for name, count in types.items())
        for role, types in run["layers"].items()
        if not role.endswith("conditioner")
    )
    same = run.get("graphs_precision", run["precision"]) == run["precision"]
    return layers if same else f"computed in {run['precision']} from: {layers}"


def _roofline(roofline: Mapping[str, Any]) -> str:
    return (
        f"{roofline['gflop']} GFLOP and {roofline['weights_mb']} MB of weights a frame; measured here and now on "
        f"{roofline['threads']} threads: {roofline['peak_gflop_s']} GFLOP/s (fp32 product in ONNX Runtime), "
        f"{roofline['peak_gb_s']} GB/s (copy); {roofline['least_ms']} ms at least, computed directly, "
        f"{roofline['times_roofline']} times that taken. All other nodes move {roofline['rest_mb']} MB, "
        f"{roofline['rest_ms']} ms if none were fused or cached"
    )


def table(report: Report) -> str:
    """Markdown, to paste into an issue."""
    run = report["run"]
    lines = [
        "| what | frame_ms p50 | p95 | p99 | fps | times as fast (quartiles) |",
        "|---|---|---|---|---|---|",
    ]
    lines.append(_line(f"{run['world']} {run['precision']} {run['preset']}", run, ""))
    for index, other in enumerate(report.get("compare", [])):
        ratio = spread_text(other["ratio"]) if index else "1"
        lines.append(_line(f"in turns: {other['config']}", other, ratio))
    for mode, result in report.get("reference", {}).items():
        lines += [
            f"| in turns: the original, {mode}, PyTorch {result['torch']}, {result['device']} "
            f"| {result['original_ms_p50']} | | | | 1 |",
            f"| in turns: ours | {result['ours_ms_p50']} | | | | {spread_text(result['ratio_by_block'])} |",
        ]
    return "\n".join([*lines, *_same_frames(report)])


def _line(name: str, figures: Mapping[str, Any], ratio: str) -> str:
    ms = figures["frame_ms"]
    return f"| {name} | {ms['p50']} | {ms['p95']} | {ms['p99']} | {figures['fps']} | {ratio} |"


def _same_frames(report: Report) -> list[str]:
    result = report.get("reference", {}).get("eager")
    if result is None:
        return []
    worst = "" if result["psnr_db_worst"] is None else f", the worst at {result['psnr_db_worst']} dB"
    return [
        "",
        f"{result['frames_compared']} frames of the original and of ours, from the same weights, spawn, actions and "
        f"draws, compared: {result['frames_identical']} identical{worst}.",
    ]
