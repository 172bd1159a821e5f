"""A quality report in words: one configuration by horizon, several as one table. Plain data in, Markdown out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]
DIGITS = {"psnr": 1, "ssim": 3, "sharpness": 2, "bend_px": 2}
NAMES = {"psnr": "PSNR", "ssim": "SSIM", "sharpness": "sharpness", "bend_px": "lines, px in 64"}


def lines(report: Report) -> Iterator[str]:
    """The report for people, the tables ready to paste."""
    busy = ", BUSY: others compute here; trust ratios" if report["load"]["busy"] else ""
    yield f"{report['hardware']['cpu']}, {report['hardware']['cores']} cores{busy}"
    yield f"{report['segments']} starts in {report['episodes']} held-out episodes, seed {report['seed']}\n"
    if len(report["rows"]) > 1:
        yield frontier_table(report)
        yield f"\n{noise_in_words(report)}\n"
        return
    yield report["rows"][0]["runs_on"] + "\n"
    yield from horizon_table(report)
    if report["turning"]:
        yield f"\n{turning_in_words(report['turning'])}"
    yield f"\nmedian frame_ms {report['rows'][0]['frame_ms']['p50']}\n"


def horizon_table(report: Report) -> Iterator[str]:
    """One configuration and the baselines: a row a horizon and kind of picture."""
    yield "| frames ahead | | PSNR dB | SSIM | sharpness | lines, px in 64 | low-res PSNR | low-res SSIM |"
    yield "|---|---|---|---|---|---|---|---|"
    (row,) = report["rows"]
    for index, horizon in enumerate(report["horizons"]):
        for name, horizons in [("imagined", row["horizons"]), *_baselines(report)]:
            figures = horizons[index]
            low_res = [_figure(figures, name) for name in ("psnr_low_res", "ssim_low_res")]
            cells = [_figure(figures, name) for name in NAMES] + low_res
            yield f"| {horizon} | {name} | {' | '.join(cells)} |"


def frontier_table(report: Report) -> str:
    """Several configurations and the baselines: a row each, figures at every horizon."""
    at = " · ".join(map(str, report["horizons"]))
    found = [
        f"| configuration | runs | frame_ms p50 | fps | PSNR dB at {at} | SSIM | sharpness | lines, px in 64 "
        f"| balance at {report['judged_at']} | frontier |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        runs = f"{row['precision']}, {steps_in_words(row)}"
        cells = _cells(row["horizons"])
        cells += [f"{row['balance']:.2f}", "yes" if row["frontier"] else ""]
        found.append(
            f"| `{row['config']}` | {runs} | {row['frame_ms']['p50']} | {row['fps']} | {' | '.join(cells)} |"
        )
    for name, horizons in _baselines(report):
        found.append(f"| {name} | | | | {' | '.join(_cells(horizons))} | | |")
    return "\n".join(found)


def noise_in_words(report: Report) -> str:
    """How large a difference between two rows must be to say anything."""
    units = {
        "psnr": " dB in PSNR",
        "ssim": " in SSIM",
        "sharpness": " in sharpness",
        "bend_px": " px in lines",
    }
    largest = []
    for name, unit in units.items():
        found = [row["difference"][name]["error"] for row in report["rows"][1:] if name in row["difference"]]
        if None in found:
            return "From a single start nothing can be said about noise."
        if found:
            largest.append(f"{max(found):.{DIGITS[name]}f}{unit}")
    return (
        f"Standard errors of the differences from the first row, at {report['judged_at']} frames: up to "
        f"{', '.join(largest)}."
    )


def turning_in_words(turn: Mapping[str, float]) -> str:
    """Whether it obeys, see `benchmarks.turning.turning`."""
    return (
        f"Turning by {turn['mouse_units']} mouse units a frame moves the low-res picture by "
        f"{turn['shift_turning_left']:+.2f} px (left) and {turn['shift_turning_right']:+.2f} px (right) a frame, "
        f"opposite ways from {turn['opposite_fraction']:.0%} of the starts."
    )


def steps_in_words(row: Mapping[str, Any]) -> str:
    """2 + 1: steps of denoiser and upsampler."""
    return " + ".join(str(sampler["steps"]) for sampler in row["samplers"].values())


def _baselines(report: Report) -> list[tuple[str, Sequence[Mapping[str, float]]]]:
    return [(base["name"], base["horizons"]) for base in report["baselines"]]


def _cells(horizons: Sequence[Mapping[str, float]]) -> list[str]:
    rows = [[_figure(figures, name) for figures in horizons] for name in NAMES]
    return [" · ".join(text or "-" for text in row) if any(row) else "" for row in rows]


def _figure(figures: Mapping[str, float], name: str) -> str:
    digits = DIGITS[name.removesuffix("_low_res")]
    return f"{figures[name]:.{digits}f}" if name in figures else ""
