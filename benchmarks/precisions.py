"""What a world's precisions cost and keep on this CPU: time of one evaluation, and rollouts held against fp32.

Precisions and thread counts take turns, so that a busy machine slows them alike: read the ratios. Rollouts run from
every spawn with its recorded actions and the same noise. bf16 and int8 are those of the native operators, from the fp32
graphs, where the processor has them; int8 graphs are played elsewhere, and with DIAMOND_NATIVE=off. Beside them may
stand what is not timed: `emulated`, bf16 graphs as the exporter makes and verifies them, and `plain`, fp32 without
native operators. fp16 runs as fp32 on ONNX Runtime's CPU: its figures are in a bundle's parity reports.

    python benchmarks/precisions.py freedoom --precisions bf16,int8,emulated,plain --frames 16
    DIAMOND_NATIVE=off python benchmarks/precisions.py WORLD   WORLD made by diamond-export --precision fp32,int8
"""

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from engine.backends.ort import OrtBackend
from engine.bundle import Bundle
from engine.catalog import resolve
from engine.errors import run_cli
from engine.world import World
from export.calibration import record_inputs, thinned
from export.low_precision import make_low
from export.playing import candidate, open_ort, play

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, wherever it is started from

NOT_TIMED = ("emulated", "plain")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    world: Annotated[
        str, typer.Argument(help="any; one with int8 graphs where there are no native operators")
    ],
    precisions: Annotated[str, typer.Option(help="held against fp32, with commas, see above")] = "int8",
    repeats: Annotated[int, typer.Option(help="evaluations that a median is taken over")] = 30,
    frames: Annotated[int, typer.Option(help="frames of a rollout")] = 16,
) -> None:
    """Times evaluations, and compares rollouts with those in fp32."""
    others = precisions.split(",")
    bundle = Bundle.open(resolve(world))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{bundle.manifest.name} on {platform.machine()}, {cores} cores, {OrtBackend(1).describe()}")
    times_ms = _times_ms(bundle, ["fp32", *(name for name in others if name not in NOT_TIMED)], repeats)
    for case, median_ms in times_ms.items():
        print(f"  {case}: {median_ms:.1f} ms")
    rollouts = _rollouts(bundle, others, frames)
    whole = {precision: _whole(rows.values()) for precision, rows in rollouts.items()}
    worst = {
        precision: {
            spawn: {size: _db(max(errors)) for size, errors in row.items()} for spawn, row in rows.items()
        }
        for precision, rows in rollouts.items()
    }
    for precision, rows in worst.items():
        for spawn, row in rows.items():
            print(f"  {precision}, spawn {spawn}, the worst frame: {_sizes(row)}")
        print(f"  {precision}, all {frames} frames of all spawns: {_sizes(whole[precision])}")
    report = {"world": bundle.manifest.name, "median_ms": times_ms, "worst_psnr_db": worst, "psnr_db": whole}
    print(json.dumps(report))


def _times_ms(bundle: Bundle, precisions: Sequence[str], repeats: int) -> dict[str, float]:
    """Median time of one evaluation by network, precision and threads."""
    inputs = record_inputs(bundle)
    result: dict[str, float] = {}
    for network in bundle.manifest.noise:
        backends = [OrtBackend(threads) for threads in (1, 2)]
        graphs = {
            f"{network} {precision}, {backend.threads} threads": backend.load(
                backend.spec(bundle, precision, network)
            )
            for precision in precisions
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


def _rollouts(
    bundle: Bundle, precisions: Sequence[str], frames: int
) -> dict[str, dict[int, dict[str, list[float]]]]:
    """Mean squared difference from fp32, in squared grey levels, by precision, spawn, size and frame."""
    painted: dict[str, list[Any]] = {}
    for precision in ("fp32", *precisions):
        with TemporaryDirectory() as folder, _world(bundle, precision, Path(folder)) as world:
            painted[precision] = [play(world, spawn, frames) for spawn in range(world.spawn_count)]
    return {
        precision: {
            spawn: _errors(got, expected)
            for spawn, (expected, got) in enumerate(zip(painted["fp32"], painted[precision], strict=True))
        }
        for precision in precisions
    }


def _world(bundle: Bundle, precision: str, folder: Path) -> World:
    """The world in a precision, or in one of `NOT_TIMED`."""
    if precision == "emulated":
        made = make_low(bundle, "bf16", folder, lambda line: None)
        return World(candidate(bundle, made.played), open_ort(), "bf16")
    if precision == "plain":
        from benchmarks.configuration import Config

        return Config("ort", "fp32", native="off").load(bundle.path, verify=False)
    return World(bundle, OrtBackend(), precision)


def _errors(
    frames: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]
) -> dict[str, list[float]]:
    """Mean squared difference of every frame, by size."""
    return {
        size: [
            float(((frame[size].astype(np.float64) - other[size]) ** 2).mean())
            for frame, other in zip(frames, expected, strict=True)
        ]
        for size in frames[0]
    }


def _whole(rows: Iterable[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """PSNR over all frames of several rollouts together, by size."""
    joined: dict[str, list[float]] = {}
    for row in rows:
        for size, errors in row.items():
            joined.setdefault(size, []).extend(errors)
    return {size: _db(float(np.mean(errors))) for size, errors in joined.items()}


def _db(squared: float) -> float:
    """PSNR of a mean squared difference in grey levels; 99 where there is none."""
    return min(99.0, float(10 * np.log10(255**2 / squared))) if squared else 99.0


def _sizes(row: Mapping[str, float]) -> str:
    return ", ".join(f"{size} {db:.1f} dB" for size, db in row.items())


def main() -> None:
    """The command line."""
    run_cli(app, extra="export")


if __name__ == "__main__":
    main()
