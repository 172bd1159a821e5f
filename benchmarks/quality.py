"""How close an imagined world stays to the recorded one, how sharp, how fast, and whether it obeys.

    python benchmarks/quality.py --data RECORDINGS                      the embedded world, one configuration
    python benchmarks/quality.py --data RECORDINGS --preset quality --sheet quality.png
    python benchmarks/quality.py --data RECORDINGS --compare preset=fast,steps=3/1,precision=int8+steps=3/1
    python benchmarks/quality.py --data RECORDINGS --frontier --json benchmarks/results/MACHINE.json

Held-out episodes are rolled out through the engine with their true actions. At each horizon the imagined frame is
compared with the recorded one: PSNR in dB, SSIM, and sharpness, the mean gradient relative to the recorded frames';
its lines are held to a ruler (`benchmarks/bends.py`). Two baselines need no network. PSNR alone misleads, a smear
scores well: so look at the sheet. Several configurations take turns, start by start. On the frontier are those that
no other beats in time and in balance, the harmonic mean of SSIM and sharpness (`benchmarks/frontier.py`).
"""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, wherever it is started from

if TYPE_CHECKING:
    from benchmarks.configuration import Config
    from engine.manifest import Manifest

SEGMENTS, SEGMENTS_EACH = (
    24,
    8,
)  # of one configuration; of each of several, which then take a quarter of an hour

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def quality(
    world: Annotated[str, typer.Argument(help="name of a world, or the directory of one")] = "freedoom",
    data: Annotated[Path, typer.Option(help="recordings with held-out episodes")] = Path("data"),
    segments: Annotated[
        int | None, typer.Option(min=1, help="rollouts; default: 24, of each of several configurations 8")
    ] = None,
    horizons: Annotated[str, typer.Option(help="frames ahead that are compared, with commas")] = "1,4,16,64",
    backend: Annotated[str, typer.Option(help="what runs it")] = "auto",
    precision: Annotated[str | None, typer.Option(help="of the graphs")] = None,
    preset: Annotated[str | None, typer.Option(help="sampler settings")] = None,
    steps: Annotated[str | None, typer.Option(help="N or N/M: of denoiser and upsampler")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; default: one a core", min=1)] = None,
    compare_with: Annotated[
        str | None,
        typer.Option(
            "--compare", help="configurations, with commas: preset=quality,precision=int8+steps=3/1,..."
        ),
    ] = None,
    frontier: Annotated[
        bool,
        typer.Option("--frontier", help="the presets, more and fewer steps, every precision that runs well"),
    ] = False,
    seed: Annotated[int, typer.Option(help="seeds the noise")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="keep the report in this file, one a machine")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(help="picture: true rows above imagined ones, every 8 frames; of several, one each"),
    ] = None,
) -> None:
    """Held-out quality, speed and obedience of a world."""
    from benchmarks import machine
    from benchmarks.configuration import Config
    from benchmarks.frontier import JUDGED_AT, entered, roll_out_in_turns, rows
    from benchmarks.growth import numbers
    from benchmarks.held_out import held_out, starts
    from benchmarks.progress import say
    from benchmarks.quality_words import lines
    from benchmarks.results import keep
    from benchmarks.rollouts import on_sheet
    from benchmarks.sheets import write_sheets
    from benchmarks.turning import turning
    from benchmarks.worlds import find_world
    from engine.bundle import Bundle
    from engine.errors import DiamondError

    began = time.perf_counter()
    ahead = numbers("--horizons", horizons)
    if not ahead:
        raise DiamondError("--horizons: none", "numbers from 1 on, with commas")
    if sheet is not None and not on_sheet(ahead):
        raise DiamondError(f"--sheet with --horizons {horizons}", "a horizon of 8 or more frames")
    path = find_world(world)
    manifest = Bundle.open(path).manifest
    configs = _configs(manifest, Config(backend, precision, preset, threads, steps), compare_with, frontier)
    several = len(configs) > 1
    episodes = held_out(data, manifest, max(ahead))
    found = starts(episodes, manifest.sizes, segments or (SEGMENTS_EACH if several else SEGMENTS), max(ahead))
    judged_at = JUDGED_AT if JUDGED_AT in ahead else max(ahead)
    report: dict[str, Any] = {
        **machine.circumstances("quality"),
        "world": manifest.name,
        "config": "frontier" if frontier else ", ".join(config.label for config in configs),
        "made_by": dict(manifest.made_by),
        "recordings": episodes[0].meta.world,
        "episodes": len(episodes),
        "segments": len(found),
        "seed": seed,
        "horizons": ahead,
        "judged_at": judged_at,
    }
    with entered(path, configs, seed, say) as entries:
        report["baselines"], recorded = roll_out_in_turns(entries, found, ahead, say)
        report["rows"] = rows(entries, judged_at)
        report["turning"] = None if several else turning(entries[0].prepare(), found)
    report["seconds"] = round(time.perf_counter() - began, 1)
    for line in lines(report):
        print(line)
    if json_file is not None:
        keep(report, json_file)
    if sheet is not None:
        write_sheets(sheet, recorded, entries)
    print(json.dumps(report))


def _configs(manifest: "Manifest", base: "Config", compared: str | None, frontier: bool) -> list["Config"]:
    """What is to be rolled out; every preset and number of steps is known to the world."""
    from benchmarks.configuration import Config
    from benchmarks.frontier import default_configs
    from benchmarks.progress import say
    from engine.errors import DiamondError

    if frontier and compared:
        raise DiamondError("--frontier and --compare", "one of the two")
    if frontier:
        return default_configs(manifest, base, say)
    configs = [Config.parse(text, base) for text in compared.split(",")] if compared else [base]
    for config in configs:
        config.samplers(manifest)
    return configs


def main() -> None:
    """The command line."""
    from engine.errors import run_cli

    run_cli(app, extra="train")


if __name__ == "__main__":
    main()
