"""Inputs of the native operators, and how far from float64 their rounding errors may take a convolution in fp32."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine import native
from tests.engine.native.one_node import activated, convolution, exact_convolution

CONV_ERROR = 4e-6  # of the largest sum of absolute products; measured: 2e-6

has_bf16 = pytest.mark.skipif(
    not native.kernels("bf16"),
    reason=f"no native operators for bf16: {native.missing() or 'this processor does not multiply in it'}",
)

has_int8 = pytest.mark.skipif(
    not native.kernels("int8"),
    reason=f"no native operators for int8: {native.missing() or 'this processor does not multiply bytes'}",
)

Size = tuple[int, int, int, int]  # channels in and out, height, width


def floats(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Of deviation 1."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def parts(size: Size, given: tuple[bool, ...], side: int = 3) -> dict[str, Any]:
    """A convolution's inputs: whether it has bias, residual, and gain and shift."""
    C, K, H, W = size
    bias, residual, modulated = given
    return {
        "x": floats(1, C, H, W),
        "weights": floats(K, C, side, side),
        "bias": floats(K) if bias else None,
        "residual": floats(1, K, H, W, seed=1) if residual else None,
        "gain": floats(1, C, 1, 1, seed=2) if modulated else None,
        "shift": floats(1, C, 1, 1, seed=3) if modulated else None,
    }


def magnitude(inputs: dict[str, Any]) -> float:
    """The largest sum of absolute products in a convolution, which rounding errors grow with."""
    x = activated(inputs["x"], inputs["gain"], inputs["shift"])
    others = (None if inputs[name] is None else np.abs(inputs[name]) for name in ("bias", "residual"))
    return float(exact_convolution(np.abs(x), np.abs(inputs["weights"]), *others).max())


def every_form(size: Size, side: int = 3) -> list[dict[str, Any]]:
    """A convolution's inputs in every combination of the optional ones."""
    return [parts(size, given, side) for given in itertools.product((False, True), repeat=3)]


def check_convolution(size: Size, side: int = 3, operator: str = "Conv3x3") -> None:
    """Compares an operator in fp32 with float64 in every combination of its optional inputs."""
    for inputs in every_form(size, side):
        error = np.abs(convolution(**inputs, operator=operator) - exact_convolution(**inputs))
        bound = CONV_ERROR * magnitude(inputs)
        given = [name for name, array in inputs.items() if array is not None]
        assert error.max() <= bound, (
            f"{given}: max {error.max():.2e}, mean {error.mean():.2e}, bound {bound:.2e}"
        )


def copying(channels: int, side: int) -> npt.NDArray[np.float32]:
    """Weights of the convolution that copies its input."""
    weights = np.zeros((channels, channels, side, side), np.float32)
    weights[range(channels), range(channels), side // 2, side // 2] = 1
    return weights
