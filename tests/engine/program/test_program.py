"""A frame's program, interpreted, paints the frames of `World.step` to the last bit, whatever the settings."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.backends import open_backend
from engine.backends.base import Backend
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.frame import Frame
from engine.graphs import Network
from engine.noise import SeededNoise
from engine.program.build import ALIGNED, Built, Plan, build
from engine.program.launches import (
    COEFFICIENTS,
    AddNoise,
    CheckFinite,
    Copy,
    Download,
    Evaluate,
    Pack,
    Roll,
    SetNoise,
    Upload,
    View,
)
from engine.schedule import SamplerConfig
from engine.world import World
from tests.engine.doubles import NumpyBackend
from tests.engine.interpreter import Interpreter, ProgramBackend
from tests.engine.playing import WALK, assert_same_frames, play
from tests.engine.sampler_settings import CHANGES, SETTINGS, LoggedNoise
from tests.engine.tiny_world import TINY_LOW_RES

MakeWorld = Callable[..., Path]


@pytest.fixture
def bundle(make_world: MakeWorld) -> Bundle:
    return Bundle.open(make_world())


@pytest.fixture(params=["numpy", "ort"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[World, World]]:
    """The same world twice: graph by graph, and whole frames of a program."""
    if request.param == "ort":
        pytest.importorskip("onnxruntime", reason="the exported networks need ONNX Runtime")
        bundle = Bundle.open(request.getfixturevalue("tiny_bundle"))
        inner: tuple[Backend, Backend] = (open_backend("ort", threads=1), open_backend("ort", threads=1))
    else:
        bundle, inner = request.getfixturevalue("bundle"), (NumpyBackend(), NumpyBackend())
    with World(bundle, inner[0], seed=3) as one, World(bundle, ProgramBackend(inner[1]), seed=3) as other:
        yield one, other


def set_samplers(world: World, settings: dict[str, SamplerConfig]) -> None:
    for network in world.samplers:
        world.set_sampler(network, settings[network])


def assert_same_state(one: World, other: World) -> None:
    a, b = one.snapshot(), other.snapshot()
    for name in ("low_res", "full_res", "actions"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert (a.index, a.spawn) == (b.index, b.spawn)


@pytest.mark.parametrize("settings", SETTINGS)
def test_sixteen_frames_equal_those_of_world_step(pair: tuple[World, World], settings: str) -> None:
    frames: list[list[Frame]] = []
    for world in pair:
        set_samplers(world, SETTINGS[settings])
        frames.append(play(world, WALK * 4))
    assert_same_frames(*frames)
    assert_same_state(*pair)


def test_settings_may_change_in_the_middle_of_a_rollout(pair: tuple[World, World]) -> None:
    for world in pair:
        world.reset(0)
    for settings in CHANGES:
        for world in pair:
            set_samplers(world, settings)
        assert_same_frames(*([world.step(action) for action in WALK] for world in pair))
    assert_same_state(*pair)


def test_noise_that_is_no_table_is_asked_in_the_same_order(bundle: Bundle) -> None:
    noises = LoggedNoise(8), LoggedNoise(8)
    worlds = (
        World(bundle, NumpyBackend(), noise=noises[0]),
        World(bundle, ProgramBackend(NumpyBackend()), noise=noises[1]),
    )
    for world in worlds:
        set_samplers(world, SETTINGS["everything"])
    assert_same_frames(*(play(world, WALK) for world in worlds))
    assert noises[0].asked == noises[1].asked


def test_a_world_without_an_upsampler_has_a_program_too(make_world: MakeWorld) -> None:
    bundle = Bundle.open(make_world(TINY_LOW_RES))
    worlds = World(bundle, NumpyBackend()), World(bundle, ProgramBackend(NumpyBackend()))
    for world in worlds:
        world.set_sampler("denoiser", SETTINGS["everything"]["denoiser"])
    assert_same_frames(*(play(world, WALK * 4) for world in worlds))
    assert_same_state(*worlds)


# Structure.


def built(bundle: Bundle, settings: dict[str, SamplerConfig], table_size: int | None = 2**22) -> Built:
    plans: dict[Network, Plan] = {
        name: Plan(
            bundle.graph("fp32", name), bundle.graph("fp32", f"{name}_conditioner"), scales, settings[name]
        )
        for name, scales in bundle.manifest.noise.items()
    }
    return build(plans, table_size)


def both(**changes: float) -> dict[str, SamplerConfig]:
    config = SamplerConfig(**{"steps": 3, **changes})  # type: ignore[arg-type]
    return {"denoiser": config, "upsampler": config}


@pytest.mark.parametrize(
    "changes", [{"sigma_max": 4.0}, {"sigma_min": 0.1}, {"rho": 5.0}, {"initial_std": 5.0}, {"s_noise": 2.0}]
)
def test_numbers_change_coefficients_and_not_the_program(bundle: Bundle, changes: dict[str, float]) -> None:
    one, other = built(bundle, both(s_churn=1.0)), built(bundle, both(**{"s_churn": 1.0, **changes}))
    assert one.program == other.program
    assert one.coefficients.shape == other.coefficients.shape
    assert (one.coefficients != other.coefficients).any()


@pytest.mark.parametrize("changes", [{"steps": 4}, {"order": 2}, {"s_churn": 1.0}, {"s_cond": 0.1}])
def test_steps_order_and_the_presence_of_noise_change_the_program(
    bundle: Bundle, changes: dict[str, float]
) -> None:
    assert built(bundle, both()).program != built(bundle, both(**changes)).program


def test_only_a_change_of_structure_installs_and_the_history_stays(bundle: Bundle) -> None:
    backend = ProgramBackend(NumpyBackend())
    with World(bundle, backend, seed=3) as world:
        (interpreter,) = backend.interpreters
        play(world, WALK)
        before = world.snapshot()
        churned = world.samplers["upsampler"]
        world.set_sampler("upsampler", dataclasses.replace(churned, sigma_max=3.0, s_churn=1.0, s_tmax=9.0))
        assert len(interpreter.installed) == 1
        world.set_sampler("upsampler", dataclasses.replace(churned, steps=2))
        assert len(interpreter.installed) == 2
        np.testing.assert_array_equal(world.snapshot().low_res, before.low_res)
        assert interpreter.closed is False
    assert interpreter.closed


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("table_size", [2**22, None])
def test_programs_are_sound(bundle: Bundle, settings: str, table_size: int | None) -> None:
    program = built(bundle, SETTINGS[settings], table_size).program
    launches = [*program.setup, *program.frame]
    evaluations = [launch for launch in launches if isinstance(launch, Evaluate)]
    copies = [launch for launch in launches if isinstance(launch, Copy)]

    # Views lie inside their buffers; those of tensors are aligned and have the tensors' shapes.
    views: list[View] = [view for copy in copies for view in (copy.source, copy.target)]
    for launch in evaluations:
        spec, E = bundle.graph("fp32", launch.role), program.evaluations[launch.role]
        for bound, tensors in ((launch.inputs, spec.inputs), (launch.outputs, spec.outputs)):
            assert bound.keys() == tensors.keys()
            for name, view in bound.items():
                assert view.start % ALIGNED == 0, f"{launch.role}: {name}"
                assert view.shape == tuple(E if axis is None else axis for axis in tensors[name].shape)
                views.append(view)
    for view in views:
        assert view.start + view.count <= program.buffers[view.buffer].count, view
    for copy in copies:
        assert copy.source.count == copy.target.count

    # Every draw is read from its start to its end, once.
    for number, draw in enumerate(program.draws):
        parts = [
            (launch.skip if isinstance(launch, AddNoise) else 0, program.buffers[launch.target].count)
            for launch in launches
            if isinstance(launch, SetNoise | AddNoise) and launch.draw == number
        ]
        end = 0
        for skip, count in sorted(parts):
            assert skip == end
            end += count
        assert end == draw.count

    # What goes up comes first, what comes down comes last, and no history rolls before everything is checked.
    kinds = [type(launch) for launch in program.frame]
    uploads = [launch.buffer for launch in program.frame if isinstance(launch, Upload)]
    assert kinds[: len(uploads)] == [Upload] * len(uploads)
    assert set(uploads) == {name for name, b in program.buffers.items() if b.kind == "input"}
    downloads = {launch.buffer for launch in program.frame if isinstance(launch, Download)}
    assert downloads == {name for name, b in program.buffers.items() if b.kind == "output"}
    assert kinds.index(Roll) > max(i for i, kind in enumerate(kinds) if kind in (CheckFinite, Evaluate))
    assert kinds.index(Pack) > kinds.index(Roll)
    assert kinds[-1] is Download

    # Nothing that a setup computes is overwritten by a frame.
    made = {
        view.buffer
        for launch in program.setup
        if isinstance(launch, Evaluate)
        for view in launch.outputs.values()
    }
    written = {
        view.buffer
        for launch in program.frame
        if isinstance(launch, Evaluate)
        for view in launch.outputs.values()
    }
    assert not made & written


def test_the_upsamplers_conditioner_runs_in_the_setup_and_the_denoisers_in_every_frame(
    bundle: Bundle,
) -> None:
    program = built(bundle, SETTINGS["heun"]).program
    roles = [
        [launch.role for launch in part if isinstance(launch, Evaluate)]
        for part in (program.setup, program.frame)
    ]
    assert roles == [
        ["upsampler_conditioner"],
        ["denoiser_conditioner", *["denoiser"] * 5, *["upsampler"] * 3],
    ]


def test_a_row_of_the_modulation_is_copied_only_where_it_is_not_aligned(
    tiny_bundle: Path, bundle: Bundle
) -> None:
    for world in (bundle, Bundle.open(tiny_bundle)):
        M = world.graph("fp32", "denoiser_conditioner").outputs["modulation"].shape[1]
        assert M is not None
        program = built(world, SETTINGS["euler"]).program
        copies = [
            launch
            for launch in program.frame
            if isinstance(launch, Copy) and launch.target.buffer == "denoiser/row"
        ]
        assert len(copies) == sum(row * M % ALIGNED != 0 for row in range(3))


def test_the_coefficients_are_those_of_the_schedule(bundle: Bundle) -> None:
    made = built(bundle, SETTINGS["one step"])
    config, scales = SETTINGS["one step"]["denoiser"], bundle.manifest.noise["denoiser"]
    plan = Plan(
        bundle.graph("fp32", "denoiser"), bundle.graph("fp32", "denoiser_conditioner"), scales, config
    )
    (step,) = plan.steps
    evaluate = next(e for e in made.program.frame if isinstance(e, Evaluate) and e.role == "denoiser")
    at = evaluate.inputs["coefficients"]
    assert at.buffer == COEFFICIENTS
    told = [step.first.c_in, step.first.c_skip, step.first.c_out]
    np.testing.assert_array_equal(made.coefficients[at.start : at.start + 3], np.array(told, np.float32))


def test_a_draw_longer_than_the_table_is_refused_by_name(bundle: Bundle) -> None:
    with pytest.raises(DiamondError, match="noise upsampler/init: a draw of 21000 numbers"):
        built(bundle, SETTINGS["one step"], table_size=20_999)


def test_a_subclass_of_the_seeded_noise_is_not_taken_for_its_table(bundle: Bundle) -> None:
    class Silent(SeededNoise):
        def normal(self, name: str, shape: tuple[int, ...], frame: int) -> np.ndarray:
            return np.zeros(shape, np.float32)

    worlds = (
        World(bundle, NumpyBackend(), noise=Silent()),
        World(bundle, ProgramBackend(NumpyBackend()), noise=Silent()),
    )
    assert_same_frames(*(play(world, WALK) for world in worlds))


def test_the_host_needs_less_than_a_tenth_of_a_millisecond(make_world: MakeWorld) -> None:
    """3 + 10 steps with churn at 150x280; what a frame costs the host beside the one call that runs it."""
    from tests.engine.program.idle_executor import host_ms

    best_ms, median_ms = host_ms(Bundle.open(make_world()))
    print(f"host: {best_ms:.3f} ms at best, {median_ms:.3f} ms median")
    assert best_ms < 0.1  # the best, because others compute on this machine too


def test_the_interpreter_notices_what_nobody_has_written(bundle: Bundle) -> None:
    backend = ProgramBackend(NumpyBackend())
    with World(bundle, backend, seed=3) as world:
        (interpreter,) = backend.interpreters
        assert isinstance(interpreter, Interpreter)
        world.reset(0)
        (program,) = interpreter.installed
        spoiled = tuple(launch for launch in program.frame if not isinstance(launch, SetNoise))
        interpreter.installed[-1] = type(program)(**{**vars(program), "frame": spoiled})
        with pytest.raises(DiamondError, match="painted NaN"):
            world.step(WALK[0])
