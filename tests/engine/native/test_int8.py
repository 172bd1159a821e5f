"""Int8Conv and the linear layers in bytes against float64.

A value on a grid is wrong by half a step at most. So a product of two of them, of x and w, is wrong by
|w| dx + |x| dw + dx dw at most, where dx and dw are half a step, and a sum of products by the sum of that. Where all
factors are on their grids the result has to be exact.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnx", reason="the models of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the operators")

from tests.engine.native.cases import (
    CONV_ERROR,
    Size,
    copying,
    every_form,
    floats,
    has_int8,
    magnitude,
    parts,
)
from tests.engine.native.one_node import (
    activated,
    convolution,
    exact_convolution,
    exact_norm_affine,
    linear,
    norm_affine,
    silu,
)

Array = npt.NDArray[Any]

pytestmark = has_int8

SILU_ERROR = 2**-12  # of its values
LEAST_SILU = -0.2785  # of all x

# Side and stride, then channels in and out, height, width. Four channels share a lane, and from 25 rows of the output
# on a map is cut into items of 8.
CASES: list[tuple[int, int, Size]] = [
    (1, 1, (1, 1, 1, 1)),
    (1, 1, (17, 9, 4, 7)),
    (1, 1, (33, 24, 19, 35)),
    (1, 1, (5, 7, 61, 97)),
    (3, 1, (1, 1, 1, 1)),
    (3, 1, (3, 5, 9, 1)),
    (3, 1, (3, 2, 1, 9)),
    (3, 1, (17, 9, 4, 7)),
    (3, 1, (96, 40, 8, 14)),
    (3, 1, (5, 11, 33, 49)),
    (3, 1, (2, 3, 3, 300)),
    (3, 2, (1, 1, 1, 1)),
    (3, 2, (3, 5, 9, 1)),
    (3, 2, (3, 2, 1, 9)),
    (3, 2, (17, 9, 8, 14)),
    (3, 2, (6, 9, 7, 15)),
    (3, 2, (5, 11, 65, 98)),
    (3, 2, (4, 3, 66, 97)),
]
each_case = pytest.mark.parametrize(
    ("side", "stride", "size"), CASES, ids=lambda case: str(case).replace(", ", "x")
)


def strided(inputs: dict[str, Any], stride: int) -> dict[str, Any]:
    """The inputs with a residual of the size that the output has."""
    residual = inputs["residual"]
    return {**inputs, "residual": None if residual is None else residual[..., ::stride, ::stride].copy()}


def exact(inputs: dict[str, Any], stride: int) -> Array:
    whole: Array = exact_convolution(**{**inputs, "residual": None})[..., ::stride, ::stride]
    return whole if inputs["residual"] is None else whole + inputs["residual"]


def half_steps(inputs: dict[str, Any]) -> tuple[float, Array]:
    """Of the grid of what is convolved, and of the weights, an output channel each."""
    z = activated(inputs["x"], inputs["gain"], inputs["shift"])
    least = LEAST_SILU if inputs["gain"] is not None else min(float(z.min()), 0.0)
    dx = (max(float(z.max()), 0.0) - least) / 254 / 2
    return dx, np.abs(inputs["weights"]).max(axis=(1, 2, 3)) / 127 / 2


def bound(inputs: dict[str, Any], stride: int) -> Array:
    weights = np.abs(inputs["weights"].astype(np.float64))
    dx, dw = half_steps(inputs)
    z = np.abs(activated(inputs["x"], inputs["gain"], inputs["shift"])) + dx
    errors = np.broadcast_to(dw[:, None, None, None], weights.shape)
    sums = dx * exact_convolution(np.ones_like(z), weights) + exact_convolution(z, errors)
    sums += SILU_ERROR * exact_convolution(z, weights)
    return sums[..., ::stride, ::stride]


def whole_numbers(*shape: int, most: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).integers(-most, most + 1, shape).astype(np.float32)


@each_case
def test_where_all_factors_are_on_their_grids_the_result_is_exact(side: int, stride: int, size: Size) -> None:
    C, K, H, W = size
    x, weights = whole_numbers(1, C, H, W, most=127), whole_numbers(K, C, side, side, most=127)
    x.flat[:2], weights[:, 0, 0, 0] = (-127, 127)[: x.size], 127
    if x.size == 1:
        x[...] = 254  # with the 0 that every grid has, 255 levels
    bias = whole_numbers(K, most=9)
    inputs = {"x": x, "weights": weights, "bias": bias, "gain": None, "shift": None, "residual": None}
    got = convolution(**inputs, operator="Int8Conv", stride=stride)
    np.testing.assert_array_equal(got, exact(inputs, stride))


@each_case
def test_no_output_is_further_from_float64_than_the_grids_explain(side: int, stride: int, size: Size) -> None:
    for form in every_form(size, side):
        inputs = strided(form, stride)
        error = np.abs(convolution(**inputs, operator="Int8Conv", stride=stride) - exact(inputs, stride))
        most = bound(inputs, stride) + CONV_ERROR * magnitude(form)
        given = [name for name, array in inputs.items() if array is not None]
        assert (error <= most).all(), f"{given}: {(error / most).max():.2f} of the bound"


@pytest.mark.parametrize(("side", "stride", "size"), [(3, 1, (64, 48, 8, 14)), (3, 2, (64, 48, 66, 97))])
def test_on_average_the_error_is_that_of_independent_roundings(side: int, stride: int, size: Size) -> None:
    """A uniform error has a deviation of half a step over the root of three."""
    inputs = strided(parts(size, (True, True, True), side), stride)
    error = convolution(**inputs, operator="Int8Conv", stride=stride) - exact(inputs, stride)
    dx, dw = half_steps(inputs)
    z = activated(inputs["x"], inputs["gain"], inputs["shift"])
    weights = inputs["weights"].astype(np.float64)
    variance = dx**2 / 3 * exact_convolution(np.ones_like(z), weights**2)
    variance += exact_convolution(z**2, np.broadcast_to(dw[:, None, None, None] ** 2 / 3, weights.shape))
    expected = float(np.sqrt(variance.mean()))
    assert 0.8 < float(error.std()) / expected < 1.25


@pytest.mark.parametrize(
    ("side", "stride", "size"), [(1, 1, (33, 40, 7, 14)), (3, 1, (9, 24, 33, 49)), (3, 2, (9, 24, 7, 14))]
)
def test_one_thread_and_two_give_the_same_bits(side: int, stride: int, size: Size) -> None:
    inputs = strided(parts(size, (True, True, True), side), stride)
    one, two = (
        convolution(**inputs, operator="Int8Conv", stride=stride, threads=threads) for threads in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", ["x", "weights", "gain", "shift", "bias", "residual"])
def test_nan_comes_out(name: str) -> None:
    """Of an input it makes the grid NaN, and with it all outputs: a byte has no NaN."""
    inputs = parts((5, 4, 9, 14), (True, True, True))
    inputs[name].flat[-1] = np.nan
    nan = np.isnan(convolution(**inputs, operator="Int8Conv"))
    expected = {"residual": 1, "bias": 9 * 14, "weights": 9 * 14}.get(name, nan.size)
    assert nan.sum() == expected


@pytest.mark.parametrize(
    ("least", "largest"),
    [("-0x1.fb4290p+0", "0x1.46ae98p+0"), ("-0x1.0c5814p+2", "0x1.1a0b14p+1")],
    ids=["one", "another"],
)
def test_the_least_value_stays_on_a_grid_of_which_it_is_just_below(least: str, largest: str) -> None:
    x = np.zeros((1, 4, 1, 3), np.float32)
    x[0, :, 0, 0] = [float.fromhex(least), 0.5, -0.25, 0.125]
    x[0, 0, 0, 1] = float.fromhex(largest)
    got = convolution(x, copying(4, 1), operator="Int8Conv")
    np.testing.assert_allclose(got, x, atol=float(x.max() - x.min()) / 254)


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinity_comes_out_as_nan(value: float, modulated: bool) -> None:
    inputs = parts((5, 4, 9, 14), (False, False, modulated))
    inputs["x"][0, 2, 3, 4] = value
    assert np.isnan(convolution(**inputs, operator="Int8Conv")).all()


def test_nothing_but_zeros_stays_zero() -> None:
    inputs = parts((5, 4, 9, 14), (False, False, False))
    inputs["x"][...] = 0
    assert not convolution(**inputs, operator="Int8Conv").any()
    inputs = parts((5, 4, 9, 14), (False, False, False))
    inputs["weights"][...] = 0
    assert not convolution(**inputs, operator="Int8Conv").any()


@pytest.mark.parametrize("side", [1, 3])
def test_memory_of_a_larger_map_shows_in_no_smaller_one(side: int) -> None:
    small = parts((5, 7, 2, 3), (True, True, True), side)
    expected = convolution(**small, operator="Int8Conv")
    convolution(**parts((5, 7, 61, 97), (True, True, True), side), operator="Int8Conv")
    np.testing.assert_array_equal(convolution(**small, operator="Int8Conv"), expected)


# The range that a norm gives.


@pytest.mark.parametrize(("C", "H", "W"), [(8, 1, 1), (8, 5, 7), (12, 30, 56), (64, 40, 70)])
def test_a_norm_gives_the_range_of_what_silu_makes_of_it(C: int, H: int, W: int) -> None:
    x, gain, shift = 3 * floats(1, C, H, W) + 1, floats(C, seed=1), floats(C, seed=2)
    *_, found = norm_affine(x, gain, shift, groups=4, outputs=3)
    scale, offset = exact_norm_affine(x, gain, shift, groups=4)
    values = silu(x * scale.reshape(1, -1, 1, 1) + offset.reshape(1, -1, 1, 1))
    np.testing.assert_allclose(found, [LEAST_SILU, max(values.max(), 0)], rtol=1e-4, atol=1e-6)


def test_the_range_of_nan_is_nan() -> None:
    x = floats(1, 8, 5, 7)
    x[0, 3, 2, 1] = np.nan
    *_, found = norm_affine(x, floats(8), floats(8), groups=4, outputs=3)
    assert np.isnan(found[1])


# Linear layers.


@pytest.mark.parametrize(("E", "K", "M"), [(1, 1, 1), (1, 64, 16), (3, 33, 300), (5, 257, 515)])
@pytest.mark.parametrize("int8", [0, 1])
def test_a_linear_layer_rounds_its_weights_only(E: int, K: int, M: int, int8: int) -> None:
    x, weights, bias = floats(E, K), floats(M, K), floats(M, seed=1)
    got = linear(x, weights, bias, int8=int8)
    expected = x.astype(np.float64) @ weights.astype(np.float64).T + bias
    rounding = np.abs(weights) * 2**-9 if not int8 else np.abs(weights).max(axis=1, keepdims=True) / 254
    most = np.abs(x.astype(np.float64)) @ np.broadcast_to(rounding, weights.shape).T.astype(np.float64)
    magnitudes = np.abs(x) @ np.abs(weights).T
    assert (np.abs(got - expected) <= most * 1.001 + 1e-6 * magnitudes + 1e-6).all()
    np.testing.assert_array_equal(got, linear(x, weights, bias, threads=2, int8=int8))


@pytest.mark.parametrize("int8", [0, 1])
def test_a_linear_layer_keeps_nan(int8: int) -> None:
    x, weights, bias = floats(2, 40), floats(9, 40), floats(9, seed=1)
    weights[3, 5] = np.nan
    nan = np.isnan(linear(x, weights, bias, int8=int8))
    assert nan[:, 3].all()
    assert nan.sum() == 2
