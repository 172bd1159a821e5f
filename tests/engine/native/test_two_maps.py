"""An input that comes as two maps gives bit for bit what their channels one after the other give."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the models of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the operators")

from engine import native
from tests.engine.native.cases import floats, has_bf16, has_int8, parts
from tests.engine.native.one_node import convolution, norm_affine

pytestmark = pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")


def halves(inputs: dict[str, Any], split: int) -> dict[str, Any]:
    x = inputs["x"]
    return {**inputs, "x": x[:, :split].copy(), "more": x[:, split:].copy()}


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Conv3x3", {}),
        ("DirectConv", {}),
        pytest.param("Conv3x3", {"bf16": 1}, marks=has_bf16),
        pytest.param("DirectConv", {"bf16": 1}, marks=has_bf16),
        pytest.param("Int8Conv", {}, marks=has_int8),
        pytest.param("Int8Conv", {"stride": 2}, marks=has_int8),
    ],
)
@pytest.mark.parametrize(("H", "W"), [(4, 7), (33, 49)])
@pytest.mark.parametrize("split", [1, 8, 19])
def test_a_convolution_reads_two_maps(
    operator: str, attributes: dict[str, int], H: int, W: int, split: int
) -> None:
    for modulated in (False, True):
        inputs = parts((20, 9, H, W), (True, False, modulated))
        expected = convolution(**inputs, operator=operator, **attributes)
        got = convolution(**halves(inputs, split), operator=operator, **attributes)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("split", [1, 8, 19])
def test_a_norm_reads_two_maps(split: int) -> None:
    x, gain, shift = 3 * floats(1, 20, 33, 49) + 1, floats(20, seed=1), floats(20, seed=2)
    outputs = 3 if native.kernels("int8") else 2
    expected = norm_affine(x, gain, shift, groups=5, outputs=outputs)
    got = norm_affine(x[:, :split].copy(), gain, shift, 5, more=x[:, split:].copy(), outputs=outputs)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_two_maps_of_different_sizes_are_an_error() -> None:
    inputs = parts((4, 3, 8, 14), (False, False, False))
    with pytest.raises(Exception, match=r"diamond\.cpu: two maps of different sizes"):
        convolution(**{**halves(inputs, 2), "more": floats(1, 2, 8, 13)})
    with pytest.raises(Exception, match=r"diamond\.cpu: two maps of different sizes"):
        norm_affine(inputs["x"], floats(6), floats(6), 2, more=floats(1, 2, 8, 13))
