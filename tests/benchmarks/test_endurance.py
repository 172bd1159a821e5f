"""The detectors catch what they are named for, wherever their limits come from, and leave a healthy world alone."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from benchmarks.detectors import DETECTORS, IN_A_ROW, Limits, Look, distance, motion, rows_of
from benchmarks.held_out import held_out
from benchmarks.limits import RARE, control, from_recordings, from_spawns, turned
from benchmarks.long_play import endure, filled, line, totals, watch
from benchmarks.wandering import wander
from engine.actions import Action, ActionSpace
from engine.errors import DiamondError
from tests.benchmarks.panorama import SIZES, SPACE, PanoramaWorld, Place, record_folder

FRAMES, BREAKS = 120, 30


def blurred(shown: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(shown).filter(ImageFilter.GaussianBlur(4)))


def broken(kind: str) -> PanoramaWorld:
    """A world that is well until frame `BREAKS`."""
    kept: list[np.ndarray] = []

    def change(shown: np.ndarray, index: int) -> np.ndarray:
        if index < BREAKS:
            kept[:] = [shown]
            return shown
        noise = np.random.default_rng(index).integers(-1, 2, shown.shape)  # every frame is drawn anew
        if kind == "frozen":
            return (kept[0] + noise).clip(0, 255).astype(np.uint8)
        if kind == "flat":
            return (np.full_like(shown, (120, 90, 60)) + noise).astype(np.uint8)
        if kind == "mush":
            return blurred(shown)
        return (shown // 4 + np.array([190, 0, 0])).astype(np.uint8)  # drift: everything turns red

    return PanoramaWorld(change)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plays = [np.stack(list(itertools.islice(wander(SPACE, 90 + seed), 200))) for seed in range(6)]
    return record_folder(tmp_path_factory.mktemp("panorama"), plays, held_out=6)


@pytest.fixture(scope="module")
def limits(recordings: Path) -> dict[str, Limits]:
    episodes = held_out(recordings, PanoramaWorld().manifest, IN_A_ROW)
    spawns = [PanoramaWorld().reset(spawn).rgb for spawn in range(3)]
    return {
        "recordings": from_recordings(episodes[:3], SIZES, SPACE),
        "spawns": from_spawns(spawns),
    }


@pytest.mark.parametrize("source", ["recordings", "spawns"])
def test_a_healthy_world_raises_no_alarm(limits: dict[str, Limits], source: str) -> None:
    for spawn in range(3):
        found = endure(PanoramaWorld(), spawn, FRAMES, limits[source], 0)  # type: ignore[arg-type]
        counts = found.log.to_json()
        assert all(row["alarms"] == 0 and row["first"] is None for row in counts.values()), counts
        assert counts["mush"]["judged"] == FRAMES
        assert 10 < (counts["frozen"]["judged"] or 0) < FRAMES, "frames without a turn are not judged"


@pytest.mark.parametrize("source", ["recordings", "spawns"])
@pytest.mark.parametrize("kind", DETECTORS)
def test_each_kind_of_damage_is_caught_by_its_detector_when_it_begins(
    limits: dict[str, Limits], source: str, kind: str
) -> None:
    found = endure(broken(kind), 0, FRAMES, limits[source], 0)  # type: ignore[arg-type]
    counts = found.log.to_json()
    judged_from = [
        frame
        for frame, flag in enumerate(found.log.flags[kind], start=1)
        if frame >= BREAKS and flag is not None
    ]
    assert counts[kind]["alarms"] == 1, counts
    assert counts[kind]["first"] in judged_from[:2], (counts, judged_from[:2])
    assert f"{kind} from {counts[kind]['first']}" in line(found)


def test_blur_is_told_from_a_bare_wall(limits: dict[str, Limits]) -> None:
    wall = np.full((15, 28, 3), 90, np.uint8)
    wall[::2, ::2] += 2  # faint, and as sharp as can be
    flags = limits["recordings"].flags(Look.of(wall), None)
    assert (flags["flat"], flags["mush"]) == (True, False)


def test_sharpness_is_told_by_the_hundred_frames_relative_to_the_reference(limits: dict[str, Limits]) -> None:
    report = endure(broken("mush"), 0, 250, limits["recordings"], 0).to_json()  # type: ignore[arg-type]
    assert len(report["sharpness"]) == 3
    assert report["sharpness"][0] > 1.4 * report["sharpness"][1]
    assert endure(PanoramaWorld(), 0, 100, limits["recordings"], 0).to_json()["sharpness"] == [  # type: ignore[arg-type]
        pytest.approx(1, abs=0.1)
    ]


def test_real_play_by_its_own_limits_is_clean_and_rarely_fires(
    recordings: Path, limits: dict[str, Limits]
) -> None:
    episodes = held_out(recordings, PanoramaWorld().manifest, IN_A_ROW)[3:]
    found = totals(control(episodes, SIZES, SPACE, limits["recordings"]))
    for name, row in found.items():
        assert row["alarms"] == row["rollouts"] == 0, found
        assert row["fired"] <= 10 * RARE * row["judged"], (name, row)
    assert found["flat"]["judged"] == 3 * 199


def test_a_refusal_ends_the_rollout_and_is_told(limits: dict[str, Limits]) -> None:
    def refuse(shown: np.ndarray, index: int) -> np.ndarray:
        if index == 30:
            raise DiamondError("the denoiser painted NaN")
        return shown

    found = endure(PanoramaWorld(refuse), 1, FRAMES, limits["spawns"], 0)  # type: ignore[arg-type]
    assert found.to_json()["frames"] == 29
    assert "ENDED, frame 30: the denoiser painted NaN" in line(found)
    rows = filled([found.sheet, endure(PanoramaWorld(), 0, 64, limits["spawns"], 0).sheet])  # type: ignore[arg-type]
    assert [len(row) for row in rows] == [3, 3]
    assert not rows[0][2].any()
    assert rows[0][1].any()


def test_rows_count_from_where_they_begin_and_skip_what_was_not_judged() -> None:
    flags = [False, *[True, None] * IN_A_ROW, False, *[True] * (IN_A_ROW - 1), False]
    assert rows_of(flags) == {
        "judged": 2 * IN_A_ROW + 2,
        "fired": 2 * IN_A_ROW - 1,
        "longest": IN_A_ROW,
        "alarms": 1,
        "first": 2,
    }
    assert rows_of([None] * 40)["first"] is None


def test_palettes_differ_by_as_much_as_a_picture_brightens() -> None:
    picture = Place(0).picture() // 2
    first, second = Look.of(picture), Look.of(picture + 10)
    assert distance(second.palette, first.palette[None]) == pytest.approx(10)
    assert distance(Look.of(picture[:, ::-1]).palette, first.palette[None]) == 0
    assert motion(picture, picture + 10) == 10
    assert Look.of(np.full((4, 6, 3), 7, np.uint8)).crispness == 0


def test_other_real_play_is_judged_by_the_limits_that_are_given(
    recordings: Path, limits: dict[str, Limits]
) -> None:
    bundle: Any = SimpleNamespace(manifest=PanoramaWorld().manifest)
    healthy = totals(watch(bundle, recordings, limits["recordings"]))["flat"]
    severe = replace(limits["recordings"], contrast=1e6, edges=1.1)
    flat = totals(watch(bundle, recordings, severe))["flat"]
    assert healthy["judged"] == flat["judged"] == 6 * 199
    assert healthy["fired"] < 0.1 * healthy["judged"]
    assert (flat["fired"], flat["rollouts"]) == (6 * 199, 6)


def test_a_turn_is_told_from_the_action_vector() -> None:
    vectors = np.stack([SPACE.encode(Action(mouse_dx=dx)) for dx in (-60, -20, -10, 0, 4, 20, 1000)])
    assert turned(SPACE, vectors).tolist() == [True, True, False, False, False, True, True]
    assert not turned(SPACE, np.zeros((1, 51), np.float32)).any(), "no motion is known"


def test_the_script_repeats_moves_on_and_looks_straight_again() -> None:
    def first(space: ActionSpace, seed: int, count: int) -> np.ndarray:
        return np.stack(list(itertools.islice(wander(space, seed), count)))

    rows = first(SPACE, 1, 1000)
    assert np.array_equal(rows, first(SPACE, 1, 1000))
    assert not np.array_equal(rows, first(SPACE, 2, 1000))
    used = dict(zip(SPACE.keys, rows.mean(axis=0), strict=False))
    assert all(used[key] > 0.03 for key in "wasd"), used
    assert 0.01 < rows[:, len(SPACE.keys)].mean() < 0.3, "it fires now and then"
    actions = [SPACE.decode(row) for row in rows]
    assert abs(np.cumsum([action.mouse_dy for action in actions])).max() <= 4 * 20
    assert {np.sign(action.mouse_dx) for action in actions} == {-1, 0, 1}
    plain = ActionSpace(keys=("a",), mouse_x=(), mouse_y=(), buttons=())
    assert first(plain, 1, 300).shape == (300, 1)


def test_the_command_writes_sheet_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import benchmarks.configuration
    from benchmarks.endurance import app
    from engine.bundle import Bundle, write_bundle
    from engine.world import World
    from tests.engine.doubles import NumpyBackend
    from tests.engine.tiny_world import world_files, world_json

    manifest = world_json()
    path = write_bundle(tmp_path / "tiny", manifest, world_files(tmp_path, manifest))
    monkeypatch.setattr(
        benchmarks.configuration.Config,
        "load",
        lambda self, world, verify=True, seed=0: World(Bundle.open(world), NumpyBackend(), seed=seed),
    )
    sheet, kept = tmp_path / "sheet.png", tmp_path / "machine.json"
    arguments = [str(path), "--frames", "20", "--sheet", str(sheet), "--json", str(kept)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.splitlines()[-1])
    assert json.loads(kept.read_text())["reports"] == [report]
    assert (report["benchmark"], report["frames"], report["real"]) == ("endurance", 20, None)
    assert [row["frames"] for row in report["spawns"]] == [20, 20]
    assert set(report["imagined"]) == set(DETECTORS)
    with Image.open(sheet) as picture:
        assert picture.size[0] > picture.size[1] / 2  # two rows of frames 0 and 16
