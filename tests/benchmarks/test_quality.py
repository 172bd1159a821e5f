"""Rollouts are held against the right frames, configurations against each other fairly, and bad input is refused."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from benchmarks import frontier
from benchmarks.configuration import Config
from benchmarks.frontier import Entry, balance, default_configs, on_frontier, roll_out_in_turns, rows
from benchmarks.held_out import Start, held_out, starts
from benchmarks.quality import app
from benchmarks.rollouts import Truth, baselines, roll_out
from benchmarks.turning import turning
from engine import native
from engine.bundle import Bundle, write_bundle
from engine.errors import DiamondError
from engine.frame import Frame
from engine.graphs import Sizes
from engine.manifest import Manifest
from engine.world import World
from tests.benchmarks.recordings import write_recordings
from tests.engine.doubles import NumpyBackend
from tests.engine.tiny_world import TINY, TINY_LOW_RES, world_files, world_json

ROOT = Path(__file__).resolve().parents[2]
HORIZONS = (1, 4, 8)


def quiet(line: str) -> None:
    """Nobody reads it."""


def bundle(folder: Path, sizes: Sizes = TINY, precisions: tuple[str, ...] = ("fp32",), **more: Any) -> Bundle:
    folder.mkdir(exist_ok=True)
    manifest = world_json(sizes, precisions) | more
    return Bundle.open(write_bundle(folder / "tiny", manifest, world_files(folder, manifest, sizes)))


def some_starts(folder: Path, manifest: Manifest, count: int = 3) -> list[Start]:
    data = write_recordings(folder / "data", sizes=manifest.sizes)
    return starts(held_out(data, manifest, max(HORIZONS)), manifest.sizes, count, max(HORIZONS))


class Oracle:
    """Stands in for a world: shows what was recorded, and keeps the actions it is given."""

    def __init__(self, start: Start, frames_late: int = 0) -> None:
        self.manifest = SimpleNamespace(sizes=start.sizes)
        self.start, self.frames_late, self.acted = start, frames_late, []

    def begin(self, spawn: Any) -> None:
        self.acted = []

    def step(self, action: np.ndarray) -> Frame:
        self.acted.append(action)
        newest = self.start.first + self.start.sizes.denoiser_history - 1
        now = newest + len(self.acted) - self.frames_late
        episode = self.start.episode
        pictures = episode.full_res(now, now + 1)[0], episode.low_res(now, now + 1)[0]
        return Frame(*pictures, len(self.acted), {"total": 1.0})


# Rollouts.


def test_what_was_recorded_gets_full_marks_and_a_frame_late_does_not(tmp_path: Path) -> None:
    start = some_starts(tmp_path, bundle(tmp_path).manifest)[0]
    truth = Truth.of(start, HORIZONS)
    world = Oracle(start)
    found = roll_out(world, start, truth, HORIZONS)  # type: ignore[arg-type]
    late = roll_out(Oracle(start, 1), start, truth, HORIZONS)  # type: ignore[arg-type]
    for horizon in HORIZONS:
        assert found.figures[horizon]["psnr"] == found.figures[horizon]["psnr_low_res"] == 99
        assert found.figures[horizon]["ssim_low_res"] == pytest.approx(1)
        assert late.figures[horizon]["psnr"] < 40
    newest = start.first + 3
    assert np.array_equal(world.acted, start.episode.actions(newest, newest + 8)), "what was done in frame t"
    assert [len(found.sheet), len(found.timings_ms)] == [1, 8]


def test_a_start_is_filled_with_the_frames_and_actions_before_it(tmp_path: Path) -> None:
    start = some_starts(tmp_path, bundle(tmp_path).manifest)[1]
    spawn, episode = start.spawn(), start.episode
    assert np.array_equal(spawn.low_res[-1].transpose(1, 2, 0), start.low_res(0))
    assert spawn.full_res is not None
    assert np.array_equal(spawn.full_res[-1].transpose(1, 2, 0), start.shown(0))
    assert np.array_equal(spawn.actions, episode.actions(start.first, start.first + 4))


def test_starts_are_spread_over_the_episodes_and_inside_them(tmp_path: Path) -> None:
    found = some_starts(tmp_path, bundle(tmp_path).manifest, 5)
    assert [(start.episode.path.name[8:14], start.first) for start in found] == [
        *[("000001", 2), ("000002", 2), ("000001", 6), ("000002", 6), ("000001", 10)]
    ]


def test_baselines_are_the_last_real_frame_and_the_enlarged_one(tmp_path: Path) -> None:
    start = some_starts(tmp_path, bundle(tmp_path).manifest)[0]
    truth = Truth.of(start, HORIZONS)
    same = Truth(truth.shown[4], truth.shown, truth.low_res)
    copied = baselines(same, HORIZONS, upsampled=True)["the last real frame, copied"]
    assert copied[4]["psnr"] == 99 > copied[8]["psnr"]
    assert list(baselines(truth, HORIZONS, upsampled=False)) == ["the last real frame, copied"]


# Configurations.


def test_the_default_set_has_the_presets_the_steps_and_the_precisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv(native.SWITCH, "off")  # graphs alone, on any processor
    said: list[str] = []
    manifest = bundle(tmp_path, precisions=("int8", "fp16", "fp32")).manifest
    labels = [config.label for config in default_configs(manifest, Config(backend="ort"), said.append)]
    ours = [label.removeprefix("backend=ort+") for label in labels]
    assert ours[:2] == ["precision=fp32+preset=fast", "precision=fp32+preset=quality"]
    assert ours[-2:] == ["precision=int8+preset=fast", "precision=int8+preset=quality"]
    steps = [label.removeprefix("precision=fp32+steps=") for label in ours[2:-2]]
    assert steps == ["2/1", "3/1", "5/1", "10/1", "1/3", "2/3", "3/3", "5/3", "10/3"]
    assert "precision=fp16 is left out: no backend here runs it well" in said
    assert any("steps=1/1 is left out: it is the same as" in line for line in said)


def test_the_default_set_has_what_the_backend_computes_from_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = NumpyBackend()
    backend.precisions, backend.computes_from = ("fp32", "bf16"), {"bf16": "fp32"}
    monkeypatch.setattr(frontier, "open_backend", lambda *asked: backend)
    configs = default_configs(bundle(tmp_path).manifest, Config(), quiet)
    labels = [config.label for config in configs]
    assert labels[-2:] == ["precision=bf16+preset=fast", "precision=bf16+preset=quality"]


def test_the_default_set_varies_nothing_that_was_settled(tmp_path: Path) -> None:
    manifest = bundle(tmp_path, TINY_LOW_RES).manifest
    configs = default_configs(manifest, Config(precision="fp32", preset="quality", threads=1), quiet)
    assert {(config.precision, config.threads, config.preset) for config in configs} == {
        ("fp32", 1, "quality")
    }
    assert [config.steps for config in configs] == [None, "1", "2", "5", "10"], "its preset has 3 steps"
    with pytest.raises(DiamondError, match="--frontier with steps=3"):
        default_configs(manifest, Config(steps="3"), quiet)


def test_steps_for_an_upsampler_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DiamondError, match="has no upsampler"):
        Config(steps="3/1").samplers(bundle(tmp_path, TINY_LOW_RES).manifest)


def test_the_frontier_is_what_nothing_beats_in_both() -> None:
    points = [(10.0, 0.5), (20.0, 0.4), (10.0, 0.4), (30.0, 0.6), (10.0, 0.5), (25.0, 0.5)]
    assert on_frontier(points) == [True, False, False, True, True, False]


def test_neither_a_smear_nor_noise_is_balanced() -> None:
    assert balance(0.5, 0.5) == pytest.approx(0.5)
    assert balance(0.4, 2.0) == pytest.approx(balance(0.4, 0.5)), "rougher is as wrong as softer"
    assert balance(0.9, 0.0) < 1e-5 > balance(-0.1, 1.0)
    assert balance(1.0, 1.0) == pytest.approx(1)


@pytest.mark.parametrize("sizes", [TINY, TINY_LOW_RES], ids=["upsampled", "low-res only"])
def test_configurations_take_turns_with_the_same_starts_and_draws(tmp_path: Path, sizes: Sizes) -> None:
    opened = bundle(tmp_path, sizes)
    order: list[str] = []

    class Watched(Entry):
        def roll_out(self, start: Start, truth: Truth, horizons: Sequence[int]) -> None:
            order.append(self.config.label)
            super().roll_out(start, truth, horizons)

    configs = [Config(preset=name) for name in ("fast", "quality", "fast")]
    with World(opened, NumpyBackend()) as world:
        entries = [Watched(config, world, config.samplers(opened.manifest)) for config in configs]
        base, recorded = roll_out_in_turns(entries, some_starts(tmp_path, opened.manifest), HORIZONS, quiet)
        found = rows(entries, judged_at=4)
    fast, quality = (f"preset={name}" for name in ("fast", "quality"))
    assert order == [fast, quality, fast, quality, fast, fast, fast, fast, quality]
    assert found[0]["horizons"] == found[2]["horizons"] != found[1]["horizons"]
    assert found[2]["difference"]["ssim"] == {"mean": 0.0, "error": 0.0}
    assert [row["frames"] for row in found] == [24, 24, 24]
    assert found[1]["samplers"]["denoiser"]["steps"] == 3
    assert ("psnr_low_res" in found[0]["horizons"][0]) is (sizes is TINY)
    assert len(base) == (2 if sizes is TINY else 1)
    assert len(recorded) == 3 == len(entries[0].sheet)
    assert recorded[0][0].shape == entries[0].sheet[0][0].shape


def test_a_world_without_a_mouse_is_not_asked_to_turn(tmp_path: Path) -> None:
    opened = bundle(tmp_path)
    with World(opened, NumpyBackend()) as world:
        assert set(turning(world, some_starts(tmp_path, opened.manifest)) or {}) >= {"opposite_fraction"}
    assert turning(SimpleNamespace(action_space=SimpleNamespace(mouse_x=())), []) is None  # type: ignore[arg-type]


# Input that does not fit.


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"low_res_size": (14, 21)}, r"low-res frames are \(14, 21\)"),
        ({"full_res_size": (70, 101)}, r"full frames are \(70, 101\)"),
        ({"full_res_size": None}, "full frames are None"),
        ({"fps": 17.5}, "17.5 frames a second"),
        ({"action_space": "{}"}, "action_space"),
        ({"action_space": "keys"}, "action_space"),
    ],
)
def test_recordings_of_another_world_are_refused(tmp_path: Path, meta: Any, message: str) -> None:
    data = write_recordings(tmp_path / "data", **meta)
    with pytest.raises(DiamondError, match=message):
        held_out(data, bundle(tmp_path).manifest, 8)


def test_recordings_with_other_keys_are_refused(tmp_path: Path) -> None:
    other = json.dumps(world_json()["action_space"]).replace('"space"', '"tab"')
    with pytest.raises(DiamondError, match="its actions are laid out otherwise"):
        held_out(write_recordings(tmp_path / "data", action_space=other), bundle(tmp_path).manifest, 8)


def test_a_folder_without_long_enough_held_out_episodes_is_refused(tmp_path: Path) -> None:
    manifest = bundle(tmp_path).manifest
    with pytest.raises(DiamondError, match="no such folder"):
        held_out(tmp_path / "nowhere", manifest, 8)
    with pytest.raises(DiamondError, match="no held-out episode of 12 frames: there is none"):
        held_out(write_recordings(tmp_path / "none", held_out=0), manifest, 8)
    with pytest.raises(DiamondError, match="the longest of 2 has 24 frames"):
        held_out(write_recordings(tmp_path / "short"), manifest, 21)


def test_recordings_with_full_frames_serve_a_world_without_an_upsampler(tmp_path: Path) -> None:
    data = write_recordings(tmp_path / "data")
    assert len(held_out(data, bundle(tmp_path, TINY_LOW_RES).manifest, 8)) == 2


# The command.


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "benchmarks" / "quality.py"), *map(str, arguments)]
    return subprocess.run(script, capture_output=True, text=True, cwd=ROOT.parent, check=False)


def test_the_frontier_ends_in_json_is_kept_and_draws_sheets(tmp_path: Path, tiny_bundle: Path) -> None:
    data = write_recordings(tmp_path / "data", fps=16.0)
    kept, sheet = tmp_path / "machine.json", tmp_path / "sheet.png"
    options = ["--data", data, "--segments", 2, "--horizons", "1,8", "--threads", 1]
    done = command(tiny_bundle, *options, "--frontier", "--json", kept, "--sheet", sheet)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert json.loads(kept.read_text())["reports"] == [report]
    assert (report["benchmark"], report["world"], report["judged_at"]) == ("quality", "tiny", 8)
    more = sum(bool(native.kernels(products)) for products in ("bf16", "int8"))
    count = 11 + 2 * more
    assert len(report["rows"]) == count, "two presets a precision, ten numbers of steps, one of them twice"
    assert any(row["frontier"] for row in report["rows"])
    assert str(tmp_path) not in json.dumps(report)
    sheets = sorted(tmp_path.glob("sheet-*.png"))
    assert len(sheets) == count
    assert Image.open(sheets[0]).size == (204, 4 * 144), "a frame of 70x100, twice as large, two starts"


def test_one_configuration_says_whether_it_obeys(tmp_path: Path, tiny_bundle: Path) -> None:
    data = write_recordings(tmp_path / "data", fps=16.0)
    done = command(tiny_bundle, "--data", data, "--segments", 1, "--horizons", "4", "--steps", "2/1")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["rows"][0]["samplers"]["denoiser"]["steps"] == 2
    assert report["turning"]["mouse_units"] == 60
    assert "| 4 | imagined |" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "best"], "has no preset 'best'"),
        (["--compare", "preset=best"], "has no preset 'best'"),
        (["--compare", "pace=3"], "'pace=3'"),
        (["--precision", "fp16"], "fp16"),
        (["--frontier", "--compare", "steps=3"], "--frontier and --compare"),
        (["--horizons", "4", "--sheet", "sheet.png"], "--sheet with --horizons 4"),
        (["--horizons", "soon"], "--horizons soon"),
        (["--horizons", "64"], "no held-out episode of 68 frames"),
    ],
)
def test_bad_input_is_one_clear_error(
    tmp_path: Path, tiny_bundle: Path, options: list[str], message: str
) -> None:
    data = write_recordings(tmp_path / "data", fps=16.0)
    arguments = [str(tiny_bundle), "--data", str(data), "--segments", "1", "--horizons", "4", *options]
    with pytest.raises(DiamondError, match=message):
        get_command(app).main(arguments, standalone_mode=False)


def test_an_error_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    done = command("--data", tmp_path / "nowhere")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "no such folder" in done.stderr
