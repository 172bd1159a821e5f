"""A world: published rollouts, determinism, snapshots, live settings, and what it refuses."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import engine.loading as loading_module
from engine.actions import KEYBOARD_MOUSE_51
from engine.backends.base import Backend
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.frame import to_pixels, to_signed
from engine.history import Snapshot
from engine.loading import load_world
from engine.noise import SeededNoise
from engine.schedule import SamplerConfig
from engine.world import World
from tests.engine.doubles import (
    CASES,
    NumpyBackend,
    RecordedNoise,
    assert_same_picture,
    golden_frames,
    recorded_keys,
)
from tests.engine.playing import WALK, assert_same_frames, play
from tests.engine.tiny_world import PUBLISHED, TINY_LOW_RES, spawn_arrays

MakeWorld = Callable[..., Path]


def test_a_rollout_of_three_frames_equals_the_published_one(published: tuple[Bundle, Backend]) -> None:
    bundle, backend = published
    noise = RecordedNoise("rollout/t{frame}_{network}_")
    world = World(bundle, backend, "fp32", noise=noise)
    world.set_sampler("denoiser", SamplerConfig(steps=1, s_cond=0.005))
    fast = SamplerConfig(steps=1, sigma_min=1, order=2, s_churn=10, s_tmin=1, s_tmax=5, s_noise=0.9)
    world.set_sampler("upsampler", fast)
    world.reset(0)
    start = Snapshot(
        golden_frames("rollout/spawn_low_u8"),
        golden_frames("rollout/spawn_full_u8"),
        CASES["rollout/spawn_act"],
        index=0,
        spawn=0,
    )
    world.restore(start)
    for t, action in enumerate(CASES["rollout/actions"][0]):
        frame = world.step(action)
        assert frame.index == t + 1
        for name, pixels in (("low", frame.low_res), ("full", frame.rgb)):
            assert_same_picture(to_signed(pixels).transpose(2, 0, 1)[None], CASES[f"rollout/t{t}_{name}"])
    assert sorted(noise.used) == sorted(recorded_keys("rollout/")), "every recorded draw is used once"


def test_frames_have_the_promised_types_and_sizes(world: World) -> None:
    for index, frame in enumerate(play(world, WALK)):
        assert (frame.rgb.shape, frame.rgb.dtype) == ((70, 100, 3), np.dtype(np.uint8))
        assert (frame.low_res.shape, frame.low_res.dtype) == ((14, 20, 3), np.dtype(np.uint8))
        assert frame.rgb.flags.c_contiguous
        assert frame.index == index
        assert set(frame.timings_ms) == {
            *("conditioner", "denoiser", "upsampler", "sampler", "other", "total")
        }
        parts = sum(value for name, value in frame.timings_ms.items() if name != "total")
        assert parts == pytest.approx(frame.timings_ms["total"])
        assert min(frame.timings_ms.values()) >= 0


def test_reset_shows_the_newest_frame_of_the_spawn(world: World) -> None:
    frame = world.reset(1)
    arrays = spawn_arrays(world.manifest.sizes, 1)
    np.testing.assert_array_equal(frame.low_res, arrays["low_res"][-1].transpose(1, 2, 0))
    np.testing.assert_array_equal(frame.rgb, arrays["full_res"][-1].transpose(1, 2, 0))


def test_reset_without_a_number_cycles_through_the_spawns(world: World) -> None:
    assert world.spawn is None
    spawns: list[int | None] = []
    for _ in range(3):
        world.reset()
        spawns.append(world.spawn)
    assert spawns == [0, 1, 0]
    world.reset(1)
    world.reset()
    assert world.spawn == 0


def test_next_actions_are_those_of_the_spawn_and_cannot_be_written_to(world: World) -> None:
    assert world.next_actions.shape == (0, 51)
    world.reset(1)
    np.testing.assert_array_equal(world.next_actions, KEYBOARD_MOUSE_51.idle()[None])
    with pytest.raises(ValueError, match="read-only"):
        world.next_actions[...] = 0


def test_a_world_without_an_upsampler_shows_its_low_res_frames(
    make_world: MakeWorld, numpy_backend: NumpyBackend
) -> None:
    world = World(Bundle.open(make_world(TINY_LOW_RES)), numpy_backend)
    frame = play(world, WALK)[-1]
    assert frame.rgb.shape == (14, 20, 3)
    np.testing.assert_array_equal(frame.rgb, frame.low_res)
    assert not np.shares_memory(frame.rgb, frame.low_res)
    assert frame.timings_ms["upsampler"] == 0
    assert list(world.samplers) == ["denoiser"]
    with pytest.raises(DiamondError, match="no network 'upsampler'"):
        world.set_sampler("upsampler", SamplerConfig())


# The order of things in a step.


def test_the_newest_action_counts_at_once_and_ages_with_the_frames(world: World) -> None:
    world.reset(0)
    first, second = (KEYBOARD_MOUSE_51.encode(action) for action in WALK[:2])
    world.step(first)
    world.step(second)
    actions = world.snapshot().actions[0]
    np.testing.assert_array_equal(actions[1:3], [first, second])  # the last slot waits for the next action


def test_both_histories_end_with_the_frame_just_shown(world: World) -> None:
    frame = play(world, WALK)[-1]
    saved = world.snapshot()
    np.testing.assert_array_equal(to_pixels(saved.low_res[:, -3:]), frame.low_res)
    assert saved.full_res is not None
    np.testing.assert_array_equal(to_pixels(saved.full_res[:, -3:]), frame.rgb)


def test_an_action_and_its_vector_give_the_same_frames(world: World) -> None:
    frames = play(world, WALK)
    vectors = [KEYBOARD_MOUSE_51.encode(action) for action in WALK]
    assert_same_frames(frames, [world.reset(0), *(world.step(vector) for vector in vectors)])


def test_an_action_without_motion_bins_reaches_the_history_as_it_is(world: World) -> None:
    world.reset(0)
    world.step(np.zeros(51))
    assert not world.snapshot().actions[0, -2].any()


def test_the_conditioner_runs_once_a_frame_and_the_upsamplers_once_a_schedule(
    world: World, numpy_backend: NumpyBackend
) -> None:
    runs = {graph.spec.role: graph for graph in numpy_backend.loaded}
    world.set_preset("quality")  # 3 Heun steps and 2: 5 and 3 evaluations
    before = {role: graph.runs for role, graph in runs.items()}
    play(world, WALK)
    counted = {role: graph.runs - before[role] for role, graph in runs.items()}
    assert counted == {
        "denoiser_conditioner": len(WALK),
        "denoiser": 5 * len(WALK),
        "upsampler_conditioner": 0,
        "upsampler": 3 * len(WALK),
    }


# Determinism.


def test_the_same_seed_spawn_and_actions_give_the_same_frames_across_resets(world: World) -> None:
    first = play(world, WALK)
    play(world, WALK[:2], spawn=1)
    assert_same_frames(play(world, WALK), first)


def test_a_world_loaded_again_gives_the_same_frames(world: World) -> None:
    again = World(world.bundle, NumpyBackend(), seed=3)
    assert_same_frames(play(again, WALK), play(world, WALK))


def test_another_seed_gives_other_frames(world: World) -> None:
    other = World(world.bundle, NumpyBackend(), seed=4)
    assert (play(other, WALK)[-1].rgb != play(world, WALK)[-1].rgb).any()


def test_a_noise_source_replaces_the_seeded_noise(world: World) -> None:
    class Counting(SeededNoise):
        asked = 0

        def normal(self, name: str, shape: tuple[int, ...], frame: int) -> npt.NDArray[np.float32]:
            self.asked += 1
            return super().normal(name, shape, frame)

    noise = Counting(3)
    other = World(world.bundle, NumpyBackend(), seed=99, noise=noise)
    assert_same_frames(play(other, WALK), play(world, WALK))
    assert noise.asked == 4 * len(WALK)  # init and history; init and churn


def test_earlier_frames_are_not_changed_by_later_steps(world: World) -> None:
    frames = play(world, WALK)
    kept = [frame.rgb.copy() for frame in frames]
    play(world, WALK[::-1], spawn=1)
    for frame, pixels in zip(frames, kept, strict=True):
        np.testing.assert_array_equal(frame.rgb, pixels)


# Loading.


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[NumpyBackend]:
    """`load_world` opens numpy doubles; they are collected here."""
    backends: list[NumpyBackend] = []

    def open_double(name: str, threads: int | None, precision: str | None) -> NumpyBackend:
        backends.append(NumpyBackend())
        return backends[-1]

    monkeypatch.setattr(loading_module, "open_backend", open_double)
    return backends


def test_a_world_loads_with_sampler_settings_of_ones_own(
    make_world: MakeWorld, opened: list[NumpyBackend]
) -> None:
    own = SamplerConfig(steps=7, initial_std=5.0)
    with load_world(make_world(), preset="quality", seed=9, samplers={"denoiser": own}) as world:
        assert world.samplers["denoiser"] == own
        assert world.samplers["upsampler"] == world.manifest.presets["quality"].upsampler
        assert (world.preset, world.seed, world.name) == ("custom", 9, "tiny")


def test_a_world_that_fails_to_load_leaves_no_backend_open(
    make_world: MakeWorld, opened: list[NumpyBackend]
) -> None:
    with pytest.raises(DiamondError, match="no network 'critic'"):
        load_world(make_world(), samplers={"critic": SamplerConfig()})
    with pytest.raises(DiamondError, match="closed"):
        opened[0].loaded[0].run({})


# Live settings.


def test_presets_and_samplers_change_from_the_next_step_on(world: World) -> None:
    assert (world.preset, world.presets) == ("fast", ("fast", "quality"))
    fast = play(world, WALK)
    world.set_preset("quality")
    assert world.preset == "quality"
    assert world.samplers["denoiser"] == world.manifest.presets["quality"].denoiser
    assert (play(world, WALK)[-1].rgb != fast[-1].rgb).any()
    world.set_preset("fast")
    assert_same_frames(play(world, WALK), fast)


def test_a_changed_sampler_makes_the_preset_custom(world: World) -> None:
    world.set_sampler("upsampler", world.samplers["upsampler"])
    assert world.preset == "fast"
    more_steps = dataclasses.replace(world.samplers["upsampler"], steps=4)
    world.set_sampler("upsampler", more_steps)
    assert (world.preset, world.samplers["upsampler"]) == ("custom", more_steps)
    world.set_preset("fast")
    assert (world.preset, world.samplers["upsampler"].steps) == ("fast", 1)


def test_settings_may_change_in_the_middle_of_a_rollout(world: World) -> None:
    play(world, WALK[:2])
    world.set_preset("quality")
    assert world.step(WALK[2]).index == 3


def test_an_unknown_preset_is_refused_with_the_list(world: World) -> None:
    with pytest.raises(DiamondError, match=r"no preset 'best'.\n.*\['fast', 'quality'\]"):
        world.set_preset("best")
    with pytest.raises(DiamondError, match="no preset 'best'"):
        World(world.bundle, NumpyBackend(), preset="best")


# Refusals.


@pytest.mark.parametrize(
    "action", [[0.0] * 50, np.full(51, np.nan, np.float32), "w", None, np.ones(51), {"keys": ["w"]}]
)
def test_an_invalid_action_is_refused_and_changes_nothing(world: World, action: object) -> None:
    world.reset(0)
    with pytest.raises(DiamondError, match="action"):
        world.step(action)  # type: ignore[arg-type]
    assert_same_frames([world.step(WALK[0])], play(world, WALK[:1])[1:])


@pytest.mark.parametrize("network", ["denoiser", "upsampler"])
def test_nan_is_reported_not_painted_and_changes_nothing(
    world: World, numpy_backend: NumpyBackend, network: str
) -> None:
    expected = play(world, WALK[:2])
    world.reset(0)
    world.step(WALK[0])
    numpy_backend.poison.add(network)
    with pytest.raises(DiamondError, match=f"frame 2: the {network} painted NaN"):
        world.step(WALK[1])
    numpy_backend.poison.clear()
    assert_same_frames([world.step(WALK[1])], expected[2:])


def test_a_world_must_be_reset_before_it_is_played(world: World) -> None:
    with pytest.raises(DiamondError, match="no history yet"):
        world.step(WALK[0])
    with pytest.raises(DiamondError, match="no history yet"):
        world.snapshot()


def test_an_unknown_spawn_is_refused_and_changes_nothing(world: World) -> None:
    play(world, WALK)
    with pytest.raises(DiamondError, match="spawn 2"):
        world.reset(2)
    assert world.step(WALK[0]).index == len(WALK) + 1


def test_a_start_of_ones_own_plays_like_the_spawn_with_the_same_frames(world: World) -> None:
    from_spawn = play(world, WALK)
    start = world.bundle.spawn(0)
    first = world.begin(start)
    assert world.spawn is None
    assert_same_frames([first, *(world.step(action) for action in WALK)], from_spawn)


def test_a_snapshot_of_a_start_of_ones_own_can_be_restored(world: World) -> None:
    world.begin(world.bundle.spawn(1))
    saved = world.snapshot()
    expected = world.step(WALK[0])
    world.reset(0)
    world.restore(saved)
    assert len(world.next_actions) == 0
    assert_same_frames([world.step(WALK[0])], [expected])


def test_a_start_of_other_sizes_is_refused_and_changes_nothing(world: World) -> None:
    play(world, WALK)
    start = world.bundle.spawn(0)
    for wrong in (
        dataclasses.replace(start, low_res=start.low_res[:, :, 1:]),
        dataclasses.replace(start, full_res=None),
        dataclasses.replace(start, actions=start.actions * 2),
    ):
        with pytest.raises(DiamondError):
            world.begin(wrong)
    assert world.step(WALK[0]).index == len(WALK) + 1


def test_a_precision_the_world_lacks_is_refused_with_the_list(world: World) -> None:
    with pytest.raises(DiamondError, match=r"'fp16'.\n.*\['fp32'\]"):
        World(world.bundle, NumpyBackend(), precision="fp16")


def test_the_backends_favourite_precision_is_taken(make_world: MakeWorld) -> None:
    assert World(Bundle.open(make_world(precisions=("int8", "fp32"))), NumpyBackend()).precision == "fp32"


def test_a_world_without_the_favourite_precision_plays_its_first(make_world: MakeWorld) -> None:
    assert World(Bundle.open(make_world(precisions=("int8", "bf16"))), NumpyBackend()).precision == "int8"


def test_closing_twice_is_harmless_and_using_a_closed_world_is_not(world: World) -> None:
    world.reset(0)
    saved = world.snapshot()
    world.close()
    world.close()
    uses: list[Callable[[], object]] = [
        lambda: world.reset(0),
        lambda: world.step(WALK[0]),
        world.snapshot,
        lambda: world.restore(saved),
        lambda: world.set_preset("fast"),
        lambda: world.set_sampler("denoiser", SamplerConfig()),
    ]
    for use in uses:
        with pytest.raises(DiamondError, match="closed"):
            use()
    assert world.describe().startswith("tiny: fp32 on numpy double")


# Time.


def test_only_the_networks_count_as_networks(world: World) -> None:
    reset, stepped = play(world, WALK[:1])
    assert [reset.timings_ms[name] for name in ("conditioner", "denoiser", "upsampler", "sampler")] == [0] * 4
    assert stepped.timings_ms["denoiser"] > 0
    assert stepped.timings_ms["upsampler"] > 0
    assert 0 < stepped.timings_ms["conditioner"] < stepped.timings_ms["total"]
    assert 0 < stepped.timings_ms["sampler"] < stepped.timings_ms["total"]


def test_at_the_published_size_all_but_the_networks_takes_under_3_ms(make_world: MakeWorld) -> None:
    """3 + 10 steps with churn at 150x280: noise, sampler, histories, pixels."""
    world = World(Bundle.open(make_world(PUBLISHED)), NumpyBackend())
    world.set_sampler("denoiser", SamplerConfig(steps=3, s_cond=0.005))
    quality = SamplerConfig(steps=10, sigma_min=1, s_churn=10, s_tmin=1, s_tmax=5, s_noise=0.9)
    world.set_sampler("upsampler", quality)
    frames = play(world, WALK * 5)[1:]
    other_ms = [frame.timings_ms["sampler"] + frame.timings_ms["other"] for frame in frames]
    print(f"outside the networks: {min(other_ms):.2f} ms at best, {np.median(other_ms):.2f} ms median")
    assert min(other_ms) < 3  # the best, because others compute on this machine too
