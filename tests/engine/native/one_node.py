"""Models of one native operator, run by ONNX Runtime, and what the operator should give, in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from engine import native
from engine.native.rewrite import DOMAIN

Array = npt.NDArray[Any]


def session(model: bytes, threads: int = 1) -> Any:
    """A session with the native operators."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # failures are expected here, and become exceptions
    options.register_custom_ops_library(str(native.LIBRARY))
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def one_node(
    operator: str,
    inputs: Mapping[str, Array | None],
    constants: Mapping[str, Array],
    order: tuple[str, ...],
    outputs: int = 1,
    **attributes: Any,
) -> bytes:
    """A model of one operator; `order` names its inputs, those that are neither given nor constant are left out."""
    names = [name if inputs.get(name) is not None or name in constants else "" for name in order]
    while names and not names[-1]:
        names.pop()
    results = [f"y{index}" for index in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(operator, names, results, domain=DOMAIN, **attributes)],
        operator,
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape)
            for name, array in inputs.items()
            if array is not None
        ],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in results],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def run(model: bytes, inputs: Mapping[str, Array | None], threads: int = 1) -> list[Array]:
    """The outputs of a model of one operator."""
    given = {name: array for name, array in inputs.items() if array is not None}
    outputs: list[Array] = session(model, threads).run(None, given)
    return outputs


CONV_INPUTS = ("x", "weights", "bias", "residual", "gain", "shift", "more", "range")


def convolution(
    x: Array,
    weights: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    gain: Array | None = None,
    shift: Array | None = None,
    more: Array | None = None,
    operator: str = "Conv3x3",
    threads: int = 1,
    **attributes: int,
) -> Array:
    """What Conv3x3, DirectConv or Int8Conv gives."""
    inputs = {"x": x, "residual": residual, "gain": gain, "shift": shift, "more": more}
    constants = {"weights": weights} | ({} if bias is None else {"bias": bias})
    (y,) = run(one_node(operator, inputs, constants, CONV_INPUTS, **attributes), inputs, threads)
    return y


def norm_affine(
    x: Array,
    gain: Array,
    shift: Array,
    groups: int,
    epsilon: float = 1e-5,
    threads: int = 1,
    more: Array | None = None,
    outputs: int = 2,
    **attributes: int,
) -> list[Array]:
    """What NormAffine gives: factor and addend, and where a third output is asked for, the range of silu."""
    inputs: dict[str, Array | None] = {"x": x, "gain": gain, "shift": shift, "more": more}
    order = ("x", "gain", "shift", "more")
    model = one_node("NormAffine", inputs, {}, order, outputs, groups=groups, epsilon=epsilon, **attributes)
    return run(model, inputs, threads)


def affine(x: Array, scale: Array, offset: Array, threads: int = 1, **attributes: int) -> Array:
    """What Affine gives."""
    inputs = {"x": x, "scale": scale, "offset": offset}
    (y,) = run(one_node("Affine", inputs, {}, tuple(inputs), **attributes), inputs, threads)
    return y


def linear(x: Array, weights: Array, bias: Array, threads: int = 1, **attributes: int) -> Array:
    """What Linear gives."""
    constants = {"weights": weights, "bias": bias}
    model = one_node("Linear", {"x": x}, constants, ("x", "weights", "bias"), **attributes)
    (y,) = run(model, {"x": x}, threads)
    return y


def attention(qkv: Array, threads: int = 1, **attributes: int) -> Array:
    """What Attention gives."""
    (y,) = run(one_node("Attention", {"qkv": qkv}, {}, ("qkv",), **attributes), {"qkv": qkv}, threads)
    return y


def silu(x: Array) -> Array:
    """x / (1 + e^-x), in float64."""
    x = np.asarray(x, np.float64)
    with np.errstate(over="ignore"):
        y: Array = x / (1 + np.exp(-x))
    return y


def exact_convolution(
    x: Array,
    weights: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    gain: Array | None = None,
    shift: Array | None = None,
) -> Array:
    """What a convolution of 1x1, or of 3x3 with padding 1, should give, in float64, tap by tap."""
    _, C, H, W = x.shape
    side = weights.shape[-1]
    z = activated(x, gain, shift)[0]
    padded = np.pad(z, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    y = np.zeros((len(weights), H * W))
    for i in range(side):
        for j in range(side):
            y += weights[:, :, i, j].astype(np.float64) @ padded[:, i : i + H, j : j + W].reshape(C, -1)
    y = y.reshape(1, -1, H, W)
    if bias is not None:
        y += bias.reshape(1, -1, 1, 1)
    return y if residual is None else y + residual


def activated(x: Array, gain: Array | None, shift: Array | None) -> Array:
    """What a convolution multiplies: x, or silu(x * gain + shift), in float64."""
    z: Array = x.astype(np.float64)
    if gain is None or shift is None:
        return z
    return silu(z * gain.reshape(1, -1, 1, 1).astype(np.float64) + shift.reshape(1, -1, 1, 1))


def exact_norm_affine(
    x: Array, gain: Array, shift: Array, groups: int, epsilon: float = 1e-5
) -> tuple[Array, Array]:
    """What NormAffine should give, in float64."""
    per_group = x.astype(np.float64).reshape(groups, -1)
    inverse = 1 / np.sqrt(per_group.var(axis=1) + epsilon)
    size = x.shape[1] // groups
    scale = gain.reshape(-1).astype(np.float64) * np.repeat(inverse, size)
    return scale, shift.reshape(-1) - np.repeat(per_group.mean(axis=1), size) * scale


def exact_attention(qkv: Array) -> Array:
    """What Attention should give, in float64."""
    q, k, v = qkv.astype(np.float64)
    scores = q.transpose(0, 2, 1) @ k  # (heads, positions, positions)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    y: Array = (v @ weights.transpose(0, 2, 1))[None]
    return y
