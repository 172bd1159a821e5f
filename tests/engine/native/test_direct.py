"""DirectConv in fp32 against float64: 1x1 and 3x3, one position to many, odd numbers of channels, threads and NaN."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the models of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the operators")

from engine import native
from tests.engine.native.cases import Size, check_convolution, parts
from tests.engine.native.one_node import convolution

pytestmark = [
    pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}"),
    pytest.mark.usefixtures("kernels"),
]

# The side of the weights, then channels in and out, height, width. A vector is 16 positions (8 in AVX2), the registers
# take three; a 1x1 convolution is cut into items of 384 positions, and from 8 items on it takes another way.
CASES = [
    (1, (1, 1, 1, 1)),
    (1, (3, 5, 1, 1)),
    (1, (17, 9, 4, 7)),
    (1, (96, 40, 8, 14)),
    (1, (33, 24, 19, 35)),
    (1, (4, 3, 1, 7 * 384)),  # 7 items
    (1, (4, 3, 1, 7 * 384 + 1)),  # 8, the last of one position
    (1, (5, 7, 61, 97)),
    (3, (1, 1, 1, 1)),
    (3, (3, 5, 1, 1)),
    (3, (2, 3, 9, 1)),  # one column
    (3, (3, 2, 1, 9)),  # one row
    (3, (17, 9, 4, 7)),
    (3, (96, 40, 8, 14)),
    (3, (33, 24, 19, 35)),
    (3, (2, 3, 3, 300)),  # a row is read in two runs
]


@pytest.mark.parametrize(("side", "size"), CASES, ids=lambda case: str(case).replace(", ", "x"))
def test_a_sum_of_products_is_that_of_float64_in_every_form(side: int, size: Size) -> None:
    check_convolution(size, side, "DirectConv")


@pytest.mark.parametrize(("side", "size"), [(1, (33, 40, 7, 14)), (1, (5, 7, 61, 97)), (3, (33, 40, 7, 14))])
def test_one_thread_and_two_give_the_same_bits(side: int, size: Size) -> None:
    inputs = parts(size, (True, True, True), side)
    one, two = (convolution(**inputs, operator="DirectConv", threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("side", [1, 3])
def test_memory_of_a_larger_map_shows_in_no_smaller_one_and_inputs_stay(side: int) -> None:
    small = (5, 7, 2, 3)
    expected = convolution(**parts(small, (True, True, True), side), operator="DirectConv")
    convolution(**parts((5, 7, 61, 97), (True, True, True), side), operator="DirectConv")
    inputs = parts(small, (True, True, True), side)
    before = {name: array.copy() for name, array in inputs.items()}
    np.testing.assert_array_equal(convolution(**inputs, operator="DirectConv"), expected)
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize(("side", "size"), [(1, (3, 9, 7, 14)), (1, (3, 2, 61, 97)), (3, (3, 9, 7, 14))])
def test_nan_comes_out_where_it_is_read_and_nowhere_else(side: int, size: Size, modulated: bool) -> None:
    inputs = parts(size, (True, True, modulated), side)
    inputs["x"][0, 1, 3, 6] = np.nan
    nan = np.isnan(convolution(**inputs, operator="DirectConv"))
    reach = side // 2
    read = np.zeros_like(nan)
    read[:, :, 3 - reach : 4 + reach, 6 - reach : 7 + reach] = True
    np.testing.assert_array_equal(nan, read)


def test_nan_in_a_modulation_bias_or_residual_comes_out() -> None:
    for name in ("gain", "shift", "bias", "residual"):
        inputs = parts((3, 4, 5, 6), (True, True, True), side=1)
        inputs[name][...] = np.nan
        assert np.isnan(convolution(**inputs, operator="DirectConv")).all(), name
