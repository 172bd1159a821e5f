"""Puts the operators of `diamond.cpu` in place of what a graph has from the standard, where they are faster.

A 3x3 convolution becomes a `Conv3x3`, and takes in what stands around it: the norm and SiLU before it, the residual
added behind it. Attention over heads of eight channels becomes an `Attention`. Anything of another form, or too small,
stays as it is; a graph in which nothing fits is not rewritten. Shapes are those that the exporter writes beside every
tensor.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.native.onnx_messages import new_node, parse

DOMAIN = "diamond.cpu"
LEAST_CHANNELS = 8
LEAST_TILES = 12  # of 4x4 outputs: maps of fewer fill no vector
HEAD_CHANNELS = 8
_INT, _FLOAT, _BRANCHES = 2, 1, (5, 10)  # AttributeProto.AttributeType
_FLOAT32, _INT64 = 1, 7  # TensorProto.DataType


def rewrite(model: bytes) -> tuple[bytes, int]:
    """A graph with our operators.

    Args:
        model: a serialised ONNX model; weights in a file beside it stay there.

    Returns:
        The new model, and how many operators of ours it has. Without any, the bytes as they came.

    Raises:
        ValueError: not an ONNX model.
    """
    parsed = parse(model)
    replaced = _Graph(parsed.graph).rewrite()
    if not replaced:
        return model, 0
    parsed.opset_import.add(domain=DOMAIN, version=1)
    return parsed.SerializeToString(), replaced


class _Graph:
    """A graph while it is rewritten. Names are of tensors."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.nodes: list[Any] = list(graph.node)
        self.maker = {output: node for node in self.nodes for output in node.output}
        given = {value.name for value in graph.input}  # in old files also defaults, which are no constants
        self.constants = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in given}
        self.outputs = {value.name for value in graph.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.shapes = {name: tuple(tensor.dims) for name, tensor in self.constants.items()}
        for value in (*graph.input, *graph.value_info, *graph.output):
            dims = value.type.tensor_type.shape.dim
            if value.type.tensor_type.elem_type == _FLOAT32 and all(dim.dim_value > 0 for dim in dims):
                self.shapes[value.name] = tuple(dim.dim_value for dim in dims)
        self.taken: set[int] = set()
        self.affine: dict[tuple[str, ...], tuple[str, str]] = {}

    def rewrite(self) -> int:
        """Replaces what fits. Returns the number of convolutions and attentions."""
        replaced, rewritten = 0, []
        if any(attribute.type in _BRANCHES for node in self.nodes for attribute in node.attribute):
            return 0  # a branch reads tensors that no node names among its inputs
        instead: dict[int, list[Any]] = {}  # by the identity of the node whose place they take
        for node in self.nodes:
            if self.fits(node):
                place, before, added = self.replacement(node)
                instead[id(node)] = before  # not later, at the residual: another convolution may read them
                instead.setdefault(id(place), []).append(added)
                replaced += 1
            elif (qkv := self.attended(node)) is not None:
                instead[id(node)] = [_node("Attention", node.name, [qkv], [node.output[0]])]
                replaced += 1
        if not replaced:
            return 0
        for node in self.nodes:
            rewritten += instead.get(id(node), [node])
        self.keep(rewritten)
        return replaced

    def fits(self, node: Any) -> bool:
        """Whether a node is a convolution that Conv3x3 computes, and large enough."""
        if (
            node.op_type != "Conv"
            or node.domain
            or len(node.input) < 2
            or node.input[1] not in self.constants
        ):
            return False
        shape, weights = self.shapes.get(node.input[0]), self.constants[node.input[1]]
        if shape is None or len(shape) != 4 or shape[0] != 1 or weights.data_type != _FLOAT32:
            return False
        attributes = {a.name: tuple(a.ints) or a.i for a in node.attribute if a.name != "auto_pad"}
        plain = (
            attributes.get("pads") == (1, 1, 1, 1)
            and attributes.get("strides", (1, 1)) == (1, 1)
            and attributes.get("dilations", (1, 1)) == (1, 1)
            and attributes.get("group", 1) == 1
        )
        channels_out, channels_in, *kernel = weights.dims
        tiles = -(-shape[2] // 4) * -(-shape[3] // 4)
        return (
            plain
            and kernel == [3, 3]
            and min(channels_out, channels_in) >= LEAST_CHANNELS
            and tiles >= LEAST_TILES
        )

    def replacement(self, conv: Any) -> tuple[Any, list[Any], Any]:
        """The node whose place a convolution's stand-in takes, the nodes that go where the convolution was, and it."""
        x, gain, shift = conv.input[0], "", ""
        before: list[Any] = []
        found = self.modulated(x)
        if found is not None:
            x, gain, shift, before = found
        residual, place = "", conv
        readers = self.readers.get(conv.output[0], [])
        alone = len(readers) == 1 and conv.output[0] not in self.outputs
        if alone and readers[0].op_type == "Add" and id(readers[0]) not in self.taken:
            (other,) = [name for name in readers[0].input if name != conv.output[0]] or [""]
            shape = (1, self.constants[conv.input[1]].dims[0], *self.shapes[conv.input[0]][2:])
            if self.shapes.get(other) == shape:
                residual, place = other, readers[0]
                self.taken.add(id(place))  # not also by the convolution on its other side
        bias = conv.input[2] if len(conv.input) > 2 else ""
        inputs = [x, conv.input[1], bias, residual, gain, shift]
        while not inputs[-1]:
            inputs.pop()
        return place, before, _node("Conv3x3", conv.name, inputs, [place.output[0]])

    def attended(self, node: Any) -> str | None:
        """Queries, keys and values (3, heads, 8, positions) of v @ softmax(q^T @ k)^T; None for any other node."""
        if node.op_type != "MatMul" or node.domain:
            return None
        softmax = self.made(self.turned(node.input[1]), "Softmax")
        scores = None if softmax is None else self.made(softmax.input[0], "MatMul")
        if softmax is None or scores is None:
            return None
        axis = next((a.i for a in softmax.attribute if a.name == "axis"), -1)
        parts = [self.turned(scores.input[0]), scores.input[1], node.input[0]]
        split = self.made(parts[0], "Split")
        if split is None or list(split.output) != parts or axis not in (-1, 3):
            return None
        qkv = str(split.input[0])
        shape = self.shapes.get(qkv, ())
        one = all(self.shapes.get(part) == (1, *shape[1:]) for part in parts)
        return qkv if len(shape) == 4 and shape[0] == 3 and shape[2] == HEAD_CHANNELS and one else None

    def turned(self, name: str) -> str:
        """A tensor whose last two of four axes were exchanged; "" where they were not."""
        node = self.made(name, "Transpose")
        axes = [] if node is None else [tuple(a.ints) for a in node.attribute if a.name == "perm"]
        return str(node.input[0]) if axes == [(0, 1, 3, 2)] else ""

    def modulated(self, name: str) -> tuple[str, str, str, list[Any]] | None:
        """Of silu(x * gain + shift): x, gain and shift, and the nodes that compute these two; None where it is not."""
        silu = self.made(name, "Mul")
        if silu is None:
            return None
        for z, gate in (tuple(silu.input), tuple(silu.input)[::-1]):
            sigmoid = self.made(gate, "Sigmoid")
            if sigmoid is not None and sigmoid.input[0] == z:
                break
        else:
            return None
        shape = self.shapes[name]
        for product, shift in self.operands(z, "Add"):
            if not self.is_of_channels(shift, shape[1]):
                continue
            for x, gain in self.operands(product, "Mul"):
                if self.shapes.get(x) == shape and self.is_of_channels(gain, shape[1]):
                    return self.normed(x, gain, shift)
        return None

    def normed(self, x: str, gain: str, shift: str) -> tuple[str, str, str, list[Any]]:
        """x * gain + shift, where x may be a norm's output: then the norm's input, and its node for the rest."""
        reshape = self.made(x, "Reshape")
        norm = None if reshape is None else self.made(reshape.input[0], "InstanceNormalization")
        source = None if norm is None else self.made(norm.input[0], "Reshape")
        if norm is None or source is None or self.shapes.get(source.input[0]) != self.shapes[x]:
            return self.affine_normed(x, gain, shift) or (x, gain, shift, [])
        scale, bias = (self.numbers(name) for name in norm.input[1:3])
        if scale is None or bias is None or (scale != 1).any() or bias.any():
            return x, gain, shift, []
        if self.shapes.get(norm.input[0], ())[:2] != (1, len(scale)):
            return x, gain, shift, []
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        return self.norm_of(source.input[0], gain, shift, len(scale), epsilon)

    def affine_normed(self, x: str, gain: str, shift: str) -> tuple[str, str, str, list[Any]] | None:
        """The same of a norm that the exporter wrote as means: gain = G / sqrt(var + eps), shift = S - mean * gain."""
        shifted = self.made(self.bare(shift), "Sub")
        if shifted is None:
            return None
        scaled = self.bare(gain)
        means = [mean for mean, factor in self.operands(shifted.input[1], "Mul") if factor == scaled]
        if not means:
            return None
        mean = means[0]
        for weight, inverse in self.operands(scaled, "Mul"):
            reciprocal = self.made(inverse, "Reciprocal")
            root = None if reciprocal is None else self.made(reciprocal.input[0], "Sqrt")
            for variance, epsilon in [] if root is None else self.operands(root.input[0], "Add"):
                numbers, groups = self.numbers(epsilon), self.shapes.get(mean, ())
                clamped = self.made(variance, "Max")
                if numbers is None or numbers.size != 1 or clamped is None or len(groups) != 3:
                    continue
                if {self.count(weight), self.count(shifted.input[0])} != {self.shapes[x][1]}:
                    continue
                if self.source_of_mean(mean) == x and self.is_variance(clamped.input[0], mean, x):
                    return self.norm_of(x, weight, shifted.input[0], groups[1], float(numbers.flat[0]))
        return None

    def source_of_mean(self, name: str) -> str:
        """What a chain of means and reshapes is the mean of; "" where there is none."""
        node = self.maker.get(name)
        means = 0
        while node is not None and node.op_type in ("ReduceMean", "Reshape"):
            means += node.op_type == "ReduceMean"
            name = node.input[0]
            node = self.maker.get(name)
        return name if means == 3 else ""  # over columns, rows, and the channels of a group

    def is_variance(self, name: str, mean: str, x: str) -> bool:
        """Whether a tensor is the mean of x squared, less the squared mean."""
        difference = self.made(name, "Sub")
        if difference is None:
            return False
        squares = self.made(self.source_of_mean(difference.input[0]), "Mul")
        squared = self.made(difference.input[1], "Mul")
        return (
            squares is not None
            and list(squares.input) == [x, x]
            and squared is not None
            and list(squared.input) == [mean, mean]
        )

    def norm_of(
        self, x: str, gain: str, shift: str, groups: int, epsilon: float
    ) -> tuple[str, str, str, list[Any]]:
        """x, and the factor and the addend of its norm, computed once whoever asks."""
        key = (x, gain, shift)
        if key in self.affine:
            return (x, *self.affine[key], [])
        made = (f"{x}/{gain}/{shift}/scale", f"{x}/{gain}/{shift}/offset")
        self.affine[key] = made
        node = _node("NormAffine", f"{x}/{gain}/{shift}/norm", [x, gain, shift], list(made))
        node.attribute.add(name="groups", i=groups, type=_INT)
        node.attribute.add(name="epsilon", f=epsilon, type=_FLOAT)
        return (x, *made, [node])

    def made(self, name: str, operator: str) -> Any:
        """The node that makes a tensor, if it is one of the standard's `operator`."""
        node = self.maker.get(name)
        return node if node is not None and node.op_type == operator and not node.domain else None

    def operands(self, name: str, operator: str) -> Iterator[tuple[str, str]]:
        """Both orders of the operands of the node that makes a tensor, if it is that operator."""
        node = self.made(name, operator)
        if node is not None:
            a, b = node.input
            yield a, b
            yield b, a

    def bare(self, name: str) -> str:
        """A tensor before it was reshaped."""
        node = self.made(name, "Reshape")
        return name if node is None else str(node.input[0])

    def is_of_channels(self, name: str, channels: int) -> bool:
        """Whether a tensor has a value for each channel of a map, and stands where a map's channels are."""
        return self.shapes.get(name) in ((1, channels, 1, 1), (channels, 1, 1))

    def count(self, name: str) -> int:
        """Elements of a tensor; 0 where its shape is not known."""
        shape = self.shapes.get(name)
        return int(np.prod(shape)) if shape else 0

    def numbers(self, name: str) -> Any:
        """A small constant as an array; None where there is none."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_type not in (_FLOAT32, _INT64):
            return None
        found = np.array(tensor.float_data if tensor.data_type == _FLOAT32 else tensor.int64_data)
        if tensor.raw_data:
            found = np.frombuffer(tensor.raw_data, "<f4" if tensor.data_type == _FLOAT32 else "<i8")
        return found if found.size == np.prod(tensor.dims) else None  # it lies in a file beside the graph

    def keep(self, nodes: Sequence[Any]) -> None:
        """Makes these the graph's nodes, without those that nobody reads any more."""
        wanted, kept = set(self.outputs), []
        for node in reversed(nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
        copies = []
        for node in reversed(kept):  # copies: clearing the list below would empty them
            copy = type(node)()
            copy.CopyFrom(node)
            copies.append(copy)
        del self.graph.node[:]
        self.graph.node.extend(copies)


def _node(operator: str, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    node = new_node()
    node.op_type, node.domain, node.name = operator, DOMAIN, name
    node.input.extend(inputs)
    node.output.extend(outputs)
    return node
