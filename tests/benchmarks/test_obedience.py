"""The probe learns what every intent looks like, and when; a world that obeys is told from one that does not."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.held_out import Start, held_out, starts
from benchmarks.intents import FIRE, MOVE, STRAFE, TURN, UNSURE, heads_of, labels, script
from benchmarks.inverse import FRAMES, Probe, ProbeConfig, load_probe, save_probe, train_probe
from benchmarks.readback import (
    Clip,
    accuracies,
    balanced,
    confusions,
    open_starts,
    ratios,
    recorded,
    scripted_plays,
    true_plays,
)
from benchmarks.return_view import return_views
from engine.actions import Action, ActionSpace
from engine.errors import DiamondError
from tests.benchmarks.panorama import SIZES, SPACE, PanoramaWorld, Place, record_folder
from train.data.episode import Episode
from train.data.folder import episode_paths

CONFIG = ProbeConfig(steps=150, batch=64, width=12, learning_rate=5e-3)
RIGHT, GUESSED = 0.9, 0.62  # more than this is reading, less is not


def quiet(line: str) -> None:
    """Nobody reads it."""


def play(seed: int, frames: int = 200) -> np.ndarray:
    """Keys held for some frames, and a turn that is drawn anew in every frame: float32 (frames, 51)."""
    random = np.random.default_rng(seed)
    vectors: list[np.ndarray] = []
    while len(vectors) < frames:
        keys = {str(random.choice(["w", "s", "-"])), str(random.choice(["a", "d", "-"]))}
        fire = bool(random.random() < 0.5)
        for _ in range(random.integers(5, 9)):
            units = float(random.choice([-60, 0, 60]))
            vectors.append(SPACE.encode(Action(keys, units, left_click=fire)))
    return np.stack(vectors[:frames])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_folder(tmp_path_factory.mktemp("panorama"), [play(seed) for seed in range(8)], held_out=2)


@pytest.fixture(scope="module")
def learned(data: Path) -> list[Episode]:
    return [Episode(path) for path in episode_paths(data, "train")]


@pytest.fixture(scope="module")
def unseen(data: Path) -> list[Episode]:
    return held_out(data, PanoramaWorld().manifest, 64)


@pytest.fixture(scope="module")
def probe(learned: list[Episode]) -> Iterator[Probe]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train_probe(learned, SPACE, CONFIG, quiet)
    torch.set_num_threads(threads)


def read(probe: Probe, clips: Any) -> dict[str, float]:
    """Balanced accuracy by head."""
    return {
        name: row["accuracy"]
        for name, row in accuracies(probe.heads, confusions(probe, SPACE, clips)).items()
    }


def some_starts(episodes: list[Episode], count: int = 4) -> list[Start]:
    return starts(episodes, SIZES, count, 40)


# What the probe reads.


def test_a_probe_reads_every_intent_from_recordings_it_has_not_seen(
    probe: Probe, unseen: list[Episode]
) -> None:
    found = read(probe, [recorded(episode) for episode in unseen])
    assert set(found) == {"turn", "move", "strafe", "fire"}
    assert min(found.values()) > RIGHT, found


def test_action_t_is_read_from_the_frames_that_it_led_to(
    probe: Probe, learned: list[Episode], unseen: list[Episode]
) -> None:
    """Turns are drawn anew in every frame, so that an answer for a neighbour's action is worth nothing."""
    clips = [recorded(episode) for episode in unseen]
    assert read(probe, clips)["turn"] > RIGHT
    for lag in (1, -1):  # the same frames, with the actions of the frame before or after
        shifted = [Clip(clip.frames[1:-1], clip.actions[1 - lag :]) for clip in clips]
        assert read(probe, shifted)["turn"] < GUESSED, lag

    def best(shift: int) -> float:
        """What a probe gets that is asked about action t + shift."""
        config = ProbeConfig(80, 48, 8, 5e-3, shift=shift)
        asked = train_probe(learned[:4], SPACE, config, quiet)
        moved = [Clip(c.frames[2:-2], c.actions[2 + shift :]) for c in clips]
        return read(asked, moved)["turn"]

    by_shift = {shift: best(shift) for shift in (-1, 0, 2)}
    assert by_shift[0] > RIGHT, by_shift
    assert max(by_shift[-1], by_shift[2]) < GUESSED, by_shift


def test_a_world_that_obeys_is_told_from_one_that_is_deaf_and_from_one_that_is_late(
    probe: Probe, unseen: list[Episode]
) -> None:
    def late(shown: np.ndarray, index: int) -> np.ndarray:
        kept.append(shown)
        return kept[-2] if index > 0 and len(kept) > 1 else shown

    kept: list[np.ndarray] = []
    found = {
        name: (
            read(probe, [other for _, other in true_plays(world, some_starts(unseen), 40)]),
            read(probe, scripted_plays(world, some_starts(unseen), 0)),
        )
        for name, world in (
            ("obeys", PanoramaWorld()),
            ("deaf", PanoramaWorld(deaf=True)),
            ("late", PanoramaWorld(late)),
        )
    }
    for played in found["obeys"]:
        assert min(played.values()) > RIGHT, found
    for played in found["deaf"]:
        assert max(played[head] for head in ("turn", "move", "strafe", "fire")) < GUESSED, found
    assert found["late"][0]["turn"] < GUESSED, found


def test_true_plays_pair_the_same_stretch_with_the_same_actions(unseen: list[Episode]) -> None:
    start = some_starts(unseen)[1]
    ((real, imagination),) = true_plays(PanoramaWorld(), [start], 20)
    assert real.frames.shape == imagination.frames.shape == (21, 15, 28, 3)
    np.testing.assert_array_equal(real.actions[:20], imagination.actions)
    np.testing.assert_array_equal(real.frames[:, :10], imagination.frames[:, :10], "the same turns")


def test_equal_seeds_make_equal_probes_and_a_file_keeps_one(tmp_path: Path, learned: list[Episode]) -> None:
    config = ProbeConfig(3, 16, 4)
    first, second = (train_probe(learned[:2], SPACE, config, quiet) for _ in range(2))
    file = tmp_path / "probe.safetensors"
    save_probe(file, first, {"settings": {"steps": 3}})
    kept = load_probe(file, SPACE, config, {"settings": {"steps": 3}})
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, second.state_dict()[name])
        assert torch.equal(weights, kept.state_dict()[name])
    with pytest.raises(DiamondError, match="settings differ"):
        load_probe(file, SPACE, config, {"settings": {"steps": 4}})
    file.write_bytes(b"something else")
    with pytest.raises(DiamondError, match="cannot be read"):
        load_probe(file, SPACE, config, {})


def test_a_clip_gets_an_answer_for_every_action_whose_frames_it_holds(probe: Probe) -> None:
    frames = np.stack([Place(0).picture()] * 9)
    answers = probe.read(frames, batch=4)
    assert {name: len(those) for name, those in answers.items()} == dict.fromkeys(answers, 9 - FRAMES + 1)
    np.testing.assert_array_equal(answers["move"], probe.read(frames)["move"])


def test_what_nobody_plays_cannot_be_learned(tmp_path: Path) -> None:
    idle = np.tile(SPACE.idle(), (12, 1))
    folder = record_folder(tmp_path, [idle], held_out=0)
    with pytest.raises(DiamondError, match="nobody plays turn left"):
        train_probe([Episode(path) for path in episode_paths(folder)], SPACE, CONFIG, quiet)


# Intents.


def vectors(*actions: Action) -> np.ndarray:
    return np.stack([SPACE.encode(action) for action in actions])


def test_a_turn_has_a_size_and_a_faint_one_is_unsure() -> None:
    found = labels(SPACE, vectors(*[Action(mouse_dx=dx) for dx in (-300, -20, -10, -4, 0, 10, 20)]), TURN)
    assert found.tolist() == [0, 0, UNSURE, 1, 1, UNSURE, 2]
    assert labels(SPACE, np.zeros((2, 51)), TURN).tolist() == [UNSURE, UNSURE], "no motion is known"


@pytest.mark.parametrize(
    ("head", "key", "wanted"), [(MOVE, "w", 0), (MOVE, "s", 2), (STRAFE, "a", 0), (STRAFE, "d", 2)]
)
def test_a_key_counts_once_it_has_been_held(head: Any, key: str, wanted: int) -> None:
    held = vectors(*[Action({key})] * 5, *[Action()] * 5)
    assert labels(SPACE, held, head).tolist() == [*[UNSURE] * 3, wanted, wanted, *[UNSURE] * 3, 1, 1]


def test_fire_counts_once_it_has_been_held() -> None:
    held = vectors(*[Action(left_click=True)] * 3, Action(), Action(), Action())
    assert labels(SPACE, held, FIRE).tolist() == [UNSURE, UNSURE, 1, UNSURE, UNSURE, 0]


def test_the_script_plays_every_intent_once_in_an_order_that_is_drawn() -> None:
    first, second = (script(SPACE, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.shape == (48, 51)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(second, axis=0))
    for head in (TURN, MOVE, STRAFE, FIRE):
        assert set(labels(SPACE, first, head)) - {UNSURE} == set(range(len(head.classes)))
    plain = ActionSpace(keys=("a", "d"), mouse_x=(), mouse_y=(), buttons=())
    assert heads_of(plain) == (STRAFE,)
    assert script(plain, np.random.default_rng(0)).shape == (18, 2)


def test_starts_are_chosen_where_the_recorded_player_walks_ahead(tmp_path: Path) -> None:
    walking = vectors(*[Action({"s"})] * 60, *[Action({"w"})] * 30, *[Action({"a"})] * 60)
    folder = record_folder(tmp_path, [walking, walking], held_out=2)
    episodes = held_out(folder, PanoramaWorld().manifest, 20)
    found = open_starts(episodes, SIZES, SPACE, 3)
    assert len(found) == 3
    assert len({id(start.episode) for start in found}) == 2
    assert all(55 <= start.newest <= 75 for start in found), [start.newest for start in found]


# Counting.


def test_balanced_accuracy_gives_every_class_that_occurs_one_vote() -> None:
    counts = np.array([[90, 10, 0], [0, 0, 0], [5, 0, 5]])
    assert balanced(counts) == pytest.approx((0.9 + 0.5) / 2)
    assert balanced(np.zeros((2, 2), np.int64)) is None
    row = accuracies([TURN], {"turn": counts})["turn"]
    assert row["recall"] == {"left": 0.9, "none": None, "right": 0.5}
    assert (row["frames"], row["confusion"][2]) == (110, [5, 0, 5])
    assert ratios({"turn": row}, {"turn": row | {"accuracy": 0.875}}) == {"turn": 0.8}
    assert ratios({"turn": row | {"accuracy": None}}, {"turn": row}) == {"turn": None}


# Looking away and back.


def test_a_place_is_still_there_after_looking_away_and_a_forgetful_world_loses_it(
    unseen: list[Episode],
) -> None:
    def forgets(shown: np.ndarray, index: int) -> np.ndarray:
        return shown if index <= 8 else np.roll(shown, 3 * index, axis=1)

    def views(change: Callable[[np.ndarray, int], np.ndarray] | None, deaf: bool = False) -> Any:
        return return_views(PanoramaWorld(change, deaf), some_starts(unseen), 0)  # type: ignore[arg-type]

    for row in views(None):
        assert row["psnr"]["returned"] == row["psnr"]["idled"] == 99
        assert row["psnr"]["away"] < 25
        assert row["psnr"]["elsewhere"] < 25
        assert row["kept"] == {"psnr": 1, "ssim": 1}
    assert [row["frames"] for row in views(None)] == [4, 8]
    assert all(row["psnr"]["returned"] < 30 for row in views(forgets))
    assert all(row["ssim"]["away"] == 1 for row in views(None, deaf=True)), "it never turned, and that shows"


# The command.


def test_the_command_ends_in_json_and_reads_the_kept_probe(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import benchmarks.configuration
    from benchmarks.obedience import app
    from engine.bundle import Bundle, write_bundle
    from engine.world import World
    from tests.engine.doubles import NumpyBackend
    from tests.engine.tiny_world import world_files, world_json

    manifest = world_json(SIZES)
    path = write_bundle(tmp_path / "tiny", manifest, world_files(tmp_path, manifest, SIZES))
    monkeypatch.setattr(
        benchmarks.configuration.Config,
        "load",
        lambda self, world, verify=True, seed=0: World(Bundle.open(world), NumpyBackend(), seed=seed),
    )
    kept, report_file = tmp_path / "probe.safetensors", tmp_path / "machine.json"
    arguments = [str(path), "--data", str(data), "--probe", str(kept), "--probe-steps", "2", "--starts", "2"]
    arguments += ["--frames", "12", "--json", str(report_file)]
    for words in ("probe", ""):  # trained, then read
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (words, done.output, done.exception)
    report = json.loads(done.stdout.splitlines()[-1])
    assert json.loads(report_file.read_text())["reports"] == [report]
    assert set(report["ratio_true"]) == {"turn", "move", "strafe", "fire"}
    assert report["imagined_scripted"]["turn"]["frames"] > 40
    assert len(report["return_view"]) == 2
    assert "| turn | 33% |" in done.stdout

    done = CliRunner().invoke(app, [*arguments[:6], "3"])
    assert isinstance(done.exception, DiamondError)
    assert "settings differ" in str(done.exception)
