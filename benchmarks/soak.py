"""Hours of play in one go: memory stays flat, no value is NaN, and no stuck picture counts as success.

    python benchmarks/soak.py                            20,000 frames of the embedded world
    python benchmarks/soak.py WORLD --frames 2000 --json benchmarks/results/MACHINE.json

Actions are random and scripted from a seed; at the world's horizon the next spawn begins. Exit code 2 where something
is wrong; `benchmarks/watching.py` states what counts as wrong.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, wherever it is started from

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SAMPLES = 200  # of memory, over the whole run
HELD_FRAMES = 12  # a key is held for some frames, as by a player


def scripted(space: Any, seed: int) -> Iterator[Any]:
    """Random play without end: keys held for a while, motion and clicks in every frame."""
    import numpy as np

    from engine import Action

    random = np.random.default_rng(seed)
    while True:
        keys = [key for key in space.keys if random.random() < 0.2]
        for _ in range(random.integers(1, HELD_FRAMES)):
            dx, dy = random.normal(0, 60, 2)
            left, right = random.random(2) < 0.1
            yield space.encode(
                Action(
                    keys,
                    dx,
                    dy,
                    left and "left click" in space.buttons,
                    right and "right click" in space.buttons,
                )
            )


def soak(world: Any, frames: int, every: int, seed: int, say: Any) -> Any:
    """Plays `frames` frames of a loaded world; memory is sampled every `every` frames. Gives the `Watch`.

    It ends early where the world refuses to paint or the picture stands still.
    """
    from benchmarks.machine import resident_bytes
    from benchmarks.watching import Watch
    from engine.errors import DiamondError

    watch = Watch()
    actions = scripted(world.action_space, seed)
    frame = world.reset(0)
    for played in range(frames):
        if frame.index >= world.horizon:
            frame = world.reset()
            watch.start_over()
        if played % every == 0:
            watch.sample(resident_bytes())
            say(f"{played} frames, {watch.samples[-1][1] / 1e6:.1f} MB")
        try:
            frame = world.step(next(actions))
        except DiamondError as error:
            watch.refusals.append(error.what)
            break
        watch.see(frame.rgb)
        if watch.stuck:
            break
    watch.sample(resident_bytes())
    return watch


@app.command()
def run(
    world: Annotated[str, typer.Argument(help="name of a world, or the directory of one")] = "freedoom",
    backend: Annotated[str, typer.Option(help="what runs it")] = "auto",
    precision: Annotated[str | None, typer.Option(help="of the graphs")] = None,
    preset: Annotated[str | None, typer.Option(help="sampler settings")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads", min=1)] = None,
    frames: Annotated[int, typer.Option(min=1)] = 20_000,
    every: Annotated[int | None, typer.Option(help="frames between two samples of memory", min=1)] = None,
    growth_mb: Annotated[float, typer.Option(help="growth of memory that is allowed after warm-up")] = 8.0,
    seed: Annotated[int, typer.Option(help="of the actions")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="keep the report in this file, one a machine")
    ] = None,
) -> None:
    """Play for a long time, and watch."""
    import time

    from benchmarks import machine
    from benchmarks.configuration import Config
    from benchmarks.progress import say
    from benchmarks.results import keep
    from engine.catalog import resolve
    from engine.errors import DiamondError

    config = Config(backend, precision, preset, threads)
    around, began = machine.circumstances("soak"), time.perf_counter()
    with config.load(resolve(world)) as loaded:
        print(f"{loaded.describe()}; preset {loaded.preset}, a new spawn every {loaded.horizon} frames")
        watch = soak(loaded, frames, every or max(1, frames // SAMPLES), seed, say)
        failures = watch.failures(round(growth_mb * 1e6))
        report = {
            **around,
            "world": loaded.name,
            "config": config.label,
            "runs_on": loaded.describe(),
            "preset": loaded.preset,
            "seconds": round(time.perf_counter() - began, 1),
            **watch.to_json(),
            "failures": failures,
        }
    print(
        f"{watch.frames} of {frames} frames in {report['seconds']} s; memory {watch.samples[-1][1] / 1e6:.1f} MB, "
        f"{report['growth_mb']:+.2f} MB after warm-up ({report['growth_bytes_a_frame']:+.1f} bytes a frame); "
        f"{watch.equal_frames} frames equal to the one before, {watch.longest_equal} in a row at most"
    )
    if json_file is not None and not failures:
        keep(report, json_file)
    print(json.dumps(report))
    if failures:
        raise DiamondError("soak: " + "; ".join(failures), "frames that move, and memory that stays flat")


def main() -> None:
    """The command line."""
    from engine.errors import run_cli

    run_cli(app, extra="cpu")


if __name__ == "__main__":
    main()
