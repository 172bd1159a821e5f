"""Maps in bf16 between two of our operators: they give bit for bit what the same values in float32 do, and what is
written in bf16 is the float32 result, rounded to the nearest.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnx", reason="the models of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the operators")

from engine import native
from tests.engine.native.cases import Size, copying, floats, has_bf16, has_int8, parts
from tests.engine.native.layouts import (
    SHORT_MORE,
    SHORT_OUTPUT,
    SHORT_RESIDUAL,
    SHORT_X,
    convolution_over_nan,
    lengthened,
    rounded,
    second_half,
    shortened,
)
from tests.engine.native.one_node import affine, convolution, exact_norm_affine, norm_affine, silu

Array = npt.NDArray[Any]

NORM_ERROR = 2e-6
INPUTS = {"x": SHORT_X, "more": SHORT_MORE, "residual": SHORT_RESIDUAL}

# The side of the weights, channels in and out, height, width, and where the channels are cut in two maps (0: nowhere).
# Vectors are 16 values; two channels share a lane in bf16, four in int8; an Int8Conv reads rows 256 values at a time.
Case = tuple[int, Size, int]
BF16: list[tuple[str, Case]] = [
    ("Conv3x3", (3, (1, 2, 1, 1), 0)),
    ("Conv3x3", (3, (3, 5, 9, 1), 1)),
    ("Conv3x3", (3, (17, 9, 13, 63), 7)),
    ("Conv3x3", (3, (4, 3, 9, 197), 2)),
    ("Conv3x3", (3, (9, 11, 61, 97), 3)),  # more than 8 blocks
    ("DirectConv", (1, (3, 5, 1, 1), 1)),
    ("DirectConv", (1, (17, 9, 4, 7), 7)),
    ("DirectConv", (1, (5, 7, 61, 97), 2)),  # more than 8 items
    ("DirectConv", (3, (17, 9, 4, 7), 8)),
    ("DirectConv", (3, (2, 3, 3, 300), 1)),
    ("DirectConv", (3, (9, 7, 19, 35), 0)),
]
INT8: list[tuple[int, Case]] = [  # the stride first
    (1, (1, (17, 9, 4, 7), 6)),
    (1, (1, (5, 7, 61, 97), 3)),
    (1, (3, (1, 1, 1, 1), 0)),
    (1, (3, (3, 5, 9, 1), 1)),
    (1, (3, (17, 9, 4, 7), 8)),
    (1, (3, (6, 3, 33, 300), 3)),
    (1, (3, (7, 5, 9, 35), 0)),
    (2, (3, (6, 9, 7, 15), 2)),
    (2, (3, (5, 11, 65, 98), 3)),
    (2, (3, (5, 3, 3, 301), 0)),
]


def given(case: Case, modulated: bool, stride: int = 1) -> dict[str, Any]:
    """A convolution's inputs, all maps of them numbers that bf16 has."""
    side, size, split = case
    inputs = parts(size, (True, True, modulated), side)
    inputs["residual"] = inputs["residual"][..., ::stride, ::stride]
    x = inputs["x"]
    if split:
        inputs |= {"x": x[:, :split], "more": x[:, split:]}
    return inputs | {name: rounded(inputs[name]) for name in INPUTS if name in inputs}


def in_memory(inputs: dict[str, Any], maps: int) -> dict[str, Any]:
    """The same inputs, those maps in bf16 that a sum says."""
    return inputs | {
        name: shortened(inputs[name]) for name, bit in INPUTS.items() if maps & bit and name in inputs
    }


def check_every_combination(case: Case, **attributes: Any) -> None:
    for modulated in (False, True):
        inputs = given(case, modulated, attributes.get("stride", 1))
        whole = convolution(**inputs, **attributes)
        for maps in range(1, 16):
            if maps & SHORT_MORE and "more" not in inputs:
                continue
            got = convolution(**in_memory(inputs, maps), **attributes, short_maps=maps)
            expected = whole
            if maps & SHORT_OUTPUT:
                got, expected = lengthened(got), rounded(whole)
            np.testing.assert_array_equal(got, expected, err_msg=f"short_maps {maps}, {modulated=}")


@has_bf16
@pytest.mark.parametrize(("operator", "case"), BF16, ids=lambda case: str(case).replace(", ", "x"))
def test_in_bf16_a_map_gives_what_its_values_give_in_float32(operator: str, case: Case) -> None:
    check_every_combination(case, operator=operator, bf16=1)


@has_int8
@pytest.mark.parametrize(("stride", "case"), INT8, ids=lambda case: str(case).replace(", ", "x"))
def test_in_int8_a_map_gives_what_its_values_give_in_float32(stride: int, case: Case) -> None:
    check_every_combination(case, operator="Int8Conv", stride=stride)


EACH = [
    pytest.param("Conv3x3", {"bf16": 1}, marks=has_bf16),
    pytest.param("DirectConv", {"bf16": 1}, marks=has_bf16),
    pytest.param("Int8Conv", {}, marks=has_int8),
]
each_operator = pytest.mark.parametrize(("operator", "attributes"), EACH)


@each_operator
def test_what_is_written_is_the_nearest_of_bf16_and_of_two_the_even_one(
    operator: str, attributes: dict[str, int]
) -> None:
    """Nothing is convolved, so what comes out is the residual: float32 numbers of every size, infinities, and NaN."""
    upper = np.arange(0x80, 0x8000, dtype=np.uint32)  # from 1.2e-38 on
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    bits = ((upper[:, None] << 16) + lower).reshape(1, 3, 256, 255)
    for sign in (0, 0x80000000):
        residual = (bits | np.uint32(sign)).view(np.float32)
        assert np.isnan(residual).any()
        assert np.isinf(rounded(residual)).sum() > np.isinf(residual).sum()  # the largest of float32
        x = np.zeros_like(residual)
        got = convolution(
            x, copying(3, 3), residual=residual, operator=operator, short_maps=SHORT_OUTPUT, **attributes
        )
        np.testing.assert_array_equal(lengthened(got), rounded(residual))


@each_operator
@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("channel", [0, 1, 4])  # the last has a lane of its own
def test_nan_stays_nan_where_it_is(
    operator: str, attributes: dict[str, int], channel: int, modulated: bool
) -> None:
    """In int8 it makes the grid NaN, and so everything."""
    inputs = given((3, (5, 7, 21, 34), 0), modulated)
    inputs["x"][0, channel, 10, 17] = np.nan
    maps = SHORT_X | SHORT_RESIDUAL | SHORT_OUTPUT
    got = convolution(**in_memory(inputs, maps), operator=operator, short_maps=maps, **attributes)
    nan = np.isnan(lengthened(got))
    np.testing.assert_array_equal(nan, np.isnan(convolution(**inputs, operator=operator, **attributes)))
    assert nan[:, :, 9:12, 16:19].all()
    assert nan.all() == (operator == "Int8Conv")


@each_operator
@pytest.mark.parametrize(("H", "W"), [(1, 1), (5, 7), (13, 63), (61, 97)])
def test_nothing_is_written_behind_a_map_in_bf16(
    operator: str, attributes: dict[str, int], H: int, W: int
) -> None:
    """Its last values lie beside the last that they leave as they were: an odd number of them, of no whole vectors."""
    inputs = given((3, (3, 9, H, W), 0), True)
    memory = convolution_over_nan((1, 9, H, W), operator, **inputs, short_maps=SHORT_OUTPUT, **attributes)
    expected = rounded(convolution(**inputs, operator=operator, **attributes))
    np.testing.assert_array_equal(lengthened(memory), expected)
    untouched = second_half(np.full(memory.shape, np.nan, np.float32))
    np.testing.assert_array_equal(second_half(memory), untouched)


@each_operator
@pytest.mark.parametrize(("H", "W"), [(7, 14), (61, 97)])
def test_one_thread_and_two_give_the_same_bits(
    operator: str, attributes: dict[str, int], H: int, W: int
) -> None:
    inputs = in_memory(given((3, (33, 40, H, W), 0), True), 15)
    one, two = (
        lengthened(convolution(**inputs, operator=operator, threads=threads, short_maps=13, **attributes))
        for threads in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


# The norm.


@has_bf16
@pytest.mark.parametrize(
    ("split", "maps"),
    [(0, SHORT_X)] + [(split, maps) for split in (1, 8, 19) for maps in (SHORT_X, SHORT_MORE, 3)],
)
@pytest.mark.parametrize(("H", "W"), [(1, 1), (5, 7), (33, 49), (61, 97)])
def test_a_norm_of_maps_in_bf16_is_that_of_float64(H: int, W: int, split: int, maps: int) -> None:
    x, gain, shift = rounded(3 * floats(1, 20, H, W) + 1), floats(20, seed=1), floats(20, seed=2)
    inputs = in_memory({"x": x[:, :split], "more": x[:, split:]} if split else {"x": x}, maps)
    outputs = 3 if native.kernels("int8") else 2
    inputs = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
    found = norm_affine(**inputs, gain=gain, shift=shift, groups=5, outputs=outputs, short_maps=maps)
    scale, offset = exact_norm_affine(x, gain, shift, 5)
    np.testing.assert_allclose(found[0], scale, rtol=NORM_ERROR, atol=0)
    np.testing.assert_allclose(found[1], offset, rtol=NORM_ERROR, atol=NORM_ERROR)
    if outputs == 3:
        values = silu(x * scale.reshape(1, -1, 1, 1) + offset.reshape(1, -1, 1, 1))
        np.testing.assert_allclose(found[2], [-0.2785, max(values.max(), 0)], rtol=1e-4, atol=1e-6)


@has_bf16
def test_a_norm_of_a_map_in_bf16_keeps_nan_in_its_group() -> None:
    x = rounded(floats(1, 32, 13, 63))
    x[0, 9, 12, 62] = np.nan  # of the second of four groups
    scale, offset = norm_affine(shortened(x), floats(32), floats(32, seed=1), 4, short_maps=SHORT_X)
    lost = np.isnan(scale + offset).reshape(4, 8)
    assert lost[1].all()
    assert not lost[[0, 2, 3]].any()


# Misuse.


@has_bf16
@pytest.mark.parametrize("maps", [SHORT_X, SHORT_MORE, SHORT_RESIDUAL, SHORT_OUTPUT, 15])
@pytest.mark.parametrize("operator", ["Conv3x3", "DirectConv"])
def test_products_in_float32_refuse_maps_in_bf16(operator: str, maps: int) -> None:
    inputs = given((3, (3, 4, 5, 6), 1), False)
    for attributes in ({}, {"bf16": 0}):
        with pytest.raises(Exception, match=r"diamond\.cpu: maps in bf16 for products in float32"):
            convolution(**inputs, operator=operator, short_maps=maps, **attributes)


@pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")
def test_where_the_processor_has_no_bf16_a_map_in_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.SWITCH, "avx2")  # they know float32 alone
    x, channels = floats(1, 4, 5, 6), floats(4)
    inputs = {**given((3, (3, 4, 5, 6), 0), False), "short_maps": SHORT_X}
    for compute in (
        lambda: convolution(**inputs, operator="Conv3x3"),
        lambda: convolution(**inputs, operator="DirectConv"),
        lambda: norm_affine(x, channels, channels, 2, short_maps=SHORT_X),
        lambda: affine(x, channels, channels, short_maps=SHORT_X),
    ):
        with pytest.raises(Exception, match=r"diamond\.cpu: this processor has no such kernels"):
            compute()
