"""What a latency report is made of: one configuration looked at closely, several in turns, the original beside ours.

Everything is plain data. What the graphs say (types of the layers, work, the roofline) needs the package onnx; without
it that part says so, and the rest is measured all the same.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.configuration import Config
from benchmarks.first_frame import median_start
from benchmarks.playing import Played, ratios, spread, take_turns
from engine.errors import DiamondError
from engine.world import World

BLOCKS = 8  # in which configurations take turns
REFERENCE_BLOCKS = 4
ABOUT_MS, FEWEST, MOST = 30_000, 20, 300  # frames measured where the user names no number
Say = Callable[[str], None]


def measure(world: Path, config: Config, frames: int | None, warmup: int, say: Say) -> dict[str, Any]:
    """One configuration: start-up, warm-up, frames, stages, memory, and the distance from the roofline."""
    with config.load(world, verify=False) as loaded:
        played = Played(loaded)
        warm_ms = played.play(warmup, keep=False)
        frames = frames or chosen_frames(min(warm_ms))
        say(f"playing {frames} frames of about {min(warm_ms):.0f} ms")
        played.play(frames)
        figures = played.figures()
        report = {
            "world": loaded.name,
            "made_by": loaded.manifest.made_by.get("release", ""),
            "runs_on": loaded.describe(),
            "precision": loaded.precision,
            "graphs_precision": loaded.graphs_precision,
            "preset": loaded.preset,
            "samplers": {name: sampler.to_json() for name, sampler in loaded.samplers.items()},
            "evaluations": evaluations(loaded),
            "frames": frames,
            "warm_up_ms": [round(value, 1) for value in warm_ms],
            **figures,
            **_graphs(loaded, config.threads or machine.cores(), figures["frame_ms"]["p50"]),
        }
    say("starting fresh processes")
    start = median_start(world, asdict(config))
    return report | {
        "start": {
            "shown_s": round(start.shown_s, 2),
            "painted_s": round(start.painted_s, 2),
            "peak_memory_mb": round(start.peak_memory_bytes / 1e6, 1),
        }
    }


def chosen_frames(frame_ms: float) -> int:
    """How many frames take about half a minute."""
    return max(FEWEST, min(MOST, round(ABOUT_MS / frame_ms)))


def evaluations(world: World) -> dict[str, int]:
    """How often each network runs in a frame."""
    return {
        name: sum(1 + (step.second is not None) for step in steps) for name, steps in world.schedules.items()
    }


def _graphs(world: World, threads: int, frame_ms: float) -> dict[str, Any]:
    """What the graphs say, beside what this machine could do at best."""
    try:
        import onnx

        from benchmarks.roofline import frame_work, measure_peaks, roofline_ms
        from export.layer_types import layer_types
    except ModuleNotFoundError as error:
        return {
            "layers": None,
            "roofline": None,
            "not_counted": f"{error.name} is not installed: pip install 'diamond-engine[export]'",
        }
    graphs = {
        role: world.bundle.graph(world.graphs_precision, role).path
        for role in world.manifest.graphs[world.graphs_precision]
    }
    work = frame_work(world.bundle, world.graphs_precision, evaluations(world))
    peaks = measure_peaks(threads)
    least_ms = roofline_ms(work, peaks)
    return {
        "layers": {
            role: layer_types(onnx.load(path, load_external_data=False)) for role, path in graphs.items()
        },
        "roofline": {
            "gflop": round(work.flops / 1e9, 2),
            "weights_mb": round(work.weight_bytes / 1e6, 1),
            "rest_mb": round(work.rest_bytes / 1e6, 1),
            "peak_gflop_s": round(peaks.flops_per_s / 1e9, 1),
            "peak_gb_s": round(peaks.bytes_per_s / 1e9, 1),
            "threads": threads,
            "least_ms": round(least_ms, 2),
            "rest_ms": round(1e3 * work.rest_bytes / peaks.bytes_per_s, 2),
            "times_roofline": round(frame_ms / least_ms, 2),
        },
    }


def compare(
    world: Path, configs: list[Config], frames: int | None, warmup: int, say: Say
) -> list[dict[str, Any]]:
    """Plays configurations in turns; ratios are the first one's time over each, block by block."""
    players: list[Played] = []
    try:
        warm_ms = []
        for config in configs:
            players.append(Played(config.load(world, verify=False)))
            warm_ms.append(min(players[-1].play(warmup, keep=False)))
        frames = frames or chosen_frames(max(warm_ms))
        say(f"playing {frames} frames of each of {len(configs)} configurations in turns")
        medians = take_turns(players, frames, BLOCKS)
        return [
            {
                "config": config.label,
                "runs_on": played.world.describe(),
                **played.figures(),
                "ratio": spread(ratios(medians[0], mine)),
            }
            for config, played, mine in zip(configs, players, medians, strict=True)
        ]
    finally:
        for played in players:
            played.world.close()


def beside(
    checkout: Path, world: Path, release: Path, config: Config, frames: int, say: Say
) -> dict[str, Any]:
    """Ours and the original in turns, eager and, where there is CUDA, compiled.

    Raises:
        DiamondError: no checkout, a configuration that the original does not know, or frames that differ.
    """
    from benchmarks.reference import ReferenceProcess, play_beside

    if config.steps is not None:
        raise DiamondError(f"--reference with steps={config.steps}", "a preset of the release: fast, quality")
    threads = config.threads or machine.cores()
    results = {}
    with replace(config, threads=threads).load(world, verify=False) as loaded:
        for mode in ("eager", "compiled"):
            with ReferenceProcess(checkout, release, loaded.preset, threads, mode) as original:
                if mode == "compiled" and original.about["device"] == "cpu":
                    continue  # its player compiles on CUDA only
                say(f"playing the original, {mode}, and ours in turns")
                blocks = min(REFERENCE_BLOCKS, frames)
                result = play_beside(loaded, original, blocks, frames // blocks, checked=mode == "eager")
                results[mode] = result.to_json()
    return results
