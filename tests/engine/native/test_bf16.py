"""The native operators that multiply in bf16 against float64, and where there are none.

A factor that is rounded to bf16 is wrong by 2^-8 of itself at most, and a product of two by 0.6 * 2^-8 on average.
These errors know nothing of each other, so a sum of products is wrong by so much of the root of the sum of their
squares: `spread`. Four times 2^-8 of that are seven deviations, and less than one of 4000 products of one size, so that
none may be missing. Where the factors have few enough bits to survive, the result has to be exact.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnx", reason="the models of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the operators")

from engine import native
from tests.engine.native.cases import (
    CONV_ERROR,
    Size,
    copying,
    every_form,
    floats,
    has_bf16,
    magnitude,
    parts,
)
from tests.engine.native.one_node import (
    activated,
    attention,
    convolution,
    exact_attention,
    exact_convolution,
    silu,
)
from tests.engine.native.winograd import sum_of_products

Array = npt.NDArray[Any]

ROUNDING = 2**-8  # of a number, to bf16
EXP_ERROR, SILU_ERROR = 2**-13, 2**-12  # of their values; measured: 7.5e-5 and 1.3e-4

# The operator and the side of its weights, then channels in and out, height, width; two channels share a lane.
CASES: list[tuple[str, int, Size]] = [
    ("Conv3x3", 3, (1, 1, 1, 1)),
    ("Conv3x3", 3, (3, 5, 9, 1)),
    ("Conv3x3", 3, (8, 8, 4, 4)),
    ("Conv3x3", 3, (17, 9, 13, 63)),
    ("Conv3x3", 3, (4, 3, 9, 197)),
    ("Conv3x3", 3, (9, 23, 61, 97)),  # more than 8 blocks
    ("Conv3x3", 3, (96, 40, 7, 14)),
    ("DirectConv", 1, (1, 1, 1, 1)),
    ("DirectConv", 1, (17, 9, 4, 7)),
    ("DirectConv", 1, (33, 24, 19, 35)),
    ("DirectConv", 1, (5, 7, 61, 97)),  # more than 8 items
    ("DirectConv", 3, (1, 1, 1, 1)),
    ("DirectConv", 3, (3, 5, 9, 1)),
    ("DirectConv", 3, (17, 9, 4, 7)),
    ("DirectConv", 3, (96, 40, 8, 14)),
    ("DirectConv", 3, (2, 3, 3, 300)),
]
each_case = pytest.mark.parametrize(
    ("operator", "side", "size"), CASES, ids=lambda case: str(case).replace(", ", "x")
)


def spread(operator: str, inputs: dict[str, Any]) -> Array:
    """For every output the root of the sum of the squares of all products that are added for it."""
    z = activated(inputs["x"], inputs["gain"], inputs["shift"])
    if operator == "Conv3x3":
        return np.sqrt(sum_of_products(z, inputs["weights"], 2))
    return np.sqrt(exact_convolution(z**2, inputs["weights"].astype(np.float64) ** 2))


def rms(array: Array) -> float:
    return float(np.sqrt((array**2).mean()))


def whole_numbers(*shape: int, most: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).integers(-most, most + 1, shape).astype(np.float32)


def test_the_products_of_tiles_are_those_of_a_convolution() -> None:
    inputs = parts((5, 7, 9, 14), (False, False, False))
    expected = exact_convolution(inputs["x"], inputs["weights"])
    np.testing.assert_allclose(sum_of_products(inputs["x"], inputs["weights"]), expected, atol=1e-12)


@has_bf16
@each_case
def test_where_no_factor_is_rounded_the_result_is_exact(operator: str, side: int, size: Size) -> None:
    """Whole numbers: transformed, inputs have 8 bits at most, and weights that are multiples of 24 * 24 do, too."""
    C, K, H, W = size
    x, weights = whole_numbers(1, C, H, W, most=2), 576 * whole_numbers(K, C, side, side, most=1)
    bias, residual = whole_numbers(K, most=9), whole_numbers(1, K, H, W, most=9, seed=1)
    got = convolution(x, weights, bias, residual, operator=operator, bf16=1)
    np.testing.assert_array_equal(got, exact_convolution(x, weights, bias, residual))


@has_bf16
@each_case
def test_no_output_is_further_from_float64_than_its_roundings_explain(
    operator: str, side: int, size: Size
) -> None:
    for inputs in every_form(size, side):
        error = np.abs(convolution(**inputs, operator=operator, bf16=1) - exact_convolution(**inputs))
        bound = 4 * ROUNDING * spread(operator, inputs) + CONV_ERROR * magnitude(inputs)
        given = [name for name, array in inputs.items() if array is not None]
        assert (error <= bound).all(), f"{given}: {(error / bound).max():.2f} of the bound"


@has_bf16
@pytest.mark.parametrize(
    ("operator", "side", "size"),
    [
        ("Conv3x3", 3, (32, 24, 30, 56)),
        ("DirectConv", 1, (64, 48, 30, 56)),
        ("DirectConv", 3, (64, 48, 8, 14)),
    ],
)
@pytest.mark.parametrize("modulated", [False, True])
def test_factors_are_rounded_to_the_nearest(operator: str, side: int, size: Size, modulated: bool) -> None:
    """Cut off, they would leave twice the error; fewer bits, more; in fp32, next to none."""
    inputs = parts(size, (False, False, modulated), side)
    expected = exact_convolution(**inputs)
    error = convolution(**inputs, operator=operator, bf16=1) - expected
    left = rms(error) / rms(spread(operator, inputs))
    first, last = (rms(error[:, :, k::4, k::4]) / rms(expected) for k in (0, 3))
    print(
        f"{operator} {side}x{side}{' of silu' * modulated}: {left / ROUNDING:.2f} of a rounding; "
        f"{rms(error) / rms(expected):.2%} of the outputs, "
        f"{first:.2%} in the first pixel of a tile, {last:.2%} in the last"
    )
    assert 0.5 * ROUNDING < left < 0.7 * ROUNDING


@has_bf16
@each_case
def test_one_thread_and_two_give_the_same_bits(operator: str, side: int, size: Size) -> None:
    inputs = parts(size, (True, True, True), side)
    one, two = (convolution(**inputs, operator=operator, bf16=1, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


@has_bf16
def test_silu_is_right_from_the_smallest_to_the_largest_numbers() -> None:
    """Through the 1x1 convolution that copies its input: each value is rounded to bf16 once."""
    values = np.concatenate([np.geomspace(1e-30, 1e30, 241), np.linspace(0, 80, 401)]).astype(np.float32)
    x = np.concatenate([values, -values]).reshape(1, -1, 1, 1)
    C = x.shape[1]
    ones = np.ones((1, C, 1, 1), np.float32)
    got = convolution(x, copying(C, 1), gain=ones, shift=0 * ones, operator="DirectConv", bf16=1)
    np.testing.assert_allclose(got, silu(x), rtol=ROUNDING + SILU_ERROR, atol=1e-30)


@has_bf16
@pytest.mark.parametrize("positions", [1, 2, 15, 16, 31, 32, 33, 420])
def test_attention_is_that_of_float64(positions: int) -> None:
    """Queries, keys, values and weights are rounded. A score is wrong by 2^-8 of the sum of its absolute products at
    most, so its weight by e to that, twice with the sum of all weights; weights and values by another 2^-8 each.
    """
    for scale in (1, 2):
        qkv = floats(3, 2, 8, positions) * np.float32([scale, scale, 1]).reshape(3, 1, 1, 1)
        q, k, v = qkv.astype(np.float64)
        error = np.abs(attention(qkv, bf16=1) - exact_attention(qkv))[0]
        wrong = ROUNDING * (np.abs(q).transpose(0, 2, 1) @ np.abs(k)).max(axis=-1)  # (heads, queries)
        bound = (np.exp(2 * wrong) - 1 + 2 * ROUNDING + 2 * EXP_ERROR)[:, None] * np.abs(v).max()
        print(f"attention over {positions}, scores times {scale**2}: {error.max():.1e}, rms {rms(error):.1e}")
        assert (error <= bound).all()
        assert rms(error) < 1.5 * scale**2 * ROUNDING  # much less, because they know nothing of each other
    np.testing.assert_array_equal(attention(qkv, bf16=1, threads=1), attention(qkv, bf16=1, threads=2))


@has_bf16
@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("channel", [0, 1, 2])  # the last has a lane of its own
@pytest.mark.parametrize(
    ("operator", "side", "size"),
    [
        ("Conv3x3", 3, (3, 9, 21, 34)),
        ("Conv3x3", 3, (3, 2, 61, 397)),
        ("DirectConv", 1, (3, 9, 21, 34)),
        ("DirectConv", 1, (3, 2, 61, 97)),
        ("DirectConv", 3, (3, 9, 21, 34)),
    ],
)
def test_nan_stays_nan_and_stays_where_it_is(
    operator: str, side: int, size: Size, channel: int, modulated: bool
) -> None:
    inputs = parts(size, (True, True, modulated), side)
    inputs["x"][0, channel, 10, 17] = np.nan
    nan = np.isnan(convolution(**inputs, operator=operator, bf16=1))
    reach = side // 2
    assert nan[:, :, 10 - reach : 11 + reach, 17 - reach : 18 + reach].all(), "NaN was lost"
    nan[:, :, 8:12, 16:20] = False  # the tile that it lies in, and more than a direct sum reads
    assert not nan.any(), "NaN spread to what does not read it"


@has_bf16
def test_nan_in_weights_modulation_bias_or_residual_comes_out() -> None:
    for operator in ("Conv3x3", "DirectConv"):
        for name in ("weights", "gain", "shift", "bias", "residual"):
            inputs = parts((3, 4, 5, 6), (True, True, True))
            inputs[name][...] = np.nan
            assert np.isnan(convolution(**inputs, operator=operator, bf16=1)).all(), (operator, name)


@has_bf16
def test_attention_keeps_nan_in_its_head() -> None:
    qkv = floats(3, 3, 8, 40)
    qkv[1, 1, 2, 7] = np.nan
    nan = np.isnan(attention(qkv, bf16=1))
    assert nan[0, 1].all()
    assert not nan[0, [0, 2]].any()


@has_bf16
def test_without_the_attribute_an_operator_computes_in_fp32() -> None:
    qkv = floats(3, 2, 8, 40)
    for name, compute in (
        ("Conv3x3", lambda **kind: convolution(**parts((8, 8, 16, 16), (True, True, True)), **kind)),
        ("DirectConv", lambda **kind: convolution(**parts((8, 8, 4, 7), (True, True, True)), **kind)),
        ("Attention", lambda **kind: attention(qkv, **kind)),
    ):
        kind: dict[str, Any] = {} if name == "Attention" else {"operator": name}
        plain = compute(**kind)
        np.testing.assert_array_equal(compute(**kind, bf16=0), plain, err_msg=name)
        assert (compute(**kind, bf16=1) != plain).any(), f"{name}: the same bits, so not in bf16"


@pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")
def test_where_the_processor_has_no_bf16_a_node_that_asks_for_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(native.SWITCH, "avx2")  # they multiply in fp32 alone
    assert native.kernels("bf16") == ""
    inputs = parts((3, 4, 5, 6), (False, False, False))
    for operator in ("Conv3x3", "DirectConv"):
        with pytest.raises(Exception, match=r"diamond\.cpu: this processor has no such kernels"):
            convolution(**inputs, operator=operator, bf16=1)
    with pytest.raises(Exception, match=r"diamond\.cpu: this processor has no such kernels"):
        attention(floats(3, 1, 8, 5), bf16=1)


@has_bf16
def test_the_switch_turns_bf16_off_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.kernels("bf16") == "AVX-512 with bf16"
    monkeypatch.setenv(native.SWITCH, "off")
    assert native.kernels("bf16") == ""
