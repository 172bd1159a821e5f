"""Published releases: configs, weights and spawns, exactly as released or refused by name."""

import math
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.actions import KEYBOARD_MOUSE_51
from engine.errors import DiamondError
from tests.train.releases import edit_yaml, make_release, small_agent
from train.model import AgentConfig
from train.release import CHECKPOINT, action_space, load_release_agent, read_release
from train.release_config import AGENT_YAML, ENV_YAML

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


# Configs.


@pytest.mark.parametrize("target", ["os.system", None, 5, ["a"], ...])
def test_targets_are_ignored_whatever_they_name(release: Path, target: object) -> None:
    for field in ("_target_", "denoiser._target_", "upsampler.inner_model._target_"):
        edit_yaml(release / AGENT_YAML, field, target)
    assert read_release(release).agent == small_agent()


def test_only_the_number_of_actions_is_read_from_the_env(release: Path) -> None:
    (release / ENV_YAML).write_text(
        "num_actions: 7\ntrain: {size: '${oc.env:HOME}'}\nanything: [1, {a: null}]\n"
    )
    assert read_release(release).agent.num_actions == 7


BAD_FIELDS: list[tuple[str, str, Any, str]] = [
    *(
        (AGENT_YAML, field, ..., f"lacks {field}")
        for field in (
            *("denoiser", "upsampler", "rew_end_model", "actor_critic", "denoiser.sigma_data"),
            *("upsampler.inner_model", "denoiser.inner_model.depths", "upsampler.inner_model.cond_channels"),
        )
    ),
    (ENV_YAML, "num_actions", ..., "lacks num_actions"),
    (AGENT_YAML, "diffuser", 1, "unknown diffuser"),
    (AGENT_YAML, "denoiser.sigma_max", 1, r"unknown denoiser\.sigma_max"),
    (AGENT_YAML, "upsampler.inner_model.num_actions", 51, r"unknown upsampler\.inner_model\.num_actions"),
    (AGENT_YAML, "denoiser", None, "denoiser is None"),
    (AGENT_YAML, "denoiser.inner_model", [1], r"denoiser\.inner_model is \[1\]"),
    (AGENT_YAML, "upsampler", 5, "upsampler is 5"),
    (AGENT_YAML, "rew_end_model", {"a": 1}, "rew_end_model is not null"),
    (AGENT_YAML, "actor_critic", {"a": 1}, "actor_critic is not null"),
    (AGENT_YAML, "denoiser.sigma_data", "half", r"denoiser\.sigma_data is 'half'"),
    (AGENT_YAML, "denoiser.sigma_data", 0, r"denoiser\.sigma_data is 0"),
    (AGENT_YAML, "denoiser.sigma_data", math.inf, r"denoiser\.sigma_data is inf"),
    (AGENT_YAML, "denoiser.sigma_data", True, r"denoiser\.sigma_data is True"),
    (AGENT_YAML, "upsampler.sigma_offset_noise", -0.1, r"upsampler\.sigma_offset_noise is -0\.1"),
    (AGENT_YAML, "upsampler.sigma_offset_noise", math.nan, r"upsampler\.sigma_offset_noise is nan"),
    (AGENT_YAML, "denoiser.noise_previous_obs", 1, r"denoiser\.noise_previous_obs is 1"),
    (AGENT_YAML, "denoiser.upsampling_factor", 5, r"denoiser\.upsampling_factor is 5"),
    (AGENT_YAML, "upsampler.upsampling_factor", None, r"upsampler\.upsampling_factor is None"),
    (AGENT_YAML, "upsampler.upsampling_factor", 2.5, r"upsampler\.upsampling_factor is 2\.5"),
    (AGENT_YAML, "denoiser.inner_model.img_channels", 1, r"denoiser\.inner_model\.img_channels is 1"),
    (AGENT_YAML, "denoiser.inner_model.depths", 2, r"denoiser\.inner_model\.depths is 2"),
    (AGENT_YAML, "denoiser.inner_model.depths", [1, 10**9], r"denoiser\.inner_model\.depths is \[1, 10+\]"),
    (AGENT_YAML, "denoiser.inner_model.depths", [1] * 1000, r"denoiser\.inner_model\.depths is \[1, 1"),
    (AGENT_YAML, "denoiser.inner_model.depths", [], r"denoiser\.inner_model\.depths is \[\]"),
    (AGENT_YAML, "denoiser.inner_model.depths", [1], "different lengths"),
    (
        AGENT_YAML,
        "denoiser.inner_model.channels",
        [8, "16"],
        r"denoiser\.inner_model\.channels is \[8, '16'\]",
    ),
    (
        AGENT_YAML,
        "denoiser.inner_model.channels",
        [8, 10**9],
        r"denoiser\.inner_model\.channels is \[8, 10+\]",
    ),
    (AGENT_YAML, "denoiser.inner_model.cond_channels", 15, r"denoiser\.inner_model: .*cond_channels 15"),
    (
        AGENT_YAML,
        "denoiser.inner_model.attn_depths",
        [0, 2],
        r"denoiser\.inner_model\.attn_depths is \[0, 2\]",
    ),
    (
        AGENT_YAML,
        "denoiser.sigma_data",
        "${a.b}",
        r"denoiser\.sigma_data is '\$\{a\.b\}'(.|\n)*not evaluated",
    ),
    (AGENT_YAML, "denoiser.inner_model", "${a}", r"denoiser\.inner_model is '\$\{a\}'(.|\n)*not evaluated"),
    (ENV_YAML, "num_actions", "${eval:51}", r"num_actions is '\$\{eval:51\}'(.|\n)*not evaluated"),
    (ENV_YAML, "num_actions", 0, "num_actions is 0"),
    (ENV_YAML, "num_actions", 51.0, r"num_actions is 51\.0"),
]


@pytest.mark.parametrize(("file", "field", "value", "complaint"), BAD_FIELDS)
def test_a_wrong_field_is_refused_by_file_and_dotted_name(
    release: Path, file: str, field: str, value: object, complaint: str
) -> None:
    edit_yaml(release / file, field, value)
    with pytest.raises(DiamondError, match=complaint) as caught:
        read_release(release)
    assert str(release / file) in caught.value.what


def test_a_yaml_bomb_in_place_of_a_config_is_refused(release: Path) -> None:
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (release / AGENT_YAML).write_text("\n".join(lines))
    with pytest.raises(DiamondError, match="anchor or alias"):
        read_release(release)


# Checkpoints.


class _Command:
    """Unpickled, this runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["archive", "archive beside weights", "legacy", "bare pickle"])
def test_a_malicious_pickle_is_refused_and_nothing_of_it_runs(
    release: Path, tmp_path: Path, form: str
) -> None:
    checkpoint, payload = release / CHECKPOINT, tmp_path / "payload"
    attack = _Command(f"touch {payload}")
    if form == "archive":
        torch.save(attack, checkpoint)
    elif form == "archive beside weights":
        torch.save({**torch.load(checkpoint, weights_only=True), "more": attack}, checkpoint)
    elif form == "legacy":
        torch.save(attack, checkpoint, _use_new_zipfile_serialization=False)
    else:
        checkpoint.write_bytes(pickle.dumps(attack))
    with pytest.raises(DiamondError, match=r"csgo\.pt") as caught:
        load_release_agent(release)
    assert not payload.exists()
    assert "weights_only" not in str(caught.value), "PyTorch's advice to load it unsafely is not passed on"
    if form.startswith("archive"):
        assert "refers to posix.system" in str(caught.value)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused_as_a_part(release: Path, fraction: float) -> None:
    data = (release / CHECKPOINT).read_bytes()
    (release / CHECKPOINT).write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(DiamondError, match="only a part of one"):
        load_release_agent(release)


def test_a_damaged_checkpoint_never_ends_in_a_traceback(release: Path) -> None:
    original, random = (release / CHECKPOINT).read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(original)
        for place in random.integers(0, len(data), 30):
            data[place] ^= int(random.integers(1, 256))
        (release / CHECKPOINT).write_bytes(data)
        try:
            load_release_agent(release)  # damage inside the weights themselves is for hashes to find
        except DiamondError as error:
            assert "csgo.pt" in error.what


def test_a_compressed_archive_is_refused_before_it_is_unpacked(release: Path) -> None:
    with zipfile.ZipFile(release / CHECKPOINT, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(DiamondError, match="compressed archive"):
        load_release_agent(release)


def _resave(release: Path, change: dict[str, Any]) -> None:
    weights = {**torch.load(release / CHECKPOINT, weights_only=True), **change}
    torch.save({name: weight for name, weight in weights.items() if weight is not ...}, release / CHECKPOINT)


CONV = "denoiser.inner_model.conv_in.weight"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({CONV: ...}, f"lacks {CONV}"),
        ({"denoiser.more": torch.zeros(1)}, r"has unknown denoiser\.more"),
        (
            {"actor_critic.w": torch.zeros(1)},
            r"has unknown actor_critic\.w \(networks found: actor_critic, denoiser",
        ),
        (
            {CONV: torch.zeros(8, 9, 3, 4)},
            r"has other sizes: .*conv_in\.weight \(8, 9, 3, 4\) instead of \(8, 9, 3, 3\)",
        ),
        ({CONV: torch.zeros(8, 9, 3, 3, dtype=torch.int8)}, r"is not a weight: a tensor of torch\.int8"),
        ({CONV: "zeros"}, "is not a weight: a str"),
        ({f"x{i}": torch.zeros(1) for i in range(9)}, "has unknown x0, x1, x2 and 6 more"),
    ],
)
def test_a_checkpoint_that_does_not_fit_says_how(
    release: Path, change: dict[str, Any], complaint: str
) -> None:
    _resave(release, change)
    with pytest.raises(DiamondError, match=complaint):
        load_release_agent(release)


def test_weights_of_an_upsampler_that_the_config_lacks_are_refused(release: Path) -> None:
    edit_yaml(release / AGENT_YAML, "upsampler", None)
    with pytest.raises(DiamondError, match=r"has unknown upsampler\."):
        load_release_agent(release)


# Spawns.


def test_spawns_come_in_the_order_of_their_names_as_text(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", spawns=12)
    (release / "spawn" / ".DS_Store").touch()
    names = [folder.name for folder in read_release(release).spawn_folders]
    assert names == ["0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9"]


def test_a_longer_recording_is_entered_at_its_end(release: Path) -> None:
    folder = release / "spawn" / "0"
    frames = np.random.default_rng(0).integers(0, 256, (9, 3, 6, 10), np.uint8)
    np.save(folder / "low_res.npy", frames)
    np.testing.assert_array_equal(read_release(release).spawns()[0].low_res, frames[-2:])


def test_a_spawn_may_have_no_recorded_future_and_actions_of_any_number_type(release: Path) -> None:
    folder = release / "spawn" / "0"
    for dtype in (np.uint8, np.int64, np.float64, np.bool_):
        np.save(folder / "act.npy", np.eye(7)[:2].astype(dtype))
        np.save(folder / "next_act.npy", np.zeros((0, 7), dtype))
        (spawn,) = read_release(release).spawns()
        assert spawn.next_actions.shape == (0, 7)
        np.testing.assert_array_equal(spawn.actions, np.eye(7)[:2])


@pytest.mark.parametrize(
    ("name", "array", "complaint"),
    [
        ("low_res", np.zeros((1, 3, 6, 10), np.uint8), r"at least 2, 3, 6, 10"),
        ("low_res", np.zeros((2, 3, 6, 10), np.float32), "is float32"),
        ("low_res", np.zeros((2, 6, 10, 3), np.uint8), r"is uint8 \(2, 6, 10, 3\)"),
        ("low_res", np.zeros((2, 3, 0, 10), np.uint8), r"is uint8 \(2, 3, 0, 10\)"),
        ("full_res", np.zeros((2, 3, 18, 29), np.uint8), r"at least 1, 3, 18, 30"),
        ("full_res", np.zeros((0, 3, 18, 30), np.uint8), r"at least 1, 3, 18, 30"),
        ("act", np.zeros((2, 6), np.uint8), "at least 2 vectors of 7"),
        ("act", np.zeros((1, 7), np.uint8), "at least 2 vectors of 7"),
        ("act", np.full((2, 7), 2, np.uint8), r"\[0\]: action vector: entry 0 is 2"),
        ("next_act", np.zeros(7, np.uint8), "any number of vectors of 7"),
        ("next_act", np.full((3, 7), np.nan), r"\[0\]: action vector: entry 0 is nan"),
        ("next_act", np.array([[{}] * 7], object), "without pickles"),
        ("next_act", None, "is missing"),
        ("low_res", b"\x93NUMPY", "cannot be read"),
        ("low_res", b"", "cannot be read"),
        ("low_res", pickle.dumps(np.zeros(3)), "cannot be read"),
    ],
)
def test_a_spawn_that_does_not_fit_is_refused_by_file(
    release: Path, name: str, array: Any, complaint: str
) -> None:
    path = release / "spawn" / "0" / f"{name}.npy"
    if array is None:
        path.unlink()
    elif isinstance(array, bytes):
        path.write_bytes(array)
    else:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(DiamondError, match=complaint) as caught:
        read_release(release).spawns()
    assert str(path) in caught.value.what


def test_a_spawn_of_another_size_than_the_first_is_refused(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", spawns=2)
    np.save(release / "spawn" / "1" / "low_res.npy", np.zeros((2, 3, 6, 11), np.uint8))
    with pytest.raises(DiamondError, match=r"spawn/1/low_res\.npy: is uint8 \(2, 3, 6, 11\)"):
        read_release(release).spawns()


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
