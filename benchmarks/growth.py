"""Frames measured at several settings of one kind, in turns: threads, sampler steps, frame sizes. Plain data out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.amdahl import fit, frame_ms, parallel_share
from benchmarks.configuration import Config
from benchmarks.playing import Played, ratios, spread, take_turns
from engine.errors import DiamondError
from engine.schedule import SamplerConfig

BLOCKS = 8
WARM_UP_FRAMES = 2
EXPECTED_THREADS = (1, 2, 4, 8, 16)  # computed
SIZES_OF = "freedoom"  # the recipe whose architecture other frame sizes have
Say = Callable[[str], None]


def numbers(option: str, text: str) -> list[int]:
    """The numbers of "1,2,10", ascending; none of "".

    Raises:
        DiamondError: something else.
    """
    parts = [part for part in text.split(",") if part]
    if not all(part.isdigit() and int(part) for part in parts):
        raise DiamondError(f"{option} {text}", "numbers from 1 on, with commas")
    return sorted({int(part) for part in parts})


def with_threads(world: Path, base: Config, counts: Sequence[int], frames: int, say: Say) -> dict[str, Any]:
    """Every number of threads, and what more of them would give.

    Returns:
        "world", "runs_on", "preset", "threads" (measured) and "expected" (computed).
    """
    with _Loaded() as worlds:
        players = [worlds.add(replace(base, threads=count), world) for count in counts]
        say(f"{frames} frames on each of {', '.join(map(str, counts))} threads")
        medians = take_turns(players, frames, BLOCKS)
        measured = [
            {"threads": count, **played.figures(), "ratio": spread(ratios(medians[0], mine))}
            for count, played, mine in zip(counts, players, medians, strict=True)
        ]
        about = players[-1].world
        described = {"world": about.name, "runs_on": about.describe(), "preset": about.preset}
    laws = fit({row["threads"]: row["stages_ms_p50"] for row in measured})
    expected = {
        "parallel_share": round(parallel_share(laws), 4),
        "stages": {
            name: {"serial_ms": round(law.serial_ms, 3), "parallel_ms": round(law.parallel_ms, 3)}
            for name, law in laws.items()
        },
        "frame_ms": {str(count): round(frame_ms(laws, count), 2) for count in EXPECTED_THREADS},
    }
    return {**described, "threads": measured, "expected": expected if len(counts) > 1 else None}


def with_steps(
    world: Path, base: Config, counts: Sequence[int], frames: int, say: Say
) -> list[dict[str, Any]]:
    """Every number of steps of each network, the other at one step."""
    with _Loaded() as worlds:
        loaded = worlds.add(base, world).world
        ones = {name: replace(sampler, steps=1, order=1) for name, sampler in loaded.samplers.items()}
        settings = [
            (name, count, {**ones, name: replace(ones[name], steps=count)})
            for name in ones
            for count in counts
        ]
        players = [_Setting(loaded, samplers=samplers) for _, _, samplers in settings]
        say(f"{frames} frames with each of {', '.join(map(str, counts))} steps of each network")
        take_turns(players, frames, BLOCKS)
        return [
            {"network": name, "steps": count, **played.figures()}
            for (name, count, _), played in zip(settings, players, strict=True)
        ]


def with_sizes(sizes: Sequence[str], base: Config, frames: int, say: Say) -> list[dict[str, Any]]:
    """Every frame size, in worlds of random weights."""
    from benchmarks.random_world import random_world
    from benchmarks.roofline import frame_work

    paths = [random_world(SIZES_OF, low_res) for low_res in sizes]
    with _Loaded() as worlds:
        players = [worlds.add(replace(base, preset=None), path) for path in paths]
        say(f"{frames} frames of each of {', '.join(sizes)}")
        take_turns(players, frames, BLOCKS)
        rows = []
        for played in players:
            loaded = played.world
            once = {name: len(steps) for name, steps in loaded.schedules.items()}
            work = frame_work(loaded.bundle, loaded.graphs_precision, once)
            shown = loaded.manifest.sizes.full_res or loaded.manifest.sizes.low_res
            rows.append(
                {
                    "low_res": list(loaded.manifest.sizes.low_res),
                    "shown": list(shown),
                    "gflop": round(work.flops / 1e9, 2),
                    **played.figures(),
                }
            )
        return rows


def rows(report: Mapping[str, Any]) -> Iterator[str]:
    """The report in words: a table for each kind of setting."""
    busy = ", BUSY: others compute here; trust ratios" if report["load"]["busy"] else ""
    yield f"{report['runs_on']}; {report['hardware']['cpu']}, {report['hardware']['cores']} cores{busy}"
    yield "\n| threads | frame_ms p50 | fps | times as fast |\n|---|---|---|---|"
    for row in report["threads"]:
        yield f"| {row['threads']} | {row['frame_ms']['p50']} | {row['fps']} | {row['ratio']['p50']} |"
    if (expected := report["expected"]) is not None:
        most = max(row["threads"] for row in report["threads"])
        for count, ms in expected["frame_ms"].items():
            if int(count) > most:
                yield f"| {count}, computed | {ms} | {1e3 / ms:.2f} | {expected['frame_ms']['1'] / ms:.2f} |"
        share = expected["parallel_share"]
        yield f"\ncomputed: Amdahl's law for every stage; {share:.1%} of a frame can be shared among threads"
    yield "\n| network | steps | frame_ms p50 | fps |\n|---|---|---|---|"
    for row in report["steps"]:
        yield f"| {row['network']} | {row['steps']} | {row['frame_ms']['p50']} | {row['fps']} |"
    if report["sizes"]:
        yield "\n| low-res | shown | GFLOP a frame | frame_ms p50 | fps |\n|---|---|---|---|---|"
        for row in report["sizes"]:
            low, shown = ("x".join(map(str, row[name])) for name in ("low_res", "shown"))
            yield f"| {low} | {shown} | {row['gflop']} | {row['frame_ms']['p50']} | {row['fps']} |"
    yield ""


@dataclass
class _Setting(Played):
    """One setting of a world that several share."""

    samplers: Mapping[str, SamplerConfig] = field(default_factory=dict)

    def play(self, frames: int, keep: bool = True) -> list[float]:
        """Plays on with the setting; the change itself is not in the times."""
        for name, sampler in self.samplers.items():
            self.world.set_sampler(name, sampler)
        return super().play(frames, keep)


class _Loaded:
    """Worlds that are closed together."""

    def __init__(self) -> None:
        self.players: list[Played] = []

    def add(self, config: Config, world: Path) -> Played:
        """Loads one and warms it up."""
        self.players.append(Played(config.load(world, verify=False)))
        self.players[-1].play(WARM_UP_FRAMES, keep=False)
        return self.players[-1]

    def __enter__(self) -> "_Loaded":
        return self

    def __exit__(self, *_: object) -> None:
        for played in self.players:
            played.world.close()
