"""ONNX operators in PyTorch: those that `diamond-export` writes, and some of their neighbours; opset 18 to 24.

https://onnx.ai/onnx/operators. An operator or attribute that is not here is an error, never a guess.
"""

import operator as python
from collections.abc import Callable
from typing import Any

from engine.torch_graph.one_operator import Operator

OLDEST_OPSET, NEWEST_OPSET = 18, 24  # 18: ReduceMean's axes are an input, as Split's sizes already were
_TYPES = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64", 16: "bfloat16"}

Convert = Callable[[Operator], Any]


def _elementwise(name: str) -> Convert:
    def convert(op: Operator) -> Any:
        return op.call(getattr(op.torch, name), *op.tensors())

    return convert


def _folded(name: str) -> Convert:
    """Max and Min take any number of inputs; PyTorch's take two. Both let NaN through."""

    def convert(op: Operator) -> Any:
        first, *rest = op.tensors()
        for other in rest:
            first = op.call(getattr(op.torch, name), first, other)
        return first

    return convert


def _identity(op: Operator) -> Any:
    return op.tensor(0)


def _cast(op: Operator) -> Any:
    op.ignore("saturate", "round_mode")  # about 8-bit floats
    type_ = op.attribute("to", 0)
    if type_ not in _TYPES:
        raise op.fail(f"attribute to is {type_}", f"one of {', '.join(_TYPES.values())}")
    return op.call(op.torch.Tensor.to, op.tensor(0), getattr(op.torch, _TYPES[type_]))


def _clip(op: Operator) -> Any:
    low, high = (op.number(index) if op.has(index) else None for index in (1, 2))
    if low is None and high is None:
        return op.tensor(0)
    return op.call(op.torch.clamp, op.tensor(0), low, high)


def _concat(op: Operator) -> Any:
    return op.call(op.torch.cat, op.tensors(), op.attribute("axis", 0))


def _conv(op: Operator) -> Any:
    x, weight, bias = op.tensor(0), op.tensor(1), op.optional(2)
    if len(op.shape(weight)) != 4:
        raise op.fail(f"its weight has shape {op.shape(weight)}", "a convolution of images, four axes")
    op.require("auto_pad", "NOTSET")
    op.ignore("kernel_shape")  # the weight's
    top, left, bottom, right = op.attribute("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        x = op.call(op.torch.nn.functional.pad, x, (left, right, top, bottom))
        top = left = 0
    return op.call(
        op.torch.nn.functional.conv2d,
        x,
        weight,
        bias,
        op.attribute("strides", (1, 1)),
        (top, left),
        op.attribute("dilations", (1, 1)),
        op.attribute("group", 1),
    )


def _depth_to_space(op: Operator) -> Any:
    if op.attribute("mode", "DCR") != "CRD":
        raise op.fail("attribute mode is DCR", "CRD")
    return op.call(op.torch.nn.functional.pixel_shuffle, op.tensor(0), op.attribute("blocksize", 0))


def _gemm(op: Operator) -> Any:
    a, b, c = op.tensor(0), op.tensor(1), op.optional(2)
    alpha, beta = op.attribute("alpha", 1.0), op.attribute("beta", 1.0)
    if op.attribute("transA", 0):
        a = op.call(op.torch.transpose, a, 0, 1)
    transposed = bool(op.attribute("transB", 0))
    if transposed and alpha == beta == 1.0 and (c is None or len(op.shape(c)) == 1):
        return op.call(op.torch.nn.functional.linear, a, b, c)
    if transposed:
        b = op.call(op.torch.transpose, b, 0, 1)
    product = op.call(op.torch.matmul, a, b)
    if alpha != 1.0:
        product = op.call(op.torch.mul, product, alpha)
    if c is None or beta == 0.0:
        return product
    return op.call(op.torch.add, product, c if beta == 1.0 else op.call(op.torch.mul, c, beta))


def _instance_norm(op: Operator) -> Any:
    return op.call(
        op.torch.nn.functional.instance_norm,
        op.tensor(0),
        weight=op.tensor(1),
        bias=op.tensor(2),
        eps=op.attribute("epsilon", 1e-5),
    )


def _pad(op: Operator) -> Any:
    x = op.tensor(0)
    op.require("mode", "constant")
    pads, rank = op.ints(1), len(op.shape(x))
    axes = [axis % rank for axis in (op.ints(3) if op.has(3) else range(rank))]
    if len(pads) != 2 * len(axes):
        raise op.fail(f"{len(pads)} pads for {len(axes)} axes", "two for each")
    widths = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    last_first = [width for axis in reversed(range(rank)) for width in widths.get(axis, (0, 0))]
    while last_first[-2:] == [0, 0]:  # leading axes that stay as they are
        del last_first[-2:]
    value = op.number(2) if op.has(2) else 0.0
    return op.call(op.torch.nn.functional.pad, x, tuple(last_first), "constant", value)


def _reduce_mean(op: Operator) -> Any:
    x, axes = op.tensor(0), op.ints(1) if op.has(1) else ()
    keep, nothing = bool(op.attribute("keepdims", 1)), bool(op.attribute("noop_with_empty_axes", 0))
    if not axes and nothing:
        return x
    return op.call(op.torch.mean, x, axes or tuple(range(len(op.shape(x)))), keep)


def _reshape(op: Operator) -> Any:
    shape = op.ints(1)
    if 0 in shape and not op.attribute("allowzero", 0):
        raise op.fail(
            f"to {shape}, where 0 stands for an axis of the input", "lengths, at most one of them -1"
        )
    op.ignore("allowzero")
    return op.call(op.torch.reshape, op.tensor(0), shape)


def _resize(op: Operator) -> Any:
    """Enlargement of images by whole numbers, nearest: each pixel becomes a block."""
    op.require("mode", "nearest")
    corners = op.attribute("coordinate_transformation_mode", "half_pixel") == "asymmetric"
    op.require("coordinate_transformation_mode", "half_pixel", "asymmetric")
    rounding = op.attribute("nearest_mode", "round_prefer_floor")
    if rounding != ("floor" if corners else "round_prefer_floor"):  # either pair makes blocks
        raise op.fail(f"attribute nearest_mode is {rounding!r}")
    op.require("antialias", 0)
    op.ignore("cubic_coeff_a", "exclude_outside", "extrapolation_value", "keep_aspect_ratio_policy")
    x = op.tensor(0)
    scales = op.numbers(2)
    if op.has(3) or len(scales) != 4 or scales[:2] != (1, 1) or any(s < 1 or s % 1 for s in scales):
        raise op.fail(f"scales {scales}", "whole numbers for height and width, no sizes")
    factors = (int(scales[2]), int(scales[3]))
    return op.call(op.torch.nn.functional.interpolate, x, None, factors, "nearest")


def _slice(op: Operator) -> Any:
    x = op.tensor(0)
    starts, ends = op.ints(1), op.ints(2)
    axes = op.ints(3) if op.has(3) else tuple(range(len(starts)))
    steps = op.ints(4) if op.has(4) else (1,) * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise op.fail(f"a step of {step}", "1 or more")
        x = op.call(op.torch.ops.aten.slice.Tensor, x, axis, start, end, step)
    return x


def _softmax(op: Operator) -> Any:
    return op.call(op.torch.softmax, op.tensor(0), op.attribute("axis", -1))


def _split(op: Operator) -> Any:
    x, axis = op.tensor(0), op.attribute("axis", 0)
    count = len(op.node.outputs)
    op.require("num_outputs", count)
    length = op.shape(x)[axis]
    sizes = op.ints(1) if op.has(1) else (-(-length // count),)
    if not op.has(1):
        sizes = tuple(min(sizes[0], length - sizes[0] * part) for part in range(count))
    if len(sizes) != count or sum(sizes) != length or min(sizes) < 0:
        raise op.fail(f"an axis of {length} into {count} parts of {sizes}", "parts that add up")
    parts = op.call(op.torch.split, x, sizes, axis)
    return [op.call(python.getitem, parts, index) for index in range(count)]


def _squeeze(op: Operator) -> Any:
    return op.call(op.torch.squeeze, op.tensor(0), op.ints(1))


def _transpose(op: Operator) -> Any:
    x = op.tensor(0)
    backwards = tuple(reversed(range(len(op.shape(x)))))
    return op.call(op.torch.permute, x, op.attribute("perm", backwards))


def _unsqueeze(op: Operator) -> Any:
    x, axes = op.tensor(0), op.ints(1)
    rank = len(op.shape(x)) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = op.call(op.torch.unsqueeze, x, axis)
    return x


OPERATORS: dict[str, Convert] = {
    **{
        name: _elementwise(function)
        for name, function in {
            "Abs": "abs",
            "Add": "add",
            "Cos": "cos",
            "Div": "div",
            "Exp": "exp",
            "Floor": "floor",
            "MatMul": "matmul",
            "Mul": "mul",
            "Neg": "neg",
            "Pow": "pow",
            "Reciprocal": "reciprocal",
            "Relu": "relu",
            "Sigmoid": "sigmoid",
            "Sin": "sin",
            "Sqrt": "sqrt",
            "Sub": "sub",
            "Tanh": "tanh",
        }.items()
    },
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Gemm": _gemm,
    "Identity": _identity,
    "InstanceNormalization": _instance_norm,
    "Max": _folded("maximum"),
    "Min": _folded("minimum"),
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
