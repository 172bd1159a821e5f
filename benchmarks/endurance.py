"""Whether a world stays a place: long rollouts from every spawn under scripted play, watched frame by frame.

    python benchmarks/endurance.py                             1,000 frames from every spawn of the embedded world
    python benchmarks/endurance.py WORLD --data RECORDINGS --sheet endurance.png --json benchmarks/results/MACHINE.json
    python benchmarks/endurance.py WORLD --data RECORDINGS --blind RECORDINGS    beside a player who sees nothing
    python benchmarks/endurance.py --data RECORDINGS --game                      beside the game under the same scripts

`benchmarks/wandering.py` plays; from every spawn another script, drawn from one seed. `benchmarks/detectors.py` says
what counts as frozen, flat, mush and off colour, with limits from the held-out recordings under `--data`, else from the
spawns. Recordings of a player who does not look where it goes, under `--blind`, are judged by the same limits: so much
of the game itself is flat for who walks into walls. With `--game` the game is led back to the frames that the spawns
are from and plays the very same scripts (`benchmarks/in_the_game.py`; needs ViZDoom, and the recordings of this world).
`benchmarks/bends.py` says how straight lines are, in imagined and in real frames. The sheet has a row a spawn, and in
it the frames 0, 16, 64, 125, 250, 500, 750 and 1000. A weapon that stays a weapon is for eyes: look at the sheet.
"""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, wherever it is started from

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    world: Annotated[str, typer.Argument(help="name of a world, or the directory of one")] = "freedoom",
    data: Annotated[
        Path | None, typer.Option(help="recordings, whose held-out frames set the limits")
    ] = None,
    blind: Annotated[
        Path | None, typer.Option(help="recordings of blind players, judged by the same limits")
    ] = None,
    game: Annotated[
        bool, typer.Option("--game", help="play the same scripts in the recorded game, too; needs --data")
    ] = False,
    frames: Annotated[int, typer.Option(min=1, help="of each rollout")] = 1000,
    spawns: Annotated[int | None, typer.Option(min=1, help="so many only; default: all")] = None,
    backend: Annotated[str, typer.Option(help="what runs it")] = "auto",
    precision: Annotated[str | None, typer.Option(help="of the graphs")] = None,
    preset: Annotated[str | None, typer.Option(help="sampler settings")] = None,
    steps: Annotated[str | None, typer.Option(help="N or N/M: of denoiser and upsampler")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads", min=1)] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the script and of the noise")] = 0,
    sheet: Annotated[Path | None, typer.Option(help="picture: a row a spawn")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="keep the report in this file, one a machine")
    ] = None,
) -> None:
    """Play long from every spawn, and watch."""
    from benchmarks import machine
    from benchmarks.configuration import Config
    from benchmarks.detectors import Log
    from benchmarks.long_play import endure, filled, line, lines, reference, summary, totals, watch
    from benchmarks.progress import say
    from benchmarks.results import keep
    from benchmarks.sheets import write_sheet
    from benchmarks.worlds import find_world
    from engine.bundle import Bundle
    from engine.errors import DiamondError

    if game and data is None:
        raise DiamondError("--game: no recordings", "what the spawns are from", "name them with --data")
    config = Config(backend, precision, preset, threads, steps)
    path = find_world(world)
    around, began = machine.circumstances("endurance"), time.perf_counter()
    bundle = Bundle.open(path)
    limits, real = reference(bundle, data, say)
    walked_blind = watch(bundle, blind, limits) if blind is not None else []
    count = len(bundle.manifest.spawns)
    chosen = range(min(spawns or count, count))
    in_game: list[Log] = []
    if game and data is not None:
        from benchmarks.in_the_game import play_in_the_game

        in_game = play_in_the_game(bundle, data, chosen, frames, limits, seed, say)
    with config.load(path, seed=seed) as loaded:
        print(f"{loaded.describe()}; preset {loaded.preset}; limits from {limits.source}\n")
        rollouts = []
        for spawn in chosen:
            rollouts.append(endure(loaded, spawn, frames, limits, seed))
            print(line(rollouts[-1]), flush=True)
        report: dict[str, Any] = {
            **around,
            "world": loaded.name,
            "config": config.label,
            "made_by": dict(loaded.manifest.made_by),
            "runs_on": loaded.describe(),
            "preset": loaded.preset,
            "seed": seed,
            "frames": frames,
            "limits": limits.to_json(),
            "imagined": totals([rollout.log for rollout in rollouts]),
            "real": totals(real) if real else None,
            "game": totals(in_game) if in_game else None,
            "blind": totals(walked_blind) if walked_blind else None,
            "bends": {
                "imagined": lines([rollout.log for rollout in rollouts]),
                "real": lines(real) if real else None,
                "game": lines(in_game) if in_game else None,
                "blind": lines(walked_blind) if walked_blind else None,
            },
            "spawns": [rollout.to_json() for rollout in rollouts],
        }
    report["seconds"] = round(time.perf_counter() - began, 1)
    print()
    names = {
        "imagined": "imagined",
        "real": "real play, the control",
        "game": "the game under the same scripts",
        "blind": "real play of the blind",
    }
    for key, words in names.items():
        if report[key]:
            print(summary(words, report[key], report["bends"][key]))
    if json_file is not None:
        keep(report, json_file)
    if sheet is not None:
        write_sheet(sheet, filled([rollout.sheet for rollout in rollouts]))
    print(json.dumps(report))


def main() -> None:
    """The command line."""
    from engine.errors import run_cli

    run_cli(app, extra="train")


if __name__ == "__main__":
    main()
