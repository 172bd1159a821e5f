"""A report of obedience in words: Markdown ready to paste. Plain data in, lines out."""

from collections.abc import Iterator, Mapping
from typing import Any

Report = Mapping[str, Any]


def lines(report: Report) -> Iterator[str]:
    """The report for people."""
    yield f"{report['runs_on']}; preset {report['preset']}"
    yield (
        f"{report['episodes']} held-out episodes, {report['starts']} starts of {report['frames']} frames, "
        f"seed {report['seed']}\n"
    )
    yield from table(report)
    if report["return_view"]:
        yield ""
        yield from return_table(report)
    yield f"\n{report['seconds']} s\n"


def table(report: Report) -> Iterator[str]:
    """A row an intent: balanced accuracies, and how much of the real one is left."""
    yield "| | chance | real, held out | real, same starts | true actions | of real | script | of real |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, real in report["real"].items():
        cells = [
            _percent(real["chance"]),
            _percent(real["accuracy"]),
            _percent(report["real_same_starts"][name]["accuracy"]),
            _percent(report["imagined_true"][name]["accuracy"]),
            _percent(report["ratio_true"][name]),
            _percent(report["imagined_scripted"][name]["accuracy"]),
            _percent(report["ratio_scripted"][name]),
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def return_table(report: Report) -> Iterator[str]:
    """A row for every number of frames that a turn away lasts: PSNR in dB and SSIM of the views, see `return_view`."""
    yield "| frames away and back | away | returned | idled | elsewhere | kept (SSIM) |\n|---|---|---|---|---|---|"
    for row in report["return_view"]:
        cells = [f"{row['psnr'][view]:.1f} dB, {row['ssim'][view]:.3f}" for view in row["psnr"]]
        yield f"| {row['frames']} + {row['frames']} | {' | '.join(cells)} | {_percent(row['kept']['ssim'])} |"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
