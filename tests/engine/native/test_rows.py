"""Rows at the bottom of a map: of its input an operator does not read some, and to its output it adds zeros."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnx", reason="the models of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the operators")

from engine import native
from tests.engine.native.cases import CONV_ERROR, Size, floats, has_bf16, has_int8, magnitude, parts
from tests.engine.native.layouts import (
    SHORT_MORE,
    SHORT_OUTPUT,
    SHORT_X,
    convolution_over_nan,
    lengthened,
    rounded,
    second_half,
    shortened,
)
from tests.engine.native.one_node import (
    convolution,
    exact_convolution,
    exact_norm_affine,
    norm_affine,
)

Array = npt.NDArray[Any]

NORM_ERROR = 2e-6

pytestmark = pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")

# The side of the weights, then channels in and out, and of what is read, height and width.
CASES: list[tuple[str, int, Size]] = [
    ("Conv3x3", 3, (3, 5, 1, 1)),
    ("Conv3x3", 3, (3, 5, 9, 1)),
    ("Conv3x3", 3, (5, 9, 8, 12)),  # whole tiles
    ("Conv3x3", 3, (5, 9, 13, 63)),
    ("Conv3x3", 3, (4, 3, 10, 197)),
    ("Conv3x3", 3, (9, 11, 61, 97)),  # more than 8 blocks
    ("DirectConv", 1, (3, 5, 1, 1)),
    ("DirectConv", 1, (17, 9, 4, 7)),
    ("DirectConv", 1, (5, 7, 61, 97)),  # more than 8 items
    ("DirectConv", 3, (3, 5, 1, 1)),
    ("DirectConv", 3, (17, 9, 4, 7)),
    ("DirectConv", 3, (2, 3, 3, 300)),
]
INT8: list[tuple[int, int, Size]] = [  # the stride instead of an operator
    (1, 1, (17, 9, 4, 7)),
    (1, 1, (5, 7, 61, 97)),
    (1, 3, (3, 5, 1, 1)),
    (1, 3, (17, 9, 4, 7)),
    (1, 3, (6, 3, 33, 301)),
    (2, 3, (3, 5, 1, 1)),
    (2, 3, (6, 9, 7, 15)),
    (2, 3, (6, 9, 8, 15)),
    (2, 3, (5, 11, 65, 98)),
]
each_case = pytest.mark.parametrize(
    ("operator", "side", "size"), CASES, ids=lambda case: str(case).replace(", ", "x")
)
each_int8_case = pytest.mark.parametrize(
    ("stride", "side", "size"), INT8, ids=lambda case: str(case).replace(", ", "x")
)
each_number = pytest.mark.parametrize("rows", [1, 3, 6])


def with_rows(x: Array, rows: int, value: float) -> Array:
    """A map with more rows at the bottom."""
    return np.pad(x, ((0, 0), (0, 0), (0, rows), (0, 0)), constant_values=value)


def given(size: Size, side: int, modulated: bool, stride: int = 1) -> dict[str, Any]:
    inputs = parts(size, (True, True, modulated), side)
    return inputs | {"residual": inputs["residual"][..., ::stride, ::stride].copy()}


# Rows that are not read.


def check_fewer_rows(size: Size, side: int, rows: int, maps: int = 0, **attributes: Any) -> None:
    """Against the map without them; they are NaN. With `maps`, x and the second of two maps are in bf16."""
    for modulated in (False, True):
        inputs = given(size, side, modulated, attributes.get("stride", 1))
        if maps:
            inputs["x"] = rounded(inputs["x"])
        expected = convolution(**inputs, **attributes)
        if attributes["operator"] != "Int8Conv" and not attributes.get("bf16"):  # others have their own tests
            error = np.abs(expected - exact_convolution(**inputs)).max()
            assert error <= CONV_ERROR * magnitude(inputs)
        store = shortened if maps else np.ascontiguousarray
        x = with_rows(inputs["x"], rows, np.nan)
        got = convolution(
            **{**inputs, "x": store(x)}, **attributes, fewer_rows=rows, short_maps=maps & SHORT_X
        )
        np.testing.assert_array_equal(got, expected)
        two = {**inputs, "x": store(x[:, :1]), "more": store(x[:, 1:])}
        np.testing.assert_array_equal(
            convolution(**two, **attributes, fewer_rows=rows, short_maps=maps), expected
        )


@each_number
@each_case
@pytest.mark.usefixtures("kernels")
def test_in_fp32_rows_that_are_not_read_are_as_if_they_were_not_there(
    operator: str, side: int, size: Size, rows: int
) -> None:
    check_fewer_rows(size, side, rows, operator=operator)


@has_bf16
@each_number
@each_case
def test_in_bf16_rows_that_are_not_read_are_as_if_they_were_not_there(
    operator: str, side: int, size: Size, rows: int
) -> None:
    for maps in (0, SHORT_X | SHORT_MORE):
        check_fewer_rows(size, side, rows, maps, operator=operator, bf16=1)


@has_int8
@each_number
@each_int8_case
def test_in_int8_rows_that_are_not_read_are_as_if_they_were_not_there(
    stride: int, side: int, size: Size, rows: int
) -> None:
    """Not even the range that is measured knows of them."""
    for maps in (0, SHORT_X | SHORT_MORE):
        check_fewer_rows(size, side, rows, maps, operator="Int8Conv", stride=stride)


@pytest.mark.parametrize("maps", [0, pytest.param(SHORT_X | SHORT_MORE, marks=has_bf16)])
@pytest.mark.parametrize(("H", "W"), [(1, 1), (5, 7), (33, 49)])
@each_number
def test_a_norm_measures_no_row_that_is_not_read(H: int, W: int, rows: int, maps: int) -> None:
    read, gain, shift = rounded(3 * floats(1, 20, H, W) + 1), floats(20, seed=1), floats(20, seed=2)
    outputs = 3 if native.kernels("int8") else 2
    expected = norm_affine(read, gain, shift, groups=5, outputs=outputs)
    store = shortened if maps else np.ascontiguousarray
    x = with_rows(read, rows, np.nan)
    one = norm_affine(
        store(x), gain, shift, groups=5, outputs=outputs, fewer_rows=rows, short_maps=maps & SHORT_X
    )
    first, more = store(x[:, :7]), store(x[:, 7:])
    two = norm_affine(first, gain, shift, 5, more=more, outputs=outputs, fewer_rows=rows, short_maps=maps)
    for got in (one, two):
        np.testing.assert_allclose(got[0], exact_norm_affine(read, gain, shift, 5)[0], rtol=NORM_ERROR)
        for ours, theirs in zip(got, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=NORM_ERROR, atol=NORM_ERROR)


# Rows of zeros.


def check_more_rows(size: Size, side: int, rows: int, short: bool = False, **attributes: Any) -> None:
    """Over memory that held NaN, against the output without them."""
    for modulated in (False, True):
        inputs = given(size, side, modulated, attributes.get("stride", 1))
        expected = convolution(**inputs, **attributes)
        height = expected.shape[2]
        shape = (*expected.shape[:2], height + rows, expected.shape[3])
        inputs["residual"] = with_rows(inputs["residual"], rows, np.nan)
        layout = {"more_rows": rows, "short_maps": SHORT_OUTPUT * short}
        got = memory = convolution_over_nan(shape, **inputs, **attributes, **layout)
        if short:
            got, expected = lengthened(memory), rounded(expected)
            untouched = second_half(np.full(shape, np.nan, np.float32))
            np.testing.assert_array_equal(second_half(memory), untouched)
        np.testing.assert_array_equal(got[:, :, :height], expected)
        np.testing.assert_array_equal(got[:, :, height:], 0)


@each_number
@each_case
@pytest.mark.usefixtures("kernels")
def test_in_fp32_rows_of_zeros_are_added(operator: str, side: int, size: Size, rows: int) -> None:
    check_more_rows(size, side, rows, operator=operator)


@has_bf16
@pytest.mark.parametrize("short", [False, True])
@each_number
@each_case
def test_in_bf16_rows_of_zeros_are_added(
    operator: str, side: int, size: Size, rows: int, short: bool
) -> None:
    check_more_rows(size, side, rows, short, operator=operator, bf16=1)


@has_int8
@pytest.mark.parametrize("short", [False, True])
@each_number
@each_int8_case
def test_in_int8_rows_of_zeros_are_added(stride: int, side: int, size: Size, rows: int, short: bool) -> None:
    check_more_rows(size, side, rows, short, operator="Int8Conv", stride=stride)


EACH = [
    ("Conv3x3", {}),
    ("DirectConv", {}),
    pytest.param("Conv3x3", {"bf16": 1}, marks=has_bf16),
    pytest.param("DirectConv", {"bf16": 1}, marks=has_bf16),
    pytest.param("Int8Conv", {}, marks=has_int8),
    pytest.param("Int8Conv", {"stride": 2}, marks=has_int8),
]
each_operator = pytest.mark.parametrize(("operator", "attributes"), EACH)


@each_operator
@pytest.mark.parametrize(("fewer", "more"), [(2, 3), (3, 1)])
def test_rows_are_left_out_and_added_at_once_on_one_thread_and_two(
    operator: str, attributes: dict[str, int], fewer: int, more: int
) -> None:
    inputs = given((9, 16, 33, 49), 3, True, attributes.get("stride", 1))
    expected = with_rows(convolution(**inputs, operator=operator, **attributes), more, 0)
    x, residual = with_rows(inputs["x"], fewer, np.nan), with_rows(inputs["residual"], more, np.nan)
    for threads in (1, 2):
        got = convolution(
            **{**inputs, "x": x, "residual": residual},
            operator=operator,
            threads=threads,
            fewer_rows=fewer,
            more_rows=more,
            **attributes,
        )
        np.testing.assert_array_equal(got, expected)


# Misuse.


@each_operator
def test_a_map_without_rows_and_fewer_than_none_are_errors(operator: str, attributes: dict[str, int]) -> None:
    inputs = {**parts((3, 4, 5, 6), (False, False, False)), "operator": operator, **attributes}
    for rows in (5, 6):
        with pytest.raises(Exception, match=r"diamond\.cpu: an input of a convolution that is not"):
            convolution(**inputs, fewer_rows=rows)
    for name in ("fewer_rows", "more_rows"):
        with pytest.raises(Exception, match=r"diamond\.cpu: rows less than none"):
            convolution(**inputs, **{name: -1})


@each_operator
def test_a_residual_has_the_rows_that_the_output_has(operator: str, attributes: dict[str, int]) -> None:
    inputs = given((3, 4, 5, 6), 3, False, attributes.get("stride", 1))
    with pytest.raises(Exception, match=r"diamond\.cpu: a residual of another shape than the output"):
        convolution(**inputs, operator=operator, more_rows=1, **attributes)


def test_a_norm_of_no_rows_is_an_error() -> None:
    for rows, said in ((5, r"diamond\.cpu\.NormAffine: an input that is not"), (-1, "rows less than none")):
        with pytest.raises(Exception, match=said):
            norm_affine(floats(1, 4, 5, 6), floats(4), floats(4), 2, fewer_rows=rows)
