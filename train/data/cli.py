"""`diamond-data`: record and check training data. Parses, builds one config, calls one function."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from tqdm import tqdm

from engine.errors import DiamondError, run_cli
from train.data.container import write_atomically

if TYPE_CHECKING:
    from train.data.arena import Monsters
    from train.data.report import Stats

BROKEN_SHOWN = 20

app = typer.Typer(
    name="diamond-data",
    help="Record and check training data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
record_app = typer.Typer(help="Record a game that this project can drive.", no_args_is_help=True)
app.add_typer(record_app, name="record")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of recordings.")]


@record_app.command("freedoom")
def record_freedoom(
    out: Annotated[Path, typer.Option(help="Folder to record into; the same recording is continued.")],
    episodes: Annotated[int, typer.Option(help="How many episodes the folder shall hold.")] = 120,
    frames: Annotated[int, typer.Option(help="Frames an episode, 17.5 a second.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes recording at once.")] = os.cpu_count() or 1,
    test_fraction: Annotated[float, typer.Option(help="Share of episodes held out under test/.")] = 0.1,
    monsters: Annotated[str, typer.Option(help="none, few or many.")] = "few",
    blind: Annotated[float, typer.Option(help="Share of episodes whose player walks into walls.")] = 0.0,
) -> None:
    """Record a court in Freedoom with a scripted player (needs vizdoom)."""
    from train.data.record import RecordConfig, record

    config = RecordConfig(
        out.absolute(), episodes, frames, seed, workers, test_fraction, cast("Monsters", monsters), blind
    )
    with tqdm(total=episodes * frames, unit=" frames", unit_scale=True, desc=out.name) as bar:

        def show(done: int, kept: int) -> None:
            bar.initial, bar.n = kept * frames, done * frames
            bar.refresh()

        report = record(config, show)
    print(f"{out}: {report.recorded} episodes recorded, {report.kept} kept from before.")
    if report.interrupted:
        print("Stopped early; every file is whole. The same command records the rest.")
        raise KeyboardInterrupt


@app.command("validate")
def validate_folder(folder: Folder) -> None:
    """Read every file whole, and list those that are broken (exit code 2 if there are any)."""
    from train.data.report import validate

    with tqdm(unit=" episodes", desc=folder.name) as bar:

        def show(done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.refresh()

        result = validate(folder, show)
    if result.broken:
        shown = [f"  {path}: {reason}" for path, reason in result.broken[:BROKEN_SHOWN]]
        if len(result.broken) > BROKEN_SHOWN:
            shown.append(f"  and {len(result.broken) - BROKEN_SHOWN} more")
        total = result.episodes + len(result.broken)
        raise DiamondError(
            "\n".join([f"{len(result.broken)} of {total} episodes are broken:", *shown]),
            expected="whole episodes that agree with dataset.json",
            fix="Delete these files; running the same recording again makes them anew",
        )
    print(f"{folder}: {result.episodes} episodes, {result.frames} frames, all whole.")


@app.command("stats")
def show_stats(
    folder: Folder,
    sheet: Annotated[Path | None, typer.Option(help="Where to write a contact sheet, as PNG.")] = None,
) -> None:
    """Count episodes, hours, keys and mouse bins; write a contact sheet."""
    from train.data.report import contact_sheet, stats

    print(_describe(folder, stats(folder)))
    if sheet is not None:
        picture, png = contact_sheet(folder), io.BytesIO()
        picture.save(png, "PNG")
        write_atomically(sheet, [png.getvalue()])
        print(f"contact sheet: {sheet}, {picture.width}x{picture.height}")


def _describe(folder: Path, result: Stats) -> str:
    size_gb = result.size_bytes / 1e9
    lines = [
        f"{folder}: {result.episodes['train']} training and {result.episodes['test']} test episodes",
        f"{result.frames} frames, {result.hours:.2f} hours at {result.fps} fps, {size_gb:.2f} GB",
        f"idle {result.idle:.2%} of the frames, mean brightness {result.brightness:.0f} of 255",
        *(f"  {name:14} {share:8.3%}" for name, share in result.shares.items()),
        *(f"  skipped, not readable: {path}" for path in result.skipped),
    ]
    return "\n".join(lines)


def main() -> None:
    """The console entry point."""
    run_cli(app, extra="doom")


if __name__ == "__main__":
    main()
