"""What a world's precisions cost and keep on this CPU: time of one evaluation, and rollouts held against fp32.

Precisions and thread counts take turns, so that a busy machine slows them alike: read the ratios. Rollouts run from
every spawn with its recorded actions and the same noise. ONNX Runtime's CPU has no bf16, and runs fp16 as fp32: their
figures are in each bundle's parity reports, from an emulation.

    python benchmarks/precisions.py WORLD --frames 16          WORLD made by diamond-export --precision fp32,int8
"""

import json
import os
import platform
from typing import Annotated, Any

import numpy as np
import typer

from engine.backends.ort import OrtBackend
from engine.bundle import Bundle
from engine.catalog import resolve
from engine.errors import run_cli
from engine.world import World
from export.calibration import record_inputs, thinned
from export.playing import play
from export.report import picture_row

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def precisions(
    world: Annotated[str, typer.Argument(help="a world with int8 graphs")],
    repeats: Annotated[int, typer.Option(help="evaluations that a median is taken over")] = 30,
    frames: Annotated[int, typer.Option(help="frames of a rollout")] = 16,
) -> None:
    """Times evaluations in fp32 and int8, and compares rollouts."""
    bundle = Bundle.open(resolve(world))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{bundle.manifest.name} on {platform.machine()}, {cores} cores, {OrtBackend(1).describe()}")
    times_ms = _times_ms(bundle, repeats)
    for case, median_ms in times_ms.items():
        print(f"  {case}: {median_ms:.1f} ms")
    rollouts = _rollouts(bundle, frames)
    for spawn, row in rollouts.items():
        print(f"  spawn {spawn}: " + ", ".join(f"{size} {db:.1f} dB" for size, db in row.items()))
    print(json.dumps({"world": bundle.manifest.name, "median_ms": times_ms, "worst_psnr_db": rollouts}))


def _times_ms(bundle: Bundle, repeats: int) -> dict[str, float]:
    """Median time of one evaluation by network, precision and threads."""
    inputs = record_inputs(bundle)
    result: dict[str, float] = {}
    for network in bundle.manifest.noise:
        backends = [OrtBackend(threads) for threads in (1, 2)]
        graphs = {
            f"{network} {precision}, {backend.threads} threads": backend.load(
                bundle.graph(precision, network)
            )
            for precision in ("fp32", "int8")
            for backend in backends
        }
        taken_ms: dict[str, list[float]] = {case: [] for case in graphs}
        for call in thinned(inputs[network] * repeats, repeats):
            for case, graph in graphs.items():
                graph.run(call)
                taken_ms[case].append(graph.last_ms)
        result |= {case: float(np.median(times)) for case, times in taken_ms.items()}
        for backend in backends:
            backend.close()
    return result


def _rollouts(bundle: Bundle, frames: int) -> dict[int, dict[str, float]]:
    """PSNR to fp32 of the worst frame, by spawn and size."""
    painted: dict[str, list[Any]] = {}
    for precision in ("fp32", "int8"):
        with World(bundle, OrtBackend(), precision) as world:
            painted[precision] = [play(world, spawn, frames) for spawn in range(world.spawn_count)]
    result = {}
    for spawn, (expected, got) in enumerate(zip(painted["fp32"], painted["int8"], strict=True)):
        rows = [
            {size: picture_row(picture, other[size])["psnr_db"] for size, picture in frame.items()}
            for frame, other in zip(got, expected, strict=True)
        ]
        result[spawn] = {size: min(row[size] or 99.0 for row in rows) for size in rows[0]}
    return result


def main() -> None:
    """The command line."""
    run_cli(app, extra="export")


if __name__ == "__main__":
    main()
