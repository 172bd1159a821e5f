"""Published releases: described from their own files, loaded whole, at any size."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.actions import KEYBOARD_MOUSE_51
from engine.errors import DiamondError
from tests.train.releases import make_release, small_agent
from train.model import AgentConfig
from train.release import CHECKPOINT, action_space, load_release_agent, read_release
from train.release_config import ENV_YAML

TINY = Path(__file__).parents[1] / "golden" / "published_tiny"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A small release, to be damaged."""
    return make_release(tmp_path / "release")


# The release as published.


def test_the_published_layout_is_described_from_its_own_files() -> None:
    release = read_release(TINY)
    assert release.low_res == (30, 56)
    assert release.full_res == (150, 280)
    assert release.fps == 15
    assert release.action_space is KEYBOARD_MOUSE_51
    assert release.agent.denoiser.inner_model.channels == (8, 16)
    assert release.agent.denoiser.inner_model.attn_depths == (False, True)
    assert release.agent.denoiser.noise_previous_obs
    assert release.agent.upsampler is not None
    assert release.agent.upsampler.upsampling_factor == 5
    assert [folder.name for folder in release.spawn_folders] == ["0", "1"]


def test_every_published_weight_is_loaded_and_no_other() -> None:
    published = torch.load(TINY / CHECKPOINT, weights_only=True)
    loaded = load_release_agent(TINY).state_dict()
    assert set(loaded) == set(published)
    for name, weight in published.items():
        assert torch.equal(loaded[name], weight), name


def test_a_loaded_agent_is_ready_to_be_run(release: Path) -> None:
    agent = load_release_agent(read_release(release))
    assert not agent.training
    for name, tensor in agent.state_dict(keep_vars=True).items():
        assert tensor.dtype == torch.float32, name
        assert tensor.device.type == "cpu", name
        assert not tensor.requires_grad, name


def test_loading_imports_no_compiler() -> None:
    code = "from train.release import load_release_agent as load; import sys; load(sys.argv[1])"
    code += "; sys.exit('torch._dynamo' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(TINY)], cwd=root, check=False)
    assert done.returncode == 0


def test_published_spawns_are_the_last_frames_of_their_files() -> None:
    for folder, spawn in zip(read_release(TINY).spawn_folders, read_release(TINY).spawns(), strict=True):
        np.testing.assert_array_equal(spawn.low_res, np.load(folder / "low_res.npy")[-4:])
        np.testing.assert_array_equal(spawn.full_res, np.load(folder / "full_res.npy")[-1:])
        np.testing.assert_array_equal(spawn.actions, np.load(folder / "act.npy")[-4:])
        np.testing.assert_array_equal(spawn.next_actions, np.load(folder / "next_act.npy"))
        assert spawn.low_res.flags.owndata
        assert spawn.actions.dtype == np.float32


# Other releases.


@pytest.mark.parametrize(
    ("agent", "low_res", "full_res"),
    [
        (small_agent(), (6, 10), (18, 30)),
        (small_agent(history=4, upsampler_history=2), (6, 10), (18, 30)),
        (small_agent(history=1, upsampler_history=3), (6, 10), (18, 30)),
        (small_agent(factor=None), (7, 9), None),
        (small_agent(num_actions=51, factor=5), (8, 8), (40, 40)),
        (small_agent(num_actions=1), (6, 10), (18, 30)),
    ],
    ids=["7 actions", "longer history", "longer upsampler history", "no upsampler", "51 actions", "1 action"],
)
def test_nothing_is_tied_to_the_published_sizes(
    tmp_path: Path, agent: AgentConfig, low_res: tuple[int, int], full_res: tuple[int, int] | None
) -> None:
    release = read_release(make_release(tmp_path / "release", agent, low_res))
    assert release.agent == agent
    assert (release.low_res, release.full_res) == (low_res, full_res)
    assert release.action_space.size == agent.num_actions
    (spawn,) = release.spawns()
    sizes = release.sizes
    assert spawn.low_res.shape == (sizes.denoiser_history, 3, *low_res)
    if full_res is None:
        assert spawn.full_res is None
        assert load_release_agent(release).upsampler is None
    else:
        assert spawn.full_res is not None
        assert spawn.full_res.shape == (sizes.upsampler_history, 3, *full_res)
        assert load_release_agent(release).upsampler is not None


def test_half_precision_weights_are_played_in_float32(release: Path) -> None:
    weights = torch.load(release / CHECKPOINT, weights_only=True)
    torch.save({name: weight.half() for name, weight in weights.items()}, release / CHECKPOINT)
    loaded = load_release_agent(release).state_dict()
    assert all(torch.equal(loaded[name], weight.half().float()) for name, weight in weights.items())


def test_an_unknown_number_of_actions_gets_a_key_each() -> None:
    space = action_space(40)
    assert space.size == len(set(space.keys)) == 40
    assert space.encode(space.decode(np.eye(40)[39])).tolist() == np.eye(40)[39].tolist()
    assert space.labels[space.keys[3]] == "action 3"


# Directories.


def test_what_is_no_release_is_told_apart_from_a_damaged_one(release: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "repository").mkdir()
    shutil.copytree(release, tmp_path / "repository" / "csgo")
    for path, complaint in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "file", "is not a directory"),
        (tmp_path, "lacks config/agent/csgo.yaml"),
        (tmp_path / "repository", rf"Fix: give {tmp_path}/repository/csgo"),
    ):
        with pytest.raises(DiamondError, match=complaint):
            read_release(path)


@pytest.mark.parametrize("name", [ENV_YAML, CHECKPOINT])
def test_a_missing_file_is_named(release: Path, name: str) -> None:
    (release / name).unlink()
    with pytest.raises(DiamondError, match=name):
        read_release(release)


def test_a_release_without_spawns_is_refused(release: Path) -> None:
    shutil.rmtree(release / "spawn")
    with pytest.raises(DiamondError, match="holds no spawn"):
        read_release(release)
