"""A release becomes a world that paints what the published code painted, and what is wrong with one is said."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine import load_world
from engine.bundle import Bundle
from engine.catalog import own_world
from engine.errors import DiamondError
from export import from_release
from export.cli import main
from export.job import ExportJob, export_world
from tests.conftest import GOLDEN
from tests.train.releases import cropped_golden_release, make_release, small_agent

pytest.importorskip("onnxruntime")
RELEASE = GOLDEN / "published_tiny"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cropped_golden_release(tmp_path_factory.mktemp("release") / "csgo")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where worlds made on this machine lie, with the golden release made there once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(home))
    return home


@pytest.fixture(scope="module")
def csgo(home: Path, release: Path) -> tuple[Path, list[str]]:
    """The release as the world `csgo`, and what was said while it was made."""
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIAMOND_ENGINE_HOME", str(home))
        export_world(ExportJob("csgo", release=release), said.append)
        return own_world("csgo"), said


def test_the_release_is_found_by_name_once_it_is_made(csgo: tuple[Path, list[str]], at_home: Path) -> None:
    with load_world("csgo", backend="ort") as world:
        assert (world.name, world.fps, world.horizon) == ("csgo", 15.0, 1000)
        assert world.presets == ("fast", "quality")
        assert world.preset == "fast"
        assert world.spawn_count == len(list((RELEASE / "spawn").iterdir())) == 2
        steps = {name: config.steps for name, config in world.samplers.items()}
        assert steps == {"denoiser": 1, "upsampler": 1}
        world.set_preset("quality")
        assert {name: config.steps for name, config in world.samplers.items()} == {
            "denoiser": 3,
            "upsampler": 10,
        }
        assert world.reset(1).rgb.shape == (70, 100, 3)


def test_every_spawn_keeps_the_frames_and_actions_of_the_release(
    csgo: tuple[Path, list[str]], release: Path
) -> None:
    bundle = Bundle.open(csgo[0])
    for index in range(len(bundle.manifest.spawns)):
        spawn = bundle.spawn(index)
        folder = release / "spawn" / str(index)
        for name, array in (
            ("low_res", spawn.low_res),
            ("act", spawn.actions),
            ("next_act", spawn.next_actions),
        ):
            np.testing.assert_array_equal(array, np.load(folder / f"{name}.npy"))
        assert spawn.full_res is not None
        np.testing.assert_array_equal(spawn.full_res, np.load(folder / "full_res.npy")[-1:])


def test_the_golden_release_as_it_is_converts(published_tiny: Path) -> None:
    sizes = Bundle.open(published_tiny).manifest.sizes
    assert (sizes.low_res, sizes.full_res) == ((30, 56), (150, 280))


def test_memory_and_disk_are_stated_before_the_conversion(csgo: tuple[Path, list[str]]) -> None:
    said = csgo[1]
    cost = next(index for index, line in enumerate(said) if "of memory" in line)
    assert "of disk" in said[cost]
    assert "free" in said[cost]
    assert cost < next(index for index, line in enumerate(said) if ".onnx" in line)


def test_the_world_says_which_weights_it_was_made_from(csgo: tuple[Path, list[str]], release: Path) -> None:
    made_by = Bundle.open(csgo[0]).manifest.made_by
    assert made_by["release"] == "csgo"
    assert made_by["checkpoint_sha256"] == from_release.checkpoint_sha256(RELEASE)


def test_what_is_there_already_is_not_made_again(
    csgo: tuple[Path, list[str]], release: Path, at_home: Path
) -> None:
    before = (csgo[0] / "world.json").stat().st_mtime_ns
    said: list[str] = []
    assert export_world(ExportJob("csgo", release=release), said.append) == csgo[0]
    assert export_world(ExportJob("csgo", offline=True), said.append) == csgo[0], "no release is looked for"
    assert (csgo[0] / "world.json").stat().st_mtime_ns == before
    assert any("nothing to add" in line for line in said)


def test_a_world_of_another_release_is_not_taken_for_this_one(
    csgo: tuple[Path, list[str]], at_home: Path, tmp_path: Path
) -> None:
    other = make_release(tmp_path / "other")
    with pytest.raises(DiamondError, match="made from another release") as failure:
        export_world(ExportJob("csgo", release=other), lambda line: None)
    assert "--force" in failure.value.fix


@pytest.mark.parametrize(
    ("agent", "low_res", "size", "history"),
    [
        (small_agent(factor=None), (6, 10), (6, 10), 2),
        (small_agent(history=3, num_actions=4, factor=2, upsampler_history=2), (7, 9), (14, 18), 3),
    ],
    ids=["no upsampler", "other sizes"],
)
def test_releases_of_other_sizes_convert_and_play(
    tmp_path: Path, agent: object, low_res: tuple[int, int], size: tuple[int, int], history: int
) -> None:
    release = make_release(tmp_path / "release", agent, low_res, spawns=2)  # type: ignore[arg-type]
    out = export_world(ExportJob(str(release), tmp_path / "world", name="other"), lambda line: None)
    with load_world(out, backend="ort") as world:
        assert world.manifest.sizes.denoiser_history == history
        for preset in world.presets:
            world.set_preset(preset)
            world.reset()
            for action in world.next_actions[:3]:
                frame = world.step(action)
        assert frame.rgb.shape == (*size, 3)
        assert len(np.unique(frame.rgb)) > 10, "it paints something"


def break_yaml(release: Path) -> None:
    text = (release / "config/agent/csgo.yaml").read_text()
    (release / "config/agent/csgo.yaml").write_text(text.replace("sigma_data", "sigma_date"))


def bomb_yaml(release: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (release / "config/agent/csgo.yaml").write_text("\n".join(lines))


def cut_checkpoint(release: Path) -> None:
    data = (release / "model/csgo.pt").read_bytes()
    (release / "model/csgo.pt").write_bytes(data[: len(data) // 2])


def hostile_checkpoint(release: Path) -> None:
    import torch

    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return Path.touch, (Path("executed"),)  # type: ignore[return-value]

    torch.save({"denoiser": Hostile()}, release / "model/csgo.pt")


def lose_spawns(release: Path) -> None:
    for path in sorted((release / "spawn").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (break_yaml, "sigma_data"),
        (bomb_yaml, "anchor or alias"),
        (cut_checkpoint, "only a part of one"),
        (hostile_checkpoint, "holds more than weights"),
        (lose_spawns, "holds no spawn"),
    ],
)
def test_a_damaged_release_is_one_message_with_exit_2_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    complaint: str,
) -> None:
    release = make_release(tmp_path / "release")
    damage(release)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["diamond-export", "--release", "release"])
    with pytest.raises(SystemExit) as exit_:
        main()
    stderr = capsys.readouterr().err
    assert exit_.value.code == 2
    assert complaint in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.glob("home/worlds/*"))
    assert not (tmp_path / "executed").exists()


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = make_release(tmp_path / "release")
    monkeypatch.setattr("engine.space.free_disk_bytes", lambda path: 1000)
    with pytest.raises(DiamondError, match=r"1\.00 kB free"):
        export_world(ExportJob(str(release), tmp_path / "world"), lambda line: None)
    assert not (tmp_path / "world").exists()


def test_offline_without_a_download_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(DiamondError, match="holds no complete csgo release") as failure:
        export_world(ExportJob("csgo", offline=True), lambda line: None)
    assert "--release DIR" in failure.value.fix


def test_the_manifest_is_plain_json_without_paths_of_this_machine(csgo: tuple[Path, list[str]]) -> None:
    text = (csgo[0] / "world.json").read_text()
    assert json.loads(text)["name"] == "csgo"
    assert str(GOLDEN.parent) not in text
