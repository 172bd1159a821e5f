"""Each kernel against its meaning in numpy, at the published sizes.

On a CPU in disguise everywhere, where g++ compiles the same source, and on a GPU where there is one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.cuda.frame_graph import FrameGraph
from engine.cuda.runtime import Cuda
from engine.noise import TABLE_SIZE, SeededNoise
from engine.program.launches import (
    COEFFICIENTS,
    NOISE,
    NOT_FINITE,
    OFFSETS,
    AddNoise,
    Buffer,
    CheckFinite,
    Clear,
    Copy,
    EulerStep,
    FrameProgram,
    HeunStep,
    HeunTrial,
    Launch,
    Pack,
    Roll,
    SetNoise,
    View,
)
from tests.engine.interpreter import Interpreter

Arrays = Mapping[str, npt.NDArray[Any]]
IMAGE = (1, 3, 150, 280)
WRAPPING_FRAME = 37  # its "upsampler/init" starts within the last 126,000 numbers of the table of seed 0
c = np.array([0.25, 3.7, -1.9, 0.123], np.float32)


def images(*names: str) -> dict[str, npt.NDArray[Any]]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(IMAGE, np.float32) for name in names}


def on_both(cuda: Cuda, arrays: Arrays, *launches: Launch) -> tuple[Arrays, Arrays]:
    """What a device and what numpy make of the arrays."""
    arrays = {COEFFICIENTS: c, NOT_FINITE: np.zeros(2, np.int32), **arrays}
    buffers = {name: Buffer(name, a.shape, a.dtype.name, "state") for name, a in arrays.items()}
    program = FrameProgram(("a", "b"), {}, buffers, (), (), launches)
    results: list[Arrays] = []
    for executor in (FrameGraph(cuda, {}), Interpreter({})):
        executor.install(program)
        for name, array in arrays.items():
            executor.write(name, array)
        with np.errstate(invalid="ignore"):
            executor.run()
        results.append({name: executor.read(name) for name in arrays})
        executor.close()
    return results[0], results[1]


def assert_same(ours: Arrays, theirs: Arrays, changed: Sequence[str], inputs: Arrays) -> None:
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    for name, array in inputs.items():
        assert (name in changed) == (ours[name].tobytes() != array.tobytes()), name


def test_noise_is_the_table_read_at_its_offset_bit_for_bit(cuda: Cuda) -> None:
    noise = SeededNoise(0)
    offset = noise.offset("upsampler/init", WRAPPING_FRAME)
    assert offset + np.prod(IMAGE) > TABLE_SIZE, "this frame no longer wraps: choose another"
    arrays = {
        "x": np.zeros(IMAGE, np.float32),
        NOISE: noise.table,
        OFFSETS: np.array([5, offset], np.uint32),
        COEFFICIENTS: np.ones(1, np.float32),
    }
    ours, _ = on_both(cuda, arrays, SetNoise("x", 1, 0))
    np.testing.assert_array_equal(ours["x"], noise.normal("upsampler/init", IMAGE, WRAPPING_FRAME))


@pytest.mark.parametrize("length", [126_000 + 7, 400_001])
@pytest.mark.parametrize(
    "launch", [SetNoise("x", 1, 2), AddNoise("x", 1, 0, 3), AddNoise("x", 0, 126_000, 1)]
)
def test_scaled_and_added_noise_equal_numpy(cuda: Cuda, launch: Launch, length: int) -> None:
    if isinstance(launch, AddNoise) and launch.skip:
        length = max(length, 252_000)  # no draw is longer than its table
    table = np.random.default_rng(1).standard_normal(length, np.float32)
    arrays = {**images("x"), NOISE: table, OFFSETS: np.array([length - 3, length - 60_000], np.uint32)}
    assert_same(*on_both(cuda, arrays, launch), ["x"], arrays)


@pytest.mark.parametrize(
    ("launch", "changed"),
    [
        (EulerStep("x", "denoised", 1, 2), ["x"]),
        (HeunTrial("x", "denoised", "slope", "trial", 1, 2), ["slope", "trial"]),
        (HeunStep("x", "denoised", "slope", "trial", 3, 2), ["x"]),
    ],
)
def test_the_samplers_arithmetic_equals_numpy(cuda: Cuda, launch: Launch, changed: list[str]) -> None:
    arrays = images("x", "denoised", "slope", "trial")
    ours, theirs = on_both(cuda, arrays, launch)
    for name in changed:
        print(f"{name}: max difference {np.abs(ours[name] - theirs[name]).max():.1e}")
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)
    assert_same(ours, theirs, changed, arrays)  # which asks for more: the same to the last bit


@pytest.mark.parametrize("frames", [1, 4])
def test_a_history_rolls_unless_a_network_broke(cuda: Cuda, frames: int) -> None:
    history = np.random.default_rng(2).standard_normal((1, 3 * frames, 150, 280), np.float32)
    arrays = {**images("newest"), "history": history}
    ours, theirs = on_both(cuda, arrays, Roll("history", "newest"))
    assert_same(ours, theirs, ["history"], arrays)
    np.testing.assert_array_equal(ours["history"][:, -3:], arrays["newest"])
    for flags in ([1, 0], [0, 1]):
        broken = {**arrays, NOT_FINITE: np.array(flags, np.int32)}
        assert_same(*on_both(cuda, broken, Roll("history", "newest")), [], broken)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("flag", [0, 1])
def test_one_bad_number_anywhere_raises_the_flag(cuda: Cuda, value: float, flag: int) -> None:
    for place in (0, 70_001, 125_999):
        arrays = images("x")
        arrays["x"].flat[place] = value
        ours, theirs = on_both(cuda, arrays, CheckFinite("x", flag))
        assert ours[NOT_FINITE].tolist() == theirs[NOT_FINITE].tolist() == [1 - flag, flag]
    ours, _ = on_both(cuda, images("x"), CheckFinite("x", flag))
    assert ours[NOT_FINITE].tolist() == [0, 0]


def test_pixels_equal_numpy_on_every_level_and_between(cuda: Cuda) -> None:
    levels = np.linspace(-1, 1, 511, dtype=np.float32)  # the 256 levels, and what lies halfway
    arrays = {
        "x": np.resize(levels, IMAGE).astype(np.float32),
        "pixels": np.full((150, 280, 3), 7, np.uint8),
    }
    assert_same(*on_both(cuda, arrays, Pack("x", "pixels")), ["pixels"], arrays)


def test_clearing_and_copying_stay_inside_their_part(cuda: Cuda) -> None:
    arrays = {**images("x"), "y": np.arange(50, dtype=np.float32)}
    copy = Copy(View("x", 1001, (7,)), View("y", 40, (7,)))
    assert_same(*on_both(cuda, arrays, copy), ["y"], arrays)
    assert_same(*on_both(cuda, arrays, Clear("x")), ["x"], arrays)
