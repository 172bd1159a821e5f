"""Whole frames on a device: replayed, called one by one, and in numpy, the frames are the same to the last bit.

Runs on a CPU in disguise everywhere, and on a GPU where there is one.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.bundle import Bundle
from engine.cuda.calls import KERNELS
from engine.cuda.frame_graph import FrameGraph
from engine.cuda.runtime import Cuda
from engine.errors import DiamondError
from engine.program.launches import NOISE, NOT_FINITE
from engine.schedule import SamplerConfig
from engine.world import World
from tests.engine.cuda.fake_cuda import Error, FakeCuda
from tests.engine.cuda.made_up import MadeUpBackend
from tests.engine.playing import WALK, assert_same_frames, play
from tests.engine.sampler_settings import CHANGES, SETTINGS, LoggedNoise
from tests.engine.tiny_world import TINY_LOW_RES

MakeWorld = Callable[..., Path]


@pytest.fixture
def bundle(make_world: MakeWorld) -> Bundle:
    return Bundle.open(make_world())


@pytest.fixture
def device_world(cuda: Cuda, bundle: Bundle) -> Iterator[Callable[..., World]]:
    """Makes worlds on the device; closes them."""
    worlds: list[World] = []

    def make(**options: Any) -> World:
        worlds.append(World(options.pop("bundle", bundle), MadeUpBackend(cuda), seed=3, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def set_samplers(world: World, settings: dict[str, SamplerConfig]) -> None:
    for network, config in settings.items():
        if network in world.samplers:
            world.set_sampler(network, config)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_replayed_frame_equals_its_direct_calls_and_numpy(
    device_world: Callable[..., World], bundle: Bundle, settings: str
) -> None:
    worlds = [device_world(), device_world(cuda_graph=False), World(bundle, MadeUpBackend(), seed=3)]
    for world in worlds:
        set_samplers(world, SETTINGS[settings])
    replayed, direct, host = (play(world, WALK * 4) for world in worlds)
    assert_same_frames(replayed, host)
    assert_same_frames(direct, host)
    for saved in (worlds[0].snapshot(), worlds[1].snapshot()):
        expected = worlds[2].snapshot()
        np.testing.assert_array_equal(saved.low_res, expected.low_res)
        np.testing.assert_array_equal(saved.full_res, expected.full_res)  # type: ignore[arg-type]
        np.testing.assert_array_equal(saved.actions, expected.actions)


def test_a_world_without_an_upsampler_plays_on_the_device(
    device_world: Callable[..., World], make_world: MakeWorld, tmp_path: Path
) -> None:
    bundle = Bundle.open(make_world(TINY_LOW_RES))
    host = World(bundle, MadeUpBackend(), seed=3)
    assert_same_frames(play(device_world(bundle=bundle), WALK), play(host, WALK))


def test_settings_change_in_the_middle_of_a_rollout(
    device_world: Callable[..., World], bundle: Bundle
) -> None:
    host, replayed = World(bundle, MadeUpBackend(), seed=3), device_world()
    for world in (host, replayed):
        world.reset(0)
    for settings in CHANGES:
        for world in (host, replayed):
            set_samplers(world, settings)
        assert_same_frames([replayed.step(action) for action in WALK], [host.step(action) for action in WALK])


def test_draws_of_another_source_are_uploaded_with_the_action(
    device_world: Callable[..., World], bundle: Bundle
) -> None:
    ours, theirs = LoggedNoise(8), LoggedNoise(8)
    host = World(bundle, MadeUpBackend(), noise=theirs)
    replayed = device_world(noise=ours)
    for world in (host, replayed):
        world.set_sampler("denoiser", SamplerConfig(steps=2, s_cond=0.1))
    assert_same_frames(play(replayed, WALK), play(host, WALK))
    assert ours.asked == theirs.asked


def test_snapshots_and_resets_work_as_in_numpy(device_world: Callable[..., World]) -> None:
    world = device_world()
    play(world, WALK[:2])
    saved = world.snapshot()
    first = [world.step(action) for action in WALK]
    play(world, WALK, spawn=1)
    world.restore(saved)
    assert_same_frames([world.step(action) for action in WALK], first)
    start = world.bundle.spawn(0)
    assert_same_frames([world.begin(start), world.step(WALK[0])], play(world, WALK[:1]))


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # the broken frame, as a picture
def test_nan_is_reported_and_changes_nothing(device_world: Callable[..., World], bundle: Bundle) -> None:
    world, host = device_world(), World(bundle, MadeUpBackend(), seed=3)
    play(world, WALK[:2])
    play(host, WALK[:2])
    good = world.snapshot()
    broken = good.low_res.copy()
    broken[0, -1, 3, 5] = np.nan
    world.restore(type(good)(broken, good.full_res, good.actions, good.index, good.spawn))
    before = world.snapshot()
    with pytest.raises(DiamondError, match="frame 3: the denoiser painted NaN"):
        world.step(WALK[2])
    after = world.snapshot()
    np.testing.assert_array_equal(after.low_res, before.low_res)
    np.testing.assert_array_equal(after.full_res, before.full_res)  # type: ignore[arg-type]
    world.restore(good)
    assert_same_frames([world.step(WALK[2])], [host.step(WALK[2])])


def test_only_the_direct_mode_tells_the_stages_apart(device_world: Callable[..., World]) -> None:
    replayed, direct = (play(device_world(cuda_graph=flag), WALK)[-1].timings_ms for flag in (True, False))
    stages = ("conditioner", "denoiser", "upsampler", "sampler")
    assert [replayed[name] for name in stages] == [0] * 4
    assert all(direct[name] > 0 for name in stages)
    for timings_ms in (replayed, direct):
        assert timings_ms["total"] > 0
        assert sum(timings_ms.values()) == pytest.approx(2 * timings_ms["total"])


# What is captured, and how often; seen in the disguise.


@pytest.fixture
def disguised(fake: FakeCuda, bundle: Bundle) -> Iterator[tuple[FakeCuda, World]]:
    with World(bundle, MadeUpBackend(Cuda()), seed=3) as world:
        yield fake, world
    assert not fake.left


def counted(fake: FakeCuda, act: Callable[[], object]) -> dict[str, int]:
    """The calls of the runtime API that `act` makes."""
    before = dict(fake.count)
    act()
    return {name: n - before.get(name, 0) for name, n in fake.count.items() if n != before.get(name, 0)}


def test_a_frame_is_one_launch_and_one_wait(disguised: tuple[FakeCuda, World]) -> None:
    fake, world = disguised
    world.set_preset("quality")
    world.reset(0)
    calls = counted(fake, lambda: world.step(WALK[0]))
    assert calls == {"cudaSetDevice": 1, "cudaGraphLaunch": 1, "cudaStreamSynchronize": 1}


def test_sigmas_rewrite_coefficients_and_structure_captures_again(disguised: tuple[FakeCuda, World]) -> None:
    fake, world = disguised
    world.reset(0)
    other_sigma = dataclasses.replace(world.samplers["denoiser"], sigma_max=3.0, initial_std=2.0)
    assert "cudaGraphInstantiate" not in counted(fake, lambda: world.set_sampler("denoiser", other_sigma))
    more_steps = SamplerConfig(steps=3)
    calls = counted(fake, lambda: world.set_sampler("denoiser", more_steps))
    assert (calls["cudaGraphInstantiate"], calls["cudaGraphExecDestroy"]) == (1, 1)
    assert len(fake.graphs) == 1


def test_a_graph_is_prepared_once_for_each_number_of_evaluations(fake: FakeCuda, bundle: Bundle) -> None:
    backend = MadeUpBackend(Cuda())
    with World(bundle, backend, seed=3) as world:
        world.set_sampler("denoiser", SamplerConfig(steps=3))
        world.set_sampler("denoiser", SamplerConfig(steps=3, s_cond=0.1))
        world.set_sampler("denoiser", SamplerConfig(steps=2, order=2))
    prepared = {graph.spec.role: graph.prepared for graph in backend.loaded}
    assert prepared["denoiser_conditioner"] == [1, 3]  # and 2 Heun steps are 3 evaluations again
    assert prepared["upsampler_conditioner"] == [1]
    assert all(graph.closed for graph in backend.loaded)


@pytest.mark.parametrize(
    "call", ["cudaMalloc", "cudaHostAlloc", "cudaGraphInstantiate", "cudaStreamBeginCapture"]
)
def test_what_fails_at_the_start_is_one_message_and_leaves_nothing(
    fake: FakeCuda, bundle: Bundle, call: str
) -> None:
    backend = MadeUpBackend(Cuda())
    fake.failures[call] = Error.cudaErrorMemoryAllocation
    with pytest.raises(DiamondError, match=f"CUDA: {call} failed: cudaErrorMemoryAllocation") as caught:
        World(bundle, backend, seed=3)
    assert "GPU memory" in str(caught.value)
    assert not fake.left
    assert all(graph.closed for graph in backend.loaded)


def test_a_launch_that_fails_ends_the_capture(fake: FakeCuda, bundle: Bundle) -> None:
    backend = MadeUpBackend(Cuda())
    world = World(bundle, backend, seed=3)
    world.reset(0)
    begin = fake.runtime.cudaStreamBeginCapture

    def begin_and_break(*arguments: Any) -> Any:
        fake.failures["cudaMemcpyAsync"] = Error.cudaErrorInvalidValue
        return begin(*arguments)

    fake.runtime.cudaStreamBeginCapture = begin_and_break
    with pytest.raises(DiamondError, match="cudaMemcpyAsync failed"):
        world.set_sampler("denoiser", SamplerConfig(steps=3))
    fake.failures.clear()
    with pytest.raises(DiamondError, match="could not be captured"):
        world.step(WALK[0])
    fake.runtime.cudaStreamBeginCapture = begin
    world.set_sampler("denoiser", SamplerConfig(steps=2))  # and settings that can be captured put it right
    world.reset(0)
    world.step(WALK[0])
    world.close()
    assert not fake.left


def test_a_failure_of_the_device_is_reported_by_the_wait(disguised: tuple[FakeCuda, World]) -> None:
    fake, world = disguised
    world.reset(0)
    fake.failures["cudaStreamSynchronize"] = Error.cudaErrorInvalidValue
    with pytest.raises(DiamondError, match="cudaStreamSynchronize failed: cudaErrorInvalidValue"):
        world.step(WALK[0])
    fake.failures.clear()


def test_the_frame_graph_lists_every_kernel() -> None:
    from engine.cuda.compile import kernel_source

    for name in KERNELS:
        assert f"void {name}(" in kernel_source()
    assert kernel_source().count("__global__") == len(KERNELS)


def test_a_closed_frame_refuses(fake: FakeCuda) -> None:
    frame = FrameGraph(Cuda(), {})
    frame.close()
    frame.close()
    for use in (
        frame.run,
        frame.set_up,
        lambda: frame.read(NOISE),
        lambda: frame.write(NOT_FINITE, np.zeros(1)),
    ):
        with pytest.raises(DiamondError, match="closed"):
            use()
