"""How long a frame takes, on what, and why: something to paste into an issue, and one line of JSON.

    python benchmarks/latency.py                                         the embedded world
    python benchmarks/latency.py csgo --random-weights                   the published architecture, no download
    python benchmarks/latency.py --compare precision=fp32,precision=int8+threads=1
    python benchmarks/latency.py csgo --random-weights --reference DIR   beside a checkout of the original

Precision and provider are those that really run. Timings of a shared machine are noisy: what is compared is played in
turns within one run, and ratios are quoted with their spread.
"""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

# Run as a script, Python looks beside it for modules, not in the checkout that it lies in.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine
from engine import load_world
from engine.catalog import PUBLISHED, resolve
from engine.errors import DiamondError, run_cli
from engine.whole_file import WholeFile
from engine.world import World

STAGES = ("conditioner", "denoiser", "upsampler", "other")
BLOCKS = 8  # in which configurations take turns

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Config:
    """One way to run a world. None: what the backend or the world chooses."""

    backend: str = "auto"
    precision: str | None = None
    preset: str | None = None
    threads: int | None = None

    @classmethod
    def parse(cls, text: str, base: "Config") -> "Config":
        """Changes to `base`, such as "precision=int8+threads=1".

        Raises:
            DiamondError: another name, or something that is no number of threads.
        """
        changes: dict[str, Any] = {}
        for part in text.split("+"):
            name, equals, value = part.partition("=")
            if not equals or name not in asdict(base):
                raise DiamondError(
                    f"--compare {text}: {part!r}", f"NAME=VALUE, NAME one of {list(asdict(base))}"
                )
            if name == "threads" and not value.isdigit():
                raise DiamondError(f"--compare {text}: {value!r} threads", "a number")
            changes[name] = int(value) if name == "threads" else value
        return replace(base, **changes)

    def load(self, world: Path) -> World:
        """The world, run so."""
        return load_world(world, self.backend, self.precision, self.preset, seed=0, threads=self.threads)


@dataclass
class Played:
    """The frames that one world has played; its actions are those recorded with its first spawn."""

    world: World
    frames: int = 0

    def __post_init__(self) -> None:
        self.world.reset(0)
        recorded = self.world.next_actions
        self.actions = recorded if len(recorded) else self.world.action_space.idle()[None]
        self.rows: list[dict[str, float]] = []

    def play(self, frames: int, keep: bool = True) -> list[float]:
        """Plays on; gives the milliseconds of each frame."""
        rows = []
        for _ in range(frames):
            frame = self.world.step(self.actions[self.frames % len(self.actions)])
            self.frames += 1
            rows.append(dict(frame.timings_ms))
        self.rows += rows if keep else []
        return [row["total"] for row in rows]

    def figures(self) -> dict[str, Any]:
        """Percentiles of the whole frame, medians of its stages."""
        total = np.array([row["total"] for row in self.rows])
        return {"frame_ms": percentiles(total), "fps": round(1e3 / float(total.mean()), 2)} | {
            "stages_ms_p50": {
                stage: round(float(np.median([row[stage] for row in self.rows])), 3) for stage in STAGES
            },
            "non_network_share": round(sum(row["other"] for row in self.rows) / float(total.sum()), 4),
        }


def percentiles(milliseconds: npt.NDArray[np.float64]) -> dict[str, float]:
    """p50, p95 and p99."""
    return {f"p{q}": round(float(np.percentile(milliseconds, q)), 2) for q in (50, 95, 99)}


def spread(ratios: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    return {
        name: round(float(np.percentile(ratios, q)), 3) for name, q in (("p25", 25), ("p50", 50), ("p75", 75))
    }


def measure(world: Path, config: Config, frames: int, warmup: int) -> dict[str, Any]:
    """One configuration: start-up, warm-up, frames, and the distance from the roofline."""
    import onnx  # here, so that a missing extra is one clear message

    from benchmarks.roofline import frame_work, measure_peaks, roofline_ms
    from export.layer_types import layer_types

    began = time.perf_counter()
    with config.load(world) as loaded:
        played = Played(loaded)
        first = played.play(1, keep=False)
        started_s = time.perf_counter() - began
        warm = first + played.play(max(0, warmup - 1), keep=False)
        played.play(frames)
        figures = played.figures()
        peak_memory_mb = round(machine.peak_memory_bytes() / 1e6, 1)  # before the peaks below take theirs
        evaluations = {
            name: sum(1 + (step.second is not None) for step in steps)
            for name, steps in loaded.schedules.items()
        }
        work = frame_work(loaded.bundle, loaded.precision, evaluations)
        peaks = measure_peaks(config.threads or machine_threads(loaded))
        least_ms = roofline_ms(work, peaks)
        return {
            "world": loaded.name,
            "made_by": loaded.manifest.made_by.get("release", ""),
            "runs_on": loaded.describe(),
            "precision": loaded.precision,
            "layers": {
                role: layer_types(onnx.load(loaded.bundle.graph(loaded.precision, role).path))
                for role in loaded.manifest.graphs[loaded.precision]
            },
            "preset": loaded.preset,
            "samplers": {name: sampler.to_json() for name, sampler in loaded.samplers.items()},
            "evaluations": evaluations,
            "frames": frames,
            "start_to_first_frame_s": round(started_s, 2),
            "warm_up_ms": [round(value, 1) for value in warm],
            **figures,
            "peak_memory_mb": peak_memory_mb,
            "roofline": {
                "gflop": round(work.flops / 1e9, 2),
                "weights_mb": round(work.weight_bytes / 1e6, 1),
                "peak_gflop_s": round(peaks.flops_per_s / 1e9, 1),
                "peak_gb_s": round(peaks.bytes_per_s / 1e9, 1),
                "least_ms": round(least_ms, 2),
                "times_roofline": round(figures["frame_ms"]["p50"] / least_ms, 2),
            },
        }


def machine_threads(world: World) -> int:
    """Threads of the peaks where the user named none: one a core."""
    cores = machine.hardware()["cores"]
    return int(str(cores))


def compare(world: Path, configs: list[Config], frames: int, warmup: int) -> list[dict[str, Any]]:
    """Plays configurations in turns; ratios are the first one's time over each, block by block."""
    worlds = [Played(config.load(world)) for config in configs]
    try:
        for played in worlds:
            played.play(warmup, keep=False)
        blocks: list[list[float]] = [[] for _ in worlds]
        for block in range(BLOCKS):
            for turn in range(len(worlds)):
                index = (block + turn) % len(worlds)
                blocks[index].append(float(np.median(worlds[index].play(max(1, frames // BLOCKS)))))
        return [
            {
                "config": {
                    key: value for key, value in asdict(config).items() if value not in (None, "auto")
                },
                "runs_on": played.world.describe(),
                **played.figures(),
                "ratio": spread([a / b for a, b in zip(blocks[0], mine, strict=True)]),
            }
            for config, played, mine in zip(configs, worlds, blocks, strict=True)
        ]
    finally:
        for played in worlds:
            played.world.close()


def beside(checkout: Path, world: Path, release: Path, config: Config, frames: int) -> dict[str, Any]:
    """Ours and the original in turns, eager and, where there is CUDA, compiled."""
    from benchmarks.reference import ReferenceProcess, play_beside

    threads = config.threads or int(str(machine.hardware()["cores"]))
    results = {}
    with config.load(world) as loaded:
        for mode in ("eager", "compiled"):
            with ReferenceProcess(checkout, release, loaded.preset, threads, mode) as original:
                if mode == "compiled" and original.about["device"] == "cpu":
                    continue  # its player compiles on CUDA only
                result = play_beside(loaded, original, 4, max(1, frames // 4), checked=mode == "eager")
                results[mode] = result.to_json()
    return results


def rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """A report in words, one row a subject."""
    run, hardware = report["run"], report["hardware"]
    frame, roofline = run["frame_ms"], run["roofline"]
    stages = ", ".join(f"{name} {value:.2f}" for name, value in run["stages_ms_p50"].items())
    layers = "; ".join(
        f"{role}: {', '.join(f'{count} {name}' for name, count in types.items() if name.startswith('Conv'))}"
        for role, types in run["layers"].items()
        if not role.endswith("conditioner")
    )
    return [
        ("hardware", f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gb']} GB, "
                     f"{' '.join(hardware['instructions'])}"),
        ("versions", ", ".join(f"{name} {value}" for name, value in report["versions"].items())),
        ("runs on", run["runs_on"]),
        ("layers", layers),
        ("preset", f"{run['preset']}: {run['evaluations']} evaluations a frame"),
        ("start", f"{run['start_to_first_frame_s']} s to the first frame, warm-up {run['warm_up_ms']} ms"),
        ("frame_ms", f"p50 {frame['p50']}, p95 {frame['p95']}, p99 {frame['p99']} over {run['frames']} frames"),
        ("fps", f"{run['fps']}"),
        ("stages", f"{stages} ms; sampler arithmetic and copies (other): {run['non_network_share']:.1%}"),
        ("memory", f"{run['peak_memory_mb']} MB at the peak"),
        ("roofline", f"{roofline['gflop']} GFLOP and {roofline['weights_mb']} MB of weights a frame; here "
                     f"{roofline['peak_gflop_s']} GFLOP/s (product, measured now) and {roofline['peak_gb_s']} GB/s "
                     f"(copy): {roofline['least_ms']} ms at least, {roofline['times_roofline']} times that taken"),
    ]  # fmt: skip


def table(report: dict[str, Any]) -> str:
    """Markdown, to paste into an issue."""
    lines = ["| what | frame_ms p50 | p95 | fps | ratio (quartiles) |", "|---|---|---|---|---|"]
    run = report["run"]
    cells = [f"{run['world']} {run['precision']} {run['preset']}", run["frame_ms"], run["fps"], ""]
    entries = [cells]
    for other in report.get("compare", []):
        ratio = other["ratio"]
        words = f"{ratio['p50']} ({ratio['p25']} - {ratio['p75']})"
        entries.append(
            [
                "+".join(f"{k}={v}" for k, v in other["config"].items()) or "as above",
                other["frame_ms"],
                other["fps"],
                words,
            ]
        )
    lines += [f"| {name} | {ms['p50']} | {ms['p95']} | {fps} | {words} |" for name, ms, fps, words in entries]
    for mode, result in report.get("reference", {}).items():
        lines.append(
            f"| the original, {mode} | {result['original_ms_p50']} | | | ours {result['ratio']} times as fast |"
        )
    return "\n".join(lines)


@app.command()
def latency(
    world: Annotated[str, typer.Argument(help="name of a world, or the directory of one")] = "freedoom",
    backend: Annotated[str, typer.Option(help="what runs it")] = "auto",
    precision: Annotated[str | None, typer.Option(help="of the graphs")] = None,
    preset: Annotated[str | None, typer.Option(help="sampler settings")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
    frames: Annotated[int, typer.Option(help="frames to measure", min=1)] = 100,
    warmup: Annotated[int, typer.Option(help="frames before that", min=1)] = 5,
    compare_with: Annotated[
        str | None,
        typer.Option(
            "--compare", help="configurations to play in turns, with commas: precision=int8+threads=1,..."
        ),
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="csgo: the published architecture, weights made here")
    ] = False,
    reference: Annotated[Path | None, typer.Option(help="a checkout of the original to play beside")] = None,
    release: Annotated[
        Path | None, typer.Option(help="--reference: the release the world was made from")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the report here")] = None,
) -> None:
    """Measure the latency of a world."""
    if random_weights and world != PUBLISHED:
        raise DiamondError(f"--random-weights with the world {world!r}", f"--random-weights with {PUBLISHED}")
    if random_weights:
        from benchmarks.random_world import random_release, random_world

        path, release = random_world(), random_release()
    else:
        path = resolve(world)
    base = Config(backend, precision, preset, threads)
    report: dict[str, Any] = {
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "load_average": list(os.getloadavg()),
        "run": measure(path, base, frames, warmup),
    }
    if random_weights:
        report["run"]["made_by"] = "random weights, not verified"
    if compare_with is not None:
        configs = [Config.parse(text, base) for text in compare_with.split(",")]
        report["compare"] = compare(path, configs, frames, warmup)
    if reference is not None:
        if release is None:
            raise DiamondError("--reference without a release", "--release DIR, or --random-weights")
        report["reference"] = beside(reference, path, release, base, frames)
    for name, text in rows(report):
        print(f"{name:<10} {text}")
    print(f"\n{table(report)}\n")
    text = json.dumps(report)
    if json_file is not None:
        with WholeFile(json_file) as output:
            output.file.write((json.dumps(report, indent=1) + "\n").encode())
    print(text)


if __name__ == "__main__":
    run_cli(app, extra="export")
