"""The native operators against float64: every form, maps of one pixel to many blocks, large numbers, NaN, misuse."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the models of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the operators")

from engine import native
from tests.engine.native.cases import check_convolution, copying, floats, parts
from tests.engine.native.one_node import (
    CONV_INPUTS,
    attention,
    convolution,
    exact_attention,
    exact_norm_affine,
    norm_affine,
    one_node,
    run,
    session,
    silu,
)

ROOT = Path(__file__).parents[3]
NORM_ERROR = 2e-6
ATTENTION_ERROR = 5e-6

pytestmark = pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")

# Channels in and out, height, width. A vector is 16 tiles of 4x4 (8 in AVX2) of one row, a block is three vectors, and
# maps of 8 blocks or more take another way.
SIZES = [
    (1, 1, 1, 1),
    (1, 2, 1, 9),  # one row
    (3, 5, 9, 1),  # one column
    (8, 8, 4, 4),  # one tile
    (5, 7, 5, 6),
    (16, 16, 12, 16),
    (17, 9, 13, 63),  # one column less than a vector
    (16, 8, 5, 65),  # one more
    (4, 8, 3, 191),
    (4, 3, 9, 197),  # a row of more than a block
    (96, 40, 7, 14),
    (9, 23, 61, 97),  # more than 8 blocks
    (6, 4, 64, 96),  # exactly 8 of AVX-512's
    (2, 3, 2, 1700),
]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_a_convolution_is_that_of_float64_in_every_form(size: tuple[int, int, int, int]) -> None:
    check_convolution(size)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("size", [(5, 7, 5, 6), (33, 40, 7, 14), (9, 23, 61, 97)])
def test_one_thread_and_two_give_the_same_bits(size: tuple[int, int, int, int]) -> None:
    inputs = parts(size, (True, True, True))
    np.testing.assert_array_equal(convolution(**inputs, threads=1), convolution(**inputs, threads=2))


def test_a_session_serves_maps_of_any_size_and_never_writes_to_its_inputs() -> None:
    """The memory that a thread keeps is that of another size; nothing of it may show."""
    large, small = ((5, 7, height, width) for height, width in ((61, 97), (2, 3)))
    expected = convolution(**parts(small, (True, True, True)))
    convolution(**parts(large, (True, True, True)))
    inputs = parts(small, (True, True, True))
    before = {name: array.copy() for name, array in inputs.items()}
    np.testing.assert_array_equal(convolution(**inputs), expected)
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.usefixtures("kernels")
def test_silu_is_right_from_the_smallest_to_the_largest_numbers() -> None:
    """Through the convolution that copies its input: channels of one value each, so that no other hides its error."""
    values = np.concatenate([np.geomspace(1e-30, 1e30, 241), np.linspace(0, 100, 401)]).astype(np.float32)
    values = np.concatenate([values, -values])
    C = len(values)
    x = np.broadcast_to(values.reshape(1, C, 1, 1), (1, C, 2, 3)).copy()
    ones = np.ones((1, C, 1, 1), np.float32)
    got, expected = convolution(x, copying(C, 3), gain=ones, shift=0 * ones), silu(x)
    assert np.isfinite(got).all()
    # Below -88 e^-x leaves float32's range; what is left there is of no size.
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
    tame = np.abs(x) < 80
    np.testing.assert_allclose(got[tame], expected[tame], rtol=1e-5, atol=0)


@pytest.mark.usefixtures("kernels")
def test_silu_of_the_most_negative_number_is_zero() -> None:
    lowest = np.full((1, 1, 4, 4), np.finfo(np.float32).min)
    ones = np.ones(1, np.float32)
    np.testing.assert_allclose(convolution(lowest, copying(1, 3), gain=ones, shift=0 * ones), 0, atol=1e-7)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("size", [(3, 9, 21, 34), (2, 2, 61, 397)])  # few blocks, and many
def test_nan_stays_nan_and_stays_where_it_is(size: tuple[int, int, int, int], modulated: bool) -> None:
    inputs = parts(size, (True, True, modulated))
    row, column = 10, 17
    inputs["x"][0, 1, row, column] = np.nan
    nan = np.isnan(convolution(**inputs))
    assert nan[:, :, row - 1 : row + 2, column - 1 : column + 2].all(), "NaN was lost"
    near = np.zeros_like(nan)
    near[:, :, 8:12, 16:20] = True  # the tile that it lies in; those beside it do not read it
    assert not (nan & ~near).any(), "NaN spread to tiles that do not read it"


@pytest.mark.usefixtures("kernels")
def test_nan_in_a_modulation_bias_or_residual_comes_out() -> None:
    for name in ("gain", "shift", "bias", "residual"):
        inputs = parts((3, 4, 5, 6), (True, True, True))
        inputs[name][...] = np.nan
        assert np.isnan(convolution(**inputs)).all(), name


NORMS = [  # channels, groups, height, width
    (8, 1, 1, 2),
    (12, 12, 1, 5),  # a group a channel
    (6, 2, 3, 5),
    (24, 3, 7, 9),
    (32, 1, 30, 56),
    (16, 4, 15, 273),  # on one thread or several: 65,536 values decide
    (16, 4, 75, 140),
]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("size", NORMS, ids=lambda size: "x".join(map(str, size)))
def test_a_norm_is_that_of_float64(size: tuple[int, int, int, int]) -> None:
    C, groups, H, W = size
    x, gain, shift = floats(1, C, H, W) + 0.5, floats(1, C, 1, 1, seed=1), floats(1, C, 1, 1, seed=2)
    for epsilon in (1e-5, 0.5):
        scale, offset = norm_affine(x, gain, shift, groups, epsilon)
        exact_scale, exact_offset = exact_norm_affine(x, gain, shift, groups, epsilon)
        np.testing.assert_allclose(scale, exact_scale, rtol=NORM_ERROR, atol=0)
        np.testing.assert_allclose(offset, exact_offset, rtol=NORM_ERROR, atol=NORM_ERROR)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("value", [0.0, 1.0, 0.7, -1000.1])
def test_a_norm_of_a_constant_map_is_its_shift(value: float) -> None:
    x = np.full((1, 8, 33, 47), value, np.float32)
    gain, shift = floats(1, 8, 1, 1), floats(1, 8, 1, 1, seed=1)
    scale, offset = norm_affine(x, gain, shift, groups=2)
    exact_scale, _ = exact_norm_affine(x, gain, shift, groups=2)
    np.testing.assert_allclose(scale, exact_scale, rtol=1e-3)
    normed = x * scale.reshape(1, -1, 1, 1).astype(np.float64) + offset.reshape(1, -1, 1, 1)
    rounding = 2.0**-23 * np.abs(value * exact_scale).max()  # of a factor and an addend in float32
    np.testing.assert_allclose(normed, np.broadcast_to(shift, x.shape), atol=rounding + 1e-6)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("size", [(8, 2, 1, 2), (16, 4, 15, 273), (16, 4, 75, 140)])
def test_a_norm_far_from_zero_keeps_its_variance(size: tuple[int, int, int, int]) -> None:
    """Mean 1000, deviation 1: sums of squares in float32 would leave of the variance two digits."""
    C, groups, H, W = size
    x, gain, shift = floats(1, C, H, W) + 1000, floats(1, C, 1, 1, seed=1), floats(1, C, 1, 1, seed=2)
    scale, offset = norm_affine(x, gain, shift, groups)
    exact_scale, exact_offset = exact_norm_affine(x, gain, shift, groups)
    np.testing.assert_allclose(scale, exact_scale, rtol=1e-4)
    np.testing.assert_allclose(offset, exact_offset, rtol=1e-4)


@pytest.mark.usefixtures("kernels")
def test_a_norm_on_one_thread_and_two_gives_the_same_bits_and_keeps_nan() -> None:
    x, gain, shift = floats(1, 32, 75, 140), floats(1, 32, 1, 1, seed=1), floats(1, 32, 1, 1, seed=2)
    for one, two in zip(
        norm_affine(x, gain, shift, 4), norm_affine(x, gain, shift, 4, threads=2), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    x[0, 9, 3, 3] = np.nan  # of the second of four groups
    scale, offset = norm_affine(x, gain, shift, 4)
    lost = np.isnan(scale + offset).reshape(4, 8)
    assert lost[1].all()
    assert not lost[[0, 2, 3]].any()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("positions", [1, 2, 15, 16, 31, 32, 33, 420])
def test_attention_is_that_of_float64(positions: int) -> None:
    for scale in (1, 20):  # scores of hundreds: all but one weight vanish
        qkv = scale * floats(3, 2, 8, positions)
        error = np.abs(attention(qkv) - exact_attention(qkv)).max()
        assert error <= ATTENTION_ERROR * scale**3, f"{scale}: {error:.2e}"
    np.testing.assert_array_equal(attention(qkv, threads=1), attention(qkv, threads=2))


@pytest.mark.usefixtures("kernels")
def test_attention_keeps_nan_in_its_head() -> None:
    qkv = floats(3, 3, 8, 40)
    qkv[1, 1, 2, 7] = np.nan  # a key of the second head: every query asks it
    nan = np.isnan(attention(qkv))
    assert nan[0, 1].all()
    assert not nan[0, [0, 2]].any()


@pytest.mark.parametrize("operator", ["Conv3x3", "DirectConv"])
def test_what_a_convolution_cannot_compute_is_an_error_that_names_it(operator: str) -> None:
    """What concerns the weights is found while the graph is loaded, the rest by the node, which is named then."""
    good = parts((3, 4, 5, 6), (True, True, True))
    other_side = floats(4, 3, 1, 1) if operator == "Conv3x3" else floats(4, 3, 5, 5)
    loading: list[tuple[str, dict[str, Any]]] = [
        (r"weights of another shape than \(K, C, 3, 3\)", {"weights": other_side}),
        (r"weights of another shape than \(K, C, 3, 3\)", {"weights": floats(4, 3, 3, 1)}),
        (r"weights of another shape than \(K, C, 3, 3\)", {"weights": floats(4, 3, 9)}),
    ]
    running: list[tuple[str, dict[str, Any]]] = [
        ("a residual of another shape", {"residual": floats(1, 4, 5, 7)}),
        ("a residual of another shape", {"residual": floats(1, 3, 5, 6)}),
        ("an input of a convolution of another size", {"bias": floats(3)}),
        ("an input of a convolution of another size", {"gain": floats(1, 4, 1, 1)}),
        ("an input of a convolution of another size", {"shift": floats(2)}),
        ("gain without shift", {"shift": None}),
        ("gain without shift", {"gain": None}),
        (r"an input of a convolution that is not \(1, C, H, W\)", {"x": floats(1, 4, 5, 6)}),
        (r"an input of a convolution that is not \(1, C, H, W\)", {"x": floats(2, 3, 5, 6)}),
        (r"an input of a convolution that is not \(1, C, H, W\)", {"x": floats(3, 5, 6)}),
    ]
    for where, wrong in (("initialization", loading), (f"running {operator} node", running)):
        for complaint, change in wrong:
            with pytest.raises(Exception, match=rf"{where}.*diamond\.cpu: {complaint}"):
                convolution(**(good | change), operator=operator)
    inputs = {name: good[name] for name in ("x", "weights")}
    with pytest.raises(Exception, match=r"diamond\.cpu: weights that are no constant"):
        session(one_node(operator, inputs, {}, CONV_INPUTS))
    assert np.isfinite(convolution(**good, operator=operator)).all(), "after errors it computes as before"


def test_what_a_norm_cannot_compute_is_an_error_that_names_it() -> None:
    good: dict[str, Any] = {"x": floats(1, 6, 4, 5), "gain": floats(6), "shift": floats(6), "groups": 3}
    wrong: list[dict[str, Any]] = [
        {"groups": 0},
        {"groups": -3},
        {"groups": 4},
        {"gain": floats(5)},
        {"shift": floats(7)},
        {"x": floats(2, 6, 4, 5)},
        {"x": floats(6, 4, 5)},
    ]
    for change in wrong:
        with pytest.raises(Exception, match=r"diamond\.cpu\.NormAffine"):
            norm_affine(**(good | change))
    inputs = {name: good[name] for name in ("x", "gain", "shift")}
    for left in ({"groups": 3}, {"epsilon": 1e-5}):
        with pytest.raises(Exception, match=r"NormAffine|groups|epsilon"):
            run(one_node("NormAffine", inputs, {}, tuple(inputs), 2, **left), inputs)
    assert len(norm_affine(**good)) == 2


def test_what_attention_cannot_compute_is_an_error_that_names_it() -> None:
    for shape in ((2, 1, 8, 5), (3, 1, 7, 5), (3, 8, 5)):
        with pytest.raises(Exception, match=r"diamond\.cpu\.Attention"):
            attention(floats(*shape))


def test_a_process_that_asks_for_avx2_gets_it() -> None:
    code = (
        "from engine import native\n"
        "print(native.kernels() or native.missing())\n"
        "if native.kernels() == 'AVX2':\n"
        "    from tests.engine.native.cases import check_convolution\n"
        "    check_convolution((17, 9, 13, 63))\n"
        "    check_convolution((9, 23, 61, 97))\n"
        "    check_convolution((17, 9, 4, 7), 3, 'DirectConv')\n"
        "    check_convolution((5, 7, 61, 97), 1, 'DirectConv')\n"
        "    print('as float64')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {native.SWITCH: "avx2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "AVX2" not in done.stdout:
        pytest.skip(f"no AVX2 here: {done.stdout.strip()}")
    assert done.stdout.split() == ["AVX2", "as", "float64"]


def test_the_switch_turns_the_operators_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.kernels()
    monkeypatch.setenv(native.SWITCH, "off")
    assert native.kernels() == ""
    assert native.missing() == "DIAMOND_NATIVE=off"
