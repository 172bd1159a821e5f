"""Quality against speed: configurations of a world roll out the same starts in turns, and those worth having are found.

Every configuration gets the same held-out starts, the same actions and the same seed, and so the same draws wherever
its steps ask for the same ones. They take turns start by start, and the one that begins changes, so that a machine
that is slow for a while is slow for all. Configurations that differ in sampler settings only share one loaded world.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks.configuration import Config
from benchmarks.held_out import Start
from benchmarks.playing import frame_figures, ratios, spread
from benchmarks.rollouts import Figures, Truth, baselines, difference, means, on_sheet, roll_out
from engine.backends import open_backend
from engine.errors import DiamondError
from engine.manifest import Manifest
from engine.schedule import SamplerConfig
from engine.world import World

DENOISER_STEPS = (1, 2, 3, 5, 10)
UPSAMPLER_STEPS = (1, 3)
FULL_PRECISION = "fp32"
JUDGED_AT = 16  # frames ahead: past what copying can do, before all worlds have drifted
WARM_UP_FRAMES = 3
SHEET_STARTS = 4
LEAST = 1e-6  # of a figure that is divided by
Pixels = npt.NDArray[np.uint8]
Say = Callable[[str], None]


@dataclass
class Entry:
    """One configuration, and what it has done so far: a list's items are starts.

    Attributes:
        config, world, samplers: what is played; the world may be shared with others.
        warm_up_ms: the quickest frame of the warm-up.
        timings_ms: of every frame, by stage.
        medians_ms: of the frames of each start.
        figures, sheet: see `benchmarks.rollouts.Rollout`.
    """

    config: Config
    world: World
    samplers: Mapping[str, SamplerConfig]
    warm_up_ms: float = 0.0
    timings_ms: list[Mapping[str, float]] = field(default_factory=list)
    medians_ms: list[float] = field(default_factory=list)
    figures: list[Figures] = field(default_factory=list)
    sheet: list[list[Pixels]] = field(default_factory=list)

    def prepare(self) -> World:
        """The world, set to this configuration."""
        for name, sampler in self.samplers.items():
            self.world.set_sampler(name, sampler)
        return self.world

    def warm_up(self) -> None:
        """Plays a few frames from the first spawn."""
        world = self.prepare()
        world.reset(0)
        frames = [world.step(world.action_space.idle()) for _ in range(WARM_UP_FRAMES)]
        self.warm_up_ms = min(frame.timings_ms["total"] for frame in frames)

    def roll_out(self, start: Start, truth: Truth, horizons: Sequence[int]) -> None:
        """Rolls out one start and keeps what came of it."""
        found = roll_out(self.prepare(), start, truth, horizons)
        self.timings_ms += found.timings_ms
        self.medians_ms.append(float(np.median([row["total"] for row in found.timings_ms])))
        self.figures.append(found.figures)
        if len(self.sheet) < SHEET_STARTS:
            self.sheet.append(found.sheet)


def default_configs(manifest: Manifest, base: Config, say: Say) -> list[Config]:
    """The presets; numbers of steps in full precision; and the presets in each other precision that runs well here.

    What `base` settles (preset, precision, backend, threads) is not varied.

    Raises:
        DiamondError: `base` names a number of steps, or a preset that the world lacks.
    """
    if base.steps is not None:
        raise DiamondError(
            f"--frontier with steps={base.steps}", "one of the two: --frontier varies the steps"
        )
    presets = [base.preset or manifest.default_preset]
    if base.preset is None:
        presets += [name for name in manifest.presets if name != manifest.default_preset]
    precisions = [base.precision] if base.precision else _precisions(manifest, base)
    counts = [f"{n}/{m}" for m in UPSAMPLER_STEPS for n in DENOISER_STEPS]
    if manifest.sizes.full_res is None:
        counts = [str(n) for n in DENOISER_STEPS]
    first = replace(base, precision=precisions[0])
    configs = [replace(first, preset=name) for name in presets]
    configs += [replace(first, preset=base.preset, steps=count) for count in counts]
    for precision in precisions[1:]:
        if _runs_well(base, precision, say):
            configs += [replace(base, precision=precision, preset=name) for name in presets]
    kept: list[Config] = []
    for config in configs:
        settings = config.samplers(manifest)
        same = [
            one for one in kept if (one.precision, one.samplers(manifest)) == (config.precision, settings)
        ]
        kept += [] if same else [config]
        if same:
            say(f"{config.label} is left out: it is the same as {same[0].label}")
    return kept


@contextmanager
def entered(path: Path, configs: Sequence[Config], seed: int, say: Say) -> Iterator[list[Entry]]:
    """Loads and warms up; the worlds are closed at the end."""
    with ExitStack() as stack:
        worlds: dict[Config, World] = {}
        entries = []
        for config in configs:
            runtime = replace(config, preset=None, steps=None)
            if runtime not in worlds:
                worlds[runtime] = stack.enter_context(runtime.load(path, verify=False, seed=seed))
                say(worlds[runtime].describe())
            entries.append(Entry(config, worlds[runtime], config.samplers(worlds[runtime].manifest)))
            entries[-1].warm_up()
        yield entries


def roll_out_in_turns(
    entries: Sequence[Entry], starts: Sequence[Start], horizons: Sequence[int], say: Say
) -> tuple[list[dict[str, Any]], list[list[Pixels]]]:
    """Rolls out every start with every configuration.

    Returns:
        The baselines' figures, as rows; and the recorded frames for contact sheets, start by start.
    """
    minutes = sum(entry.warm_up_ms for entry in entries) * len(starts) * max(horizons) / 6e4
    say(
        f"{len(entries)} configurations x {len(starts)} starts x {max(horizons)} frames: about {minutes:.1f} min"
    )
    base: dict[str, list[Figures]] = {}
    recorded: list[list[Pixels]] = []
    with tqdm(total=len(starts) * len(entries), desc="rollouts", unit="rollout") as progress:
        for index, start in enumerate(starts):
            truth = Truth.of(start, horizons)
            for turn in range(len(entries)):
                entries[(index + turn) % len(entries)].roll_out(start, truth, horizons)
                progress.update()
            for name, figures in baselines(truth, horizons, start.sizes.full_res is not None).items():
                base.setdefault(name, []).append(figures)
            if index < SHEET_STARTS:
                recorded.append([truth.shown[frame] for frame in on_sheet(horizons)])
    return [{"name": name, "horizons": means(found)} for name, found in base.items()], recorded


def rows(entries: Sequence[Entry], judged_at: int) -> list[dict[str, Any]]:
    """One row a configuration: what ran, its times, its figures, and whether it is on the frontier."""
    found: list[dict[str, Any]] = []
    for entry in entries:
        world = entry.prepare()
        horizons = means(entry.figures)
        judged = next(figures for figures in horizons if figures["horizon"] == judged_at)
        found.append(
            {
                "config": entry.config.label,
                "runs_on": world.describe(),
                "precision": world.precision,
                "samplers": {name: sampler.to_json() for name, sampler in entry.samplers.items()},
                "frames": len(entry.timings_ms),
                **frame_figures(entry.timings_ms),
                "ratio": spread(ratios(entries[0].medians_ms, entry.medians_ms)),
                "horizons": horizons,
                "balance": round(balance(judged["ssim"], judged["sharpness"]), 4),
                "difference": difference(entry.figures, entries[0].figures, judged_at),
            }
        )
    worth = on_frontier([(row["frame_ms"]["p50"], row["balance"]) for row in found])
    return [{**row, "frontier": on} for row, on in zip(found, worth, strict=True)]


def balance(ssim: float, sharpness: float) -> float:
    """One figure of quality, 0 to 1: the harmonic mean of closeness, which is SSIM, and of sharpness.

    Closeness alone is won by a smear, in PSNR and in SSIM; sharpness alone by noise. The harmonic mean is high only
    where both are, as that of precision and recall is. A sharpness above 1 counts as its inverse: rougher than recorded
    is as wrong as softer.
    """
    right = min(sharpness, 1 / max(sharpness, LEAST))
    return 2 / (1 / max(ssim, LEAST) + 1 / max(right, LEAST))


def on_frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (frame_ms, quality), whether no other is as fast and as good, and better in one of the two."""

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a != b and a[0] <= b[0] and a[1] >= b[1]

    return [not any(beats(other, point) for other in points) for point in points]


def _precisions(manifest: Manifest, base: Config) -> list[str]:
    """Those that the world has graphs in, and those that the backend computes from these; full precision first."""
    backend = open_backend(base.backend, base.threads)
    try:
        computed = [name for name, source in backend.computes_from.items() if source in manifest.graphs]
        return sorted({*manifest.graphs, *computed}, key=lambda name: (name != FULL_PRECISION, name))
    finally:
        backend.close()


def _runs_well(base: Config, precision: str, say: Say) -> bool:
    """Whether a backend here is at home in a precision."""
    backend = open_backend(base.backend, base.threads, precision)
    try:
        if precision in backend.precisions:
            return True
        say(f"precision={precision} is left out: no backend here runs it well")
        return False
    finally:
        backend.close()
