"""Whether a world obeys: a probe that learned from the real game reads the player's intent back from imagined frames.

    python benchmarks/obedience.py --data RECORDINGS                   trains a probe, then asks it: some minutes
    python benchmarks/obedience.py WORLD --data RECORDINGS --probe FILE --json benchmarks/results/MACHINE.json

The probe (`benchmarks/inverse.py`) is trained on the recordings' train split, from a seed; with `--probe FILE` it is
kept there, and read from there the next time. It is asked about held-out real frames, about frames imagined from the
same starts with the same true actions, and about a script of every intent (`benchmarks/readback.py`). What counts is
the ratio to its accuracy on real frames. Then the views before and after looking away and back are compared
(`benchmarks/return_view.py`).
"""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, wherever it is started from

if TYPE_CHECKING:
    from benchmarks.inverse import Probe, ProbeConfig
    from engine.actions import ActionSpace

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    world: Annotated[str, typer.Argument(help="name of a world, or the directory of one")] = "freedoom",
    data: Annotated[Path, typer.Option(help="recordings, with held-out episodes")] = Path("data"),
    probe_file: Annotated[
        Path | None, typer.Option("--probe", help="keep the trained probe here; read it where it exists")
    ] = None,
    probe_steps: Annotated[int, typer.Option(min=1, help="of the probe's training")] = 2000,
    starts: Annotated[int, typer.Option("--starts", min=1, help="held-out moments to begin from")] = 24,
    frames: Annotated[int, typer.Option(min=8, help="of the true actions, from each start")] = 64,
    backend: Annotated[str, typer.Option(help="what runs the world")] = "auto",
    precision: Annotated[str | None, typer.Option(help="of the graphs")] = None,
    preset: Annotated[str | None, typer.Option(help="sampler settings")] = None,
    steps: Annotated[str | None, typer.Option(help="N or N/M: of denoiser and upsampler")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads, of the world", min=1)] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the probe, the script and the noise")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="keep the report in this file, one a machine")
    ] = None,
) -> None:
    """Read intents back from imagined frames."""
    from benchmarks import machine
    from benchmarks.configuration import Config
    from benchmarks.held_out import held_out
    from benchmarks.held_out import starts as spread
    from benchmarks.inverse import ProbeConfig
    from benchmarks.obedience_words import lines
    from benchmarks.progress import say
    from benchmarks.readback import (
        accuracies,
        confusions,
        open_starts,
        ratios,
        recorded,
        scripted_plays,
        true_plays,
    )
    from benchmarks.results import keep
    from benchmarks.return_view import return_views
    from benchmarks.worlds import find_world
    from engine.bundle import Bundle

    around, began = machine.circumstances("obedience"), time.perf_counter()
    config, path = Config(backend, precision, preset, threads, steps), find_world(world)
    manifest = Bundle.open(path).manifest
    space, sizes = manifest.action_space, manifest.sizes
    episodes = held_out(data, manifest, frames)
    probe = find_probe(data, space, ProbeConfig(probe_steps, seed=seed), probe_file)

    def read(clips: Any) -> dict[str, Any]:
        return accuracies(probe.heads, confusions(probe, space, clips))

    with config.load(path, seed=seed) as loaded:
        say(loaded.describe())
        real = read(recorded(episode) for episode in episodes)
        pairs = list(true_plays(loaded, spread(episodes, sizes, starts, frames), frames))
        ahead = open_starts(episodes, sizes, space, starts)
        same, true = read(one for one, _ in pairs), read(other for _, other in pairs)
        scripted = read(scripted_plays(loaded, ahead, seed))
        report: dict[str, Any] = {
            **around,
            "world": loaded.name,
            "config": config.label,
            "made_by": dict(manifest.made_by),
            "runs_on": loaded.describe(),
            "preset": loaded.preset,
            "seed": seed,
            "probe_steps": probe_steps,
            "episodes": len(episodes),
            "starts": len(pairs),
            "frames": frames,
            "real": real,
            "real_same_starts": same,
            "imagined_true": true,
            "imagined_scripted": scripted,
            "ratio_true": ratios(true, same),
            "ratio_scripted": ratios(scripted, real),
            "return_view": return_views(loaded, ahead, seed),
        }
    report["seconds"] = round(time.perf_counter() - began, 1)
    for line in lines(report):
        print(line)
    if json_file is not None:
        keep(report, json_file)
    print(json.dumps(report))


def find_probe(data: Path, space: "ActionSpace", config: "ProbeConfig", file: Path | None) -> "Probe":
    """The probe in `file`, or else a new one, kept there.

    Raises:
        DiamondError: no recordings to learn from, or the file holds another probe.
    """
    import torch

    from benchmarks.inverse import load_probe, save_probe, train_probe
    from benchmarks.progress import say
    from engine.errors import DiamondError
    from train.data.episode import Episode
    from train.data.folder import episode_paths

    paths = episode_paths(data, "train")
    if not paths:
        raise DiamondError(f"--data {data}: no episode to learn from", f"episodes in {data / 'train'}")
    if file is not None and file.exists():
        return load_probe(file, space, config, _about(data, paths, config))
    torch.set_num_threads(1)  # one seed gives one probe only on as many threads
    probe = train_probe([Episode(path) for path in paths], space, config, say)
    if file is not None:
        save_probe(file, probe, _about(data, paths, config))
    return probe


def _about(data: Path, paths: list[Path], config: "ProbeConfig") -> dict[str, Any]:
    """What a probe depends on: its settings, how the recordings were made, and which they are."""
    from dataclasses import asdict

    from train.data.folder import read_dataset_info

    return {
        "settings": asdict(config),
        "recordings": asdict(read_dataset_info(data)),
        "episodes": {path.name: path.stat().st_size for path in paths},
    }


def main() -> None:
    """The command line."""
    from engine.errors import run_cli

    run_cli(app, extra="train")


if __name__ == "__main__":
    main()
