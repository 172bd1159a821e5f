"""How close an imagined world stays to the recorded one, and whether it obeys: figures and a picture.

Held-out episodes are rolled out through the engine with their true actions. At each horizon the imagined frame is
compared with the recorded one (PSNR in dB, full-resolution RGB), beside two baselines that need no network: copying
the last real frame, and the bicubic enlargement of the true low-res frame. Sharpness is the mean gradient magnitude
relative to the recorded frame's. PSNR alone misleads: a smear scores well, so look at the sheet.

    python benchmarks/quality.py freedoom --data RECORDINGS --json quality.json --sheet quality.png
"""

import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image
from tqdm import tqdm

from engine import Action, load_world
from engine.errors import DiamondError, run_cli
from engine.spawn import Spawn
from engine.world import World
from train.data.episode import Episode
from train.data.folder import episode_paths
from train.data.pictures import grid

Pixels = npt.NDArray[np.uint8]
HORIZONS = (1, 4, 16, 64)
TURN_UNITS = 60
TURN_FRAMES = 6

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class HorizonFigures:
    """Means over the segments at one horizon. PSNR in dB; sharpness relative to the recorded frame."""

    horizon: int
    psnr: float
    psnr_copy_last: float
    psnr_enlarged_truth: float
    psnr_low_res: float
    sharpness: float
    sharpness_enlarged_truth: float


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures, dB; 99 where they are equal."""
    error = float(np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def sharpness(picture: Pixels) -> float:
    """Mean absolute difference of horizontally and vertically neighbouring grey pixels."""
    grey = picture.astype(np.float32).mean(axis=2)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def enlarge(low_res: Pixels, size: tuple[int, int]) -> Pixels:
    """Bicubic enlargement to (height, width)."""
    return np.asarray(Image.fromarray(low_res).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def horizontal_shift(before: Pixels, after: Pixels, reach: int = 12) -> float:
    """How many pixels the upper half of the picture moved to the right: the shift of least squared error."""
    rows = before.shape[0] // 2
    a, b = (p[:rows].astype(np.float32).mean(axis=2) for p in (before, after))
    width = a.shape[1]
    errors = []
    for shift in range(-reach, reach + 1):
        left = a[:, max(0, -shift) : width - max(0, shift)]
        right = b[:, max(0, shift) : width - max(0, -shift)]
        errors.append(float(np.mean((left - right) ** 2)))
    return float(np.argmin(errors) - reach)


def held_out_starts(data: Path, segments: int, history: int, frames: int) -> Iterator[tuple[Episode, int]]:
    """(episode, first history frame), spread evenly over the held-out episodes."""
    episodes = [Episode(path) for path in episode_paths(data, "test")]
    episodes = [episode for episode in episodes if len(episode) >= history + frames]
    if not episodes:
        raise DiamondError(f"{data}: no held-out episode of {history + frames} frames", fix="record more")
    per_episode = -(-segments // len(episodes))
    count = 0
    for k in range(per_episode):
        for episode in episodes:
            if count < segments:
                room = len(episode) - history - frames
                yield episode, round(room * (k + 0.5) / per_episode)
                count += 1


def spawn_at(episode: Episode, start: int, world: World) -> Spawn:
    """The history of a world that begins at frame `start` of a recording."""
    sizes = world.manifest.sizes
    stop = start + sizes.denoiser_history
    full_res = None
    if sizes.full_res is not None:
        assert sizes.upsampler_history is not None
        full_res = episode.full_res(stop - sizes.upsampler_history, stop).transpose(0, 3, 1, 2)
    return Spawn(
        low_res=episode.low_res(start, stop).transpose(0, 3, 1, 2),
        full_res=full_res,
        actions=episode.actions(start, stop).astype(np.float32),
        next_actions=np.zeros((0, world.action_space.size), np.float32),
    )


def roll_out(
    world: World, data: Path, segments: int
) -> tuple[list[HorizonFigures], list[list[Pixels]], float]:
    """Figures at every horizon, rows of a contact sheet (true above imagined), and the median frame_ms."""
    history, frames = world.manifest.sizes.denoiser_history, max(HORIZONS)
    found: dict[int, list[dict[str, float]]] = {horizon: [] for horizon in HORIZONS}
    rows: list[list[Pixels]] = []
    frame_ms: list[float] = []
    starts = list(held_out_starts(data, segments, history, frames))
    for index, (episode, start) in enumerate(tqdm(starts, desc="rollouts", unit="segment")):
        newest = start + history - 1
        last_real = world.begin(spawn_at(episode, start, world)).rgb
        shown: list[tuple[Pixels, Pixels]] = []
        for horizon in range(1, frames + 1):
            frame = world.step(episode.actions(newest + horizon - 1, newest + horizon)[0].astype(np.float32))
            frame_ms.append(frame.timings_ms["total"])
            if horizon not in HORIZONS and horizon % 8:
                continue
            low_res = episode.low_res(newest + horizon, newest + horizon + 1)[0]
            truth = low_res
            if world.manifest.sizes.full_res is not None:
                truth = episode.full_res(newest + horizon, newest + horizon + 1)[0]
            if horizon % 8 == 0:
                shown.append((truth, frame.rgb))
            if horizon in HORIZONS:
                enlarged = enlarge(low_res, truth.shape[:2])
                found[horizon].append(
                    {
                        "psnr": psnr(frame.rgb, truth),
                        "psnr_copy_last": psnr(last_real, truth),
                        "psnr_enlarged_truth": psnr(enlarged, truth),
                        "psnr_low_res": psnr(frame.low_res, low_res),
                        "sharpness": sharpness(frame.rgb) / max(sharpness(truth), 1e-6),
                        "sharpness_enlarged_truth": sharpness(enlarged) / max(sharpness(truth), 1e-6),
                    }
                )
        if index < 4:
            rows += [[truth for truth, _ in shown], [imagined for _, imagined in shown]]
    figures = [
        HorizonFigures(horizon, **{key: float(np.mean([f[key] for f in values])) for key in values[0]})
        for horizon, values in found.items()
    ]
    return figures, rows, float(np.median(frame_ms))


def turning(world: World, data: Path, segments: int) -> dict[str, float]:
    """Mean horizontal shift, low-res pixels a frame, while the mouse turns left or right, and how often they oppose."""
    shifts: dict[str, list[float]] = {"left": [], "right": []}
    for episode, start in held_out_starts(data, segments, world.manifest.sizes.denoiser_history, TURN_FRAMES):
        for name, units in (("left", -TURN_UNITS), ("right", TURN_UNITS)):
            frame = world.begin(spawn_at(episode, start, world))
            moved = []
            for _ in range(TURN_FRAMES):
                before = frame.low_res
                frame = world.step(Action(mouse_dx=units))
                moved.append(horizontal_shift(before, frame.low_res))
            shifts[name].append(
                float(np.mean(moved[1:]))
            )  # the first frame still carries the recording's own turn
    opposite = np.mean(
        [left > 0 > right for left, right in zip(shifts["left"], shifts["right"], strict=True)]
    )
    return {
        "mouse_units": TURN_UNITS,
        "shift_turning_left": float(np.mean(shifts["left"])),
        "shift_turning_right": float(np.mean(shifts["right"])),
        "opposite_fraction": float(opposite),
    }


def print_report(report: dict[str, Any]) -> None:
    """The table, ready to paste, then one JSON line."""
    print(
        f"\n{report['world']}\n{report['hardware']}; {report['segments']} segments, preset {report['preset']}"
    )
    print(
        "\n| frames | PSNR dB | copy last frame | true low-res, enlarged | low-res PSNR | sharpness | enlarged |"
    )
    print("|---|---|---|---|---|---|---|")
    for f in report["horizons"]:
        print(
            f"| {f['horizon']} | {f['psnr']:.1f} | {f['psnr_copy_last']:.1f} | {f['psnr_enlarged_truth']:.1f} "
            f"| {f['psnr_low_res']:.1f} | {f['sharpness']:.2f} | {f['sharpness_enlarged_truth']:.2f} |"
        )
    turn = report["turning"]
    print(
        f"\nturning by {turn['mouse_units']} units a frame moves the picture {turn['shift_turning_left']:+.2f} px "
        f"(left), {turn['shift_turning_right']:+.2f} px (right) a frame; "
        f"opposite ways in {turn['opposite_fraction']:.0%} of starts"
    )
    print(f"median frame_ms {report['frame_ms']:.1f}\n")
    print(json.dumps(report))


@app.command()
def quality(
    world: Annotated[str, typer.Argument(help="a world's name or bundle directory")] = "freedoom",
    data: Annotated[Path, typer.Option(help="recordings with held-out episodes")] = Path("data"),
    segments: Annotated[int, typer.Option(min=1, help="rollouts")] = 24,
    preset: Annotated[
        str | None, typer.Option(help="sampler preset; the world's default if left out")
    ] = None,
    backend: Annotated[str, typer.Option()] = "auto",
    seed: Annotated[int, typer.Option()] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="keep the report here")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="picture: true rows above imagined ones, every 8 frames")
    ] = None,
) -> None:
    """Held-out quality and obedience of a world."""
    with load_world(world, backend=backend, preset=preset, seed=seed) as loaded:
        began = time.perf_counter()
        figures, rows, frame_ms = roll_out(loaded, data, segments)
        report = {
            "world": loaded.describe(),
            "preset": loaded.preset,
            "samplers": {name: config.to_json() for name, config in loaded.samplers.items()},
            "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
            "segments": segments,
            "seed": seed,
            "horizons": [asdict(f) for f in figures],
            "turning": turning(loaded, data, segments),
            "frame_ms": frame_ms,
            "seconds": round(time.perf_counter() - began, 1),
        }
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=1) + "\n")
    if sheet is not None:
        Image.fromarray(grid(rows)).save(sheet)
    print_report(report)


if __name__ == "__main__":
    run_cli(app)
