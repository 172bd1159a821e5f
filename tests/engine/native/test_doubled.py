"""A Conv3x3 that reads a small map of which every value stands for 2x2, against the map written out, and float64."""

import itertools
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
    shortened,
)
from tests.engine.native.one_node import affine, convolution, exact_convolution, norm_affine

Array = npt.NDArray[Any]

pytestmark = pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")

# Channels in and out, height and width of what is stored: a tile is two columns of it, a block 48 tiles (24 in AVX2).
SIZES: list[Size] = [
    (1, 1, 1, 1),
    (3, 5, 9, 1),
    (3, 2, 1, 9),
    (8, 8, 2, 2),  # one tile
    (5, 7, 3, 5),
    (4, 3, 5, 31),
    (4, 3, 5, 32),  # a vector of tiles
    (4, 3, 5, 33),
    (3, 4, 3, 96),  # a row of one block
    (3, 4, 3, 97),
    (3, 4, 5, 197),  # of three
    (17, 9, 6, 15),
    (9, 11, 31, 49),  # more than 8 blocks
]
each_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))


def written_out(x: Array) -> Array:
    return x.repeat(2, axis=2).repeat(2, axis=3)


def given(size: Size, bias: bool = True, residual: bool = True) -> tuple[dict[str, Any], Array]:
    """A convolution's inputs with the map written out, and the map as it is stored."""
    C, K, H, W = size
    x = rounded(floats(1, C, H, W))
    return parts((C, K, 2 * H, 2 * W), (bias, residual, False)) | {"x": written_out(x)}, x


@pytest.mark.usefixtures("kernels")
@each_size
def test_a_doubled_map_is_convolved_as_that_of_float64(size: Size) -> None:
    for bias, residual in itertools.product((False, True), repeat=2):
        inputs, x = given(size, bias, residual)
        got = convolution(**{**inputs, "x": x}, doubled=1)
        error = np.abs(got - exact_convolution(**inputs)).max()
        bound = CONV_ERROR * magnitude(inputs)
        assert error <= bound, f"{bias=}, {residual=}: max {error:.2e}, bound {bound:.2e}"
        np.testing.assert_array_equal(got, convolution(**inputs))


@has_bf16
@each_size
def test_in_bf16_a_doubled_map_gives_the_bits_of_one_that_is_written_out(size: Size) -> None:
    inputs, x = given(size)
    expected = convolution(**inputs, bf16=1)
    for maps in (0, SHORT_X, SHORT_OUTPUT, SHORT_X | SHORT_OUTPUT):
        stored = shortened(x) if maps & SHORT_X else x
        got = convolution(**{**inputs, "x": stored}, bf16=1, doubled=1, short_maps=maps)
        if maps & SHORT_OUTPUT:
            np.testing.assert_array_equal(lengthened(got), rounded(expected), err_msg=f"{maps}")
        else:
            np.testing.assert_array_equal(got, expected, err_msg=f"{maps}")


@pytest.mark.parametrize("kind", [{}, pytest.param({"bf16": 1}, marks=has_bf16)])
@pytest.mark.parametrize("split", [1, 2, 7])
def test_two_maps_are_doubled(split: int, kind: dict[str, int]) -> None:
    inputs, x = given((9, 5, 13, 35))
    expected = convolution(**inputs, **kind)
    first, more = x[:, :split].copy(), x[:, split:].copy()
    got = convolution(**{**inputs, "x": first}, more=more, doubled=1, **kind)
    np.testing.assert_array_equal(got, expected)
    if kind:
        got = convolution(
            **{**inputs, "x": first}, more=shortened(more), doubled=1, short_maps=SHORT_MORE, **kind
        )
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", [{}, pytest.param({"bf16": 1}, marks=has_bf16)])
def test_rows_are_added_to_what_comes_of_a_doubled_map_on_one_thread_and_two(kind: dict[str, int]) -> None:
    inputs, x = given((9, 5, 31, 49), residual=False)
    expected = convolution(**inputs, **kind)
    stored = {**inputs, "x": x}
    memory = convolution_over_nan((1, 5, 65, 98), "Conv3x3", **stored, doubled=1, more_rows=3, **kind)
    np.testing.assert_array_equal(memory[:, :, :62], expected)
    np.testing.assert_array_equal(memory[:, :, 62:], 0)
    np.testing.assert_array_equal(convolution(**stored, doubled=1, threads=2, **kind), expected)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(("line", "column"), [(0, 0), (2, 8), (6, 50), (3, 31)])
def test_nan_is_doubled_and_stays_where_it_is(line: int, column: int) -> None:
    """It reaches the tiles that read it, of 4x4, and comes out of all that a convolution reads it for."""
    inputs, x = given((3, 4, 7, 51))
    x[0, 1, line, column] = np.nan
    nan = np.isnan(convolution(**{**inputs, "x": x}, doubled=1))
    rows, columns = slice(max(2 * line - 1, 0), 2 * line + 3), slice(max(2 * column - 1, 0), 2 * column + 3)
    assert nan[:, :, rows, columns].all()
    first_row, first_column = max(rows.start // 4 * 4, 0), max(columns.start // 4 * 4, 0)
    nan[:, :, first_row : first_row + 8, first_column : first_column + 8] = False
    assert not nan.any()


# Misuse.


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("DirectConv", {}),
        pytest.param("DirectConv", {"bf16": 1}, marks=has_bf16),
        pytest.param("Int8Conv", {}, marks=has_int8),
    ],
)
def test_other_convolutions_read_no_doubled_map(operator: str, attributes: dict[str, int]) -> None:
    inputs = parts((3, 4, 5, 6), (False, False, False))
    with pytest.raises(Exception, match=r"diamond\.cpu: a doubled map for another than Conv3x3"):
        convolution(**inputs, operator=operator, doubled=1, **attributes)


def test_norms_read_no_doubled_map() -> None:
    x, channels = floats(1, 4, 5, 6), floats(4)
    with pytest.raises(Exception, match=r"diamond\.cpu: a doubled map for another than Conv3x3"):
        norm_affine(x, channels, channels, 2, doubled=1)
    with pytest.raises(Exception, match=r"diamond\.cpu\.Affine: maps of other rows"):
        affine(x, channels, channels, doubled=1)


def test_a_doubled_map_is_neither_normed_nor_cropped() -> None:
    for modulated, rows in ((True, 0), (False, 1), (True, 1)):
        inputs = parts((3, 4, 5, 6), (False, False, modulated))
        with pytest.raises(Exception, match=r"diamond\.cpu: a doubled map that is normed or cropped"):
            convolution(**inputs, doubled=1, fewer_rows=rows)
