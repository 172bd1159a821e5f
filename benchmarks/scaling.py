"""How the time of a frame grows: with threads, with sampler steps, with the size of the frame.

    python benchmarks/scaling.py                                     the embedded world
    python benchmarks/scaling.py csgo --random-weights --frames 8 --no-sizes
    python benchmarks/scaling.py --json benchmarks/results/MACHINE.json

All settings of one kind take turns in one run. What more threads than this machine has would give is computed, not
measured (`benchmarks/amdahl.py`), and is labelled so. Other frame sizes are worlds of the embedded world's
architecture with random weights, made now and kept: the time does not depend on the weights.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, wherever it is started from

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    world: Annotated[str, typer.Argument(help="name of a world, or the directory of one")] = "freedoom",
    backend: Annotated[str, typer.Option(help="what runs it")] = "auto",
    precision: Annotated[str | None, typer.Option(help="of the graphs")] = None,
    preset: Annotated[str | None, typer.Option(help="sampler settings")] = None,
    frames: Annotated[int, typer.Option(help="frames of every setting", min=8)] = 80,
    threads: Annotated[str, typer.Option(help="numbers of threads, with commas; default: 1, 2, 4 ...")] = "",
    steps: Annotated[str, typer.Option(help="numbers of sampler steps, with commas")] = "1,2,3,5,7,10",
    sizes: Annotated[str, typer.Option(help="low-res frame sizes, with commas")] = "16x28,30x56,44x84,60x112",
    no_sizes: Annotated[
        bool, typer.Option("--no-sizes", help="leave the sizes out: no PyTorch needed")
    ] = False,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="csgo: the published architecture, weights made here")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="keep the report in this file, one a machine")
    ] = None,
) -> None:
    """Measure how a frame's time scales."""
    from benchmarks import machine
    from benchmarks.configuration import Config
    from benchmarks.growth import numbers, rows, with_sizes, with_steps, with_threads
    from benchmarks.progress import say
    from benchmarks.results import keep
    from benchmarks.worlds import find_world

    base = Config(backend, precision, preset)
    counts = numbers("--threads", threads) or [n for n in (1, 2, 4, 8, 16, 32) if n <= machine.cores()]
    step_counts = numbers("--steps", steps)
    path = find_world(world, random_weights)
    report: dict[str, Any] = {
        **machine.circumstances("scaling"),
        "config": base.label,
    }
    report |= with_threads(path, base, counts, frames, say)
    report["steps"] = with_steps(path, base, step_counts, frames, say)
    report["sizes"] = [] if no_sizes else with_sizes(sizes.split(","), base, frames, say)
    for line in rows(report):
        print(line)
    if json_file is not None:
        keep(report, json_file)
    print(json.dumps(report))


def main() -> None:
    """The command line."""
    from engine.errors import run_cli

    run_cli(app, extra="export")


if __name__ == "__main__":
    main()
