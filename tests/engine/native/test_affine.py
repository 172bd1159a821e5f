"""Affine, a norm's factor and addend for a map that no convolution reads, against float64; in float32 and in bf16."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnx", reason="the models of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the operators")

from engine import native
from tests.engine.native.cases import floats, has_bf16
from tests.engine.native.layouts import SHORT_OUTPUT, SHORT_X, lengthened, rounded, shortened
from tests.engine.native.one_node import affine

Array = npt.NDArray[Any]

ROUNDING = 2**-24  # of a number in float32; twice, where product and sum are rounded apart

pytestmark = pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")

# Channels, height, width. A vector is 16 values (8 in AVX2); a map of 65536 is shared between threads.
SIZES = [
    (1, 1, 1),
    (3, 1, 7),
    (8, 5, 3),
    (5, 4, 4),
    (2, 4, 8),
    (3, 13, 63),
    (7, 61, 97),
    (16, 64, 64),
    (17, 64, 65),
]
each_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))


def given(size: tuple[int, int, int]) -> tuple[Array, Array, Array]:
    """A map whose numbers bf16 has, a factor and an addend."""
    return rounded(3 * floats(1, *size) + 1), floats(size[0], seed=1), floats(size[0], seed=2)


def exact(x: Array, scale: Array, offset: Array) -> tuple[Array, Array]:
    """In float64, and how wrong float32 may be."""
    product = x * scale.astype(np.float64).reshape(1, -1, 1, 1)
    y = product + offset.reshape(1, -1, 1, 1)
    return y, ROUNDING * (np.abs(product) + np.abs(y))


@pytest.mark.usefixtures("kernels")
@each_size
def test_it_is_that_of_float64_on_one_thread_and_two(size: tuple[int, int, int]) -> None:
    x, scale, offset = given(size)
    y, bound = exact(x, scale, offset)
    got = affine(x, scale, offset)
    assert got.shape == x.shape
    assert (np.abs(got - y) <= bound).all(), f"max {np.abs(got - y).max():.2e}"
    np.testing.assert_array_equal(affine(x, scale, offset, threads=2), got)


@pytest.mark.usefixtures("kernels")
def test_factor_and_addend_may_have_the_axes_of_a_map() -> None:
    x, scale, offset = given((5, 3, 7))
    got = affine(x, scale.reshape(1, 5, 1, 1), offset.reshape(5, 1, 1))
    np.testing.assert_array_equal(got, affine(x, scale, offset))


@has_bf16
@each_size
def test_in_bf16_it_reads_and_writes_the_nearest_numbers(size: tuple[int, int, int]) -> None:
    x, scale, offset = given(size)
    y, bound = exact(x, scale, offset)
    read = affine(shortened(x), scale, offset, short_maps=SHORT_X)
    assert (np.abs(read - y) <= bound).all(), f"max {np.abs(read - y).max():.2e}"
    for maps, source in ((SHORT_OUTPUT, x), (SHORT_X | SHORT_OUTPUT, shortened(x))):
        for threads in (1, 2):
            got = affine(source, scale, offset, threads, short_maps=maps)
            np.testing.assert_array_equal(lengthened(got), rounded(read), err_msg=f"short_maps {maps}")


@pytest.mark.parametrize("maps", [0, pytest.param(SHORT_X | SHORT_OUTPUT, marks=has_bf16)])
def test_nan_stays_nan_and_stays_where_it_is(maps: int) -> None:
    x, scale, offset = given((5, 7, 9))
    x[0, 1, 6, 8] = np.nan
    scale[2], offset[4] = np.nan, np.nan
    got = affine(shortened(x), scale, offset, short_maps=maps) if maps else affine(x, scale, offset)
    nan = np.isnan(lengthened(got) if maps else got)
    expected = np.zeros_like(nan)
    expected[0, 1, 6, 8] = expected[:, [2, 4]] = True
    np.testing.assert_array_equal(nan, expected)


def test_what_it_cannot_compute_is_an_error() -> None:
    x, scale, offset = given((4, 5, 6))
    for wrong in ((x, scale[:3], offset), (x, scale, floats(5))):
        with pytest.raises(Exception, match=r"diamond\.cpu\.Affine: an input of another size"):
            affine(*wrong)
    for shape in ((4, 5, 6), (2, 2, 5, 6)):
        with pytest.raises(Exception, match=r"diamond\.cpu\.Affine: an input that is not \(1, C, H, W\)"):
            affine(x.reshape(shape), scale, offset)
    for name in ("fewer_rows", "more_rows", "doubled"):
        with pytest.raises(Exception, match=r"diamond\.cpu\.Affine: maps of other rows"):
            affine(x, scale, offset, **{name: 1})
