"""diamond-export, from a run directory to a world that plays, and each way it refuses."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from engine import load_world
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.player.playable import recorded_actions
from engine.player.recording import Recording
from engine.schedule import SamplerConfig
from export import assemble
from export.cli import main
from export.job import ExportJob, export_world
from export.options import RunOptions
from tests.export.recordings import FPS, HEIGHT, WIDTH, write_recordings
from tests.export.worlds import SPACE, exported_before, random_agent
from train.checkpoint import RunInfo, save_checkpoint, write_run
from train.config import NetworkTraining, WorldRecipe

pytest.importorskip("onnxruntime")
TRAINING = NetworkTraining(steps=7, batch_size=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory as diamond-train leaves it, of a world with an upsampler."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_recordings(folder / "data", test_episodes=2, frames=60)
    agent = random_agent(upsampling_factor=2)
    presets = {"fast": {"denoiser": SamplerConfig(s_cond=0.005), "upsampler": SamplerConfig(sigma_min=1.0)}}
    recipe = WorldRecipe("stripes", "Stripes", agent.cfg, TRAINING, TRAINING, presets, "fast")
    size = (HEIGHT, WIDTH)
    info = RunInfo(recipe, data, FPS, size, (2 * HEIGHT, 2 * WIDTH), SPACE, "stripes")
    write_run(folder / "run", info)
    for name, step in (("denoiser", 7), ("upsampler", 5)):
        save_checkpoint(folder / "run" / name, {"step": step, "ema": getattr(agent, name).state_dict()})
    return folder / "run"


@pytest.fixture(scope="module")
def exported(
    run: Path, small_graphs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """The world, and what was said while it was made. Its graphs were exported before: the networks are the same."""
    out = tmp_path_factory.mktemp("worlds") / "stripes"
    notice = out.parent / "licence.txt"
    notice.write_text("Stripes belong to everyone.\n")
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "export_graph", exported_before(small_graphs))
        export_world(ExportJob(str(run), out, run=RunOptions(spawns=3, notice=notice)), said.append)
    return out, said


def test_a_run_becomes_a_world_that_plays_its_own_demo(exported: tuple[Path, list[str]]) -> None:
    out, _ = exported
    with load_world(out, backend="ort") as world:
        assert world.spawn_count == 3
        assert (world.name, world.fps, world.preset) == ("stripes", FPS, "fast")
        demo = Recording.load(world.bundle.file("actions/demo.npz"))
        demo.require_space(world.action_space)
        assert demo.spawn == 0
        world.reset(demo.spawn)
        np.testing.assert_array_equal(demo.actions, recorded_actions(world, 0)[: len(demo.actions)])
        frame = world.step(demo.actions[0])
        assert frame.rgb.shape == (2 * HEIGHT, 2 * WIDTH, 3)


def test_the_bundle_says_where_it_comes_from(exported: tuple[Path, list[str]]) -> None:
    bundle = Bundle.open(exported[0])
    made_by = bundle.manifest.made_by
    assert (made_by["recipe"], made_by["recordings"]) == ("stripes", "stripes")
    assert (made_by["denoiser_steps"], made_by["upsampler_steps"]) == (7, 5)
    assert bundle.file("NOTICE").read_text() == "Stripes belong to everyone.\n"


def test_progress_comes_with_the_time_elapsed(exported: tuple[Path, list[str]]) -> None:
    _, said = exported
    assert all(line.startswith("[") and " s] " in line for line in said)
    for word in ("denoiser steps 7", "3 spawns", "upsampler.onnx", "parity gate", "16 frames", "MB"):
        assert any(word in line for line in said), (word, said)


def test_the_run_may_move_away_from_its_recordings(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    text = (moved / "run.json").read_text().replace(str(run.parent / "data"), "/nowhere/data")
    (moved / "run.json").write_text(text)
    with pytest.raises(DiamondError, match="/nowhere/data: holds no recordings") as failure:
        export_world(ExportJob(str(moved), tmp_path / "world"), lambda line: None)
    assert "--data DIR" in failure.value.fix
    assert not (tmp_path / "world").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--out", "world", "--precision", "fp32,fp64"], "--precision fp64"),
        (["--out", "world", "--release", "elsewhere"], "--release elsewhere with the source"),
        (["--out", "world", "--spawns", "0"], "--spawns 0"),
        (["--out", "world", "--name", "no spaces"], "--name 'no spaces'"),
        (["--out", "world", "--notice", "missing.txt"], "--notice missing.txt: No such file"),
        (["--out", "world", "--data", "elsewhere"], "elsewhere: holds no recordings"),
        (["--out", "mine"], "exists and is not a world"),
        (["--out", "older"], "--force"),
        ([], "--out"),
    ],
)
def test_the_command_line_refuses_with_one_message_and_exit_2(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "world.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["diamond-export", str(run), *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    stderr = capsys.readouterr().err
    assert exit_.value.code == 2
    assert complaint in stderr
    assert "Traceback" not in stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "older"]


def test_force_replaces_a_world(
    run: Path, tmp_path: Path, small_graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "export_graph", exported_before(small_graphs))
    out = tmp_path / "world"
    out.mkdir()
    (out / "world.json").write_text("{}")
    job = ExportJob(str(run), out, force=True, name="other", title="Other", run=RunOptions(spawns=1))
    export_world(job, lambda line: None)
    manifest = Bundle.open(out).manifest
    assert (manifest.name, manifest.title, len(manifest.spawns)) == ("other", "Other", 1)
