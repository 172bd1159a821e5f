"""Puts the operators of `diamond.cpu` in place of what a graph has from the standard, where they are faster.

A 3x3 convolution becomes a `Conv3x3`, and takes in what stands around it: the norm and SiLU before it, the residual
added behind it, and the two maps that were joined for it. Attention over heads of eight channels becomes an
`Attention`. Where products are to be in bf16 or int8, convolutions of 1x1, over small maps or with stride 2 become a
`DirectConv` or an `Int8Conv`, and large linear layers a `Linear`. Anything of another form, or too small, stays as it
is; a graph in which nothing fits is not rewritten. Shapes are those that the exporter writes beside every tensor.
"""

from collections.abc import Sequence
from typing import Any

from engine.native.graph_reader import FLOAT32, GraphReader
from engine.native.onnx_messages import FLOAT, GRAPH, GRAPHS, INT, new_node, parse
from engine.native.short_maps import DOMAIN, shorten

LEAST_CHANNELS = 8
LEAST_TILES = 12  # of 4x4 outputs: maps of fewer fill no vector
LEAST_INT8_PRODUCTS = 24_000_000  # of a 1x1 convolution
LEAST_WEIGHTS = 1 << 22  # of a linear layer
HEAD_CHANNELS = 8


def rewrite(model: bytes, products: str = "fp32") -> tuple[bytes, int]:
    """A graph with our operators.

    Args:
        model: a serialised ONNX model in fp32; weights in a file beside it stay there.
        products: what the convolutions multiply in: "fp32", "bf16", or "int8" where that is faster than bf16. In these
            there are more that are faster than the standard's.

    Returns:
        The new model, and how many operators of ours it has. Without any, the bytes as they came.

    Raises:
        ValueError: not an ONNX model.
    """
    parsed = parse(model)
    replaced = _Graph(parsed.graph, products).rewrite()
    if not replaced:
        return model, 0
    parsed.opset_import.add(domain=DOMAIN, version=1)
    return parsed.SerializeToString(), replaced


class _Graph(GraphReader):
    """A graph while it is rewritten."""

    def __init__(self, graph: Any, products: str) -> None:
        super().__init__(graph)
        self.products = products
        self.taken: set[int] = set()
        self.affine: dict[tuple[str, ...], Any] = {}  # NormAffine nodes, by what they are computed from

    def rewrite(self) -> int:
        """Replaces what fits. Returns the number of convolutions, linear layers and attentions."""
        replaced, rewritten = 0, []
        if any(attribute.type in (GRAPH, GRAPHS) for node in self.nodes for attribute in node.attribute):
            return 0  # a branch reads tensors that no node names among its inputs
        instead: dict[int, list[Any]] = {}  # by the identity of the node whose place they take
        for node in self.nodes:
            if (operator := self.operator_for(node)) is not None:
                place, before, added = self.replacement(operator, node)
                instead[id(node)] = before  # not later, at the residual: another convolution may read them
                instead.setdefault(id(place), []).append(added)
                replaced += 1
            elif self.is_linear(node):
                instead[id(node)] = [self.linear(node)]
                replaced += 1
            elif (norm := self.lone_norm(node)) is not None:
                instead[id(node)] = norm
            elif (qkv := self.attended(node)) is not None:
                instead[id(node)] = [self.ours("Attention", node.name, [qkv], node.output[0])]
                replaced += 1
        if not replaced:
            return 0
        for node in self.nodes:
            rewritten += instead.get(id(node), [node])
        self.keep(rewritten)
        if self.products != "fp32":
            shorten(list(self.graph.node), self.outputs)
        return replaced

    def operator_for(self, node: Any) -> str | None:
        """Which of our convolutions computes a node, faster than the standard's; None where none does."""
        if (
            node.op_type != "Conv"
            or node.domain
            or len(node.input) < 2
            or node.input[1] not in self.constants
        ):
            return None
        shape, weights = self.shapes.get(node.input[0]), self.constants[node.input[1]]
        if shape is None or len(shape) != 4 or shape[0] != 1 or weights.data_type != FLOAT32:
            return None
        attributes = {a.name: tuple(a.ints) or a.i for a in node.attribute if a.name != "auto_pad"}
        channels_out, channels_in, *kernel = weights.dims
        strides = attributes.get("strides", (1, 1))
        padding = (1, 1, 1, 1) if kernel == [3, 3] else (0, 0, 0, 0)
        if (
            kernel not in ([1, 1], [3, 3])
            or attributes.get("pads", (0, 0, 0, 0)) != padding
            or strides not in ([(1, 1)] if kernel == [1, 1] or self.products != "int8" else [(1, 1), (2, 2)])
            or attributes.get("dilations", (1, 1)) != (1, 1)
            or attributes.get("group", 1) != 1
            or channels_in < LEAST_CHANNELS
            or (channels_out < LEAST_CHANNELS and self.products == "fp32")
        ):
            return None
        tiles = -(-shape[2] // 4) * -(-shape[3] // 4)
        if kernel == [3, 3] and tiles >= LEAST_TILES and strides == (1, 1):
            return "Conv3x3"
        if self.products == "int8" and kernel == [1, 1]:
            # What they read is seldom normed, so 255 levels over all of it are coarse; and small ones gain nothing.
            products = channels_in * channels_out * shape[2] * shape[3]
            return "Int8Conv" if products >= LEAST_INT8_PRODUCTS else "DirectConv"
        return {"fp32": None, "bf16": "DirectConv", "int8": "Int8Conv"}[self.products]

    def ours(self, operator: str, name: str, inputs: Sequence[str], output: str) -> Any:
        """A node of an operator that comes in fp32 and in bf16."""
        node = _node(operator, name, inputs, [output])
        node.attribute.add(name="bf16", i=int(self.products != "fp32"), type=INT)
        return node

    def replacement(self, operator: str, conv: Any) -> tuple[Any, list[Any], Any]:
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
            if self.shapes.get(other) == self.shape_of(conv):
                residual, place = other, readers[0]
                self.taken.add(id(place))  # not also by the convolution on its other side
        bias = conv.input[2] if len(conv.input) > 2 else ""
        first, more = self.halves(x)
        layout: dict[str, int] = {}
        if not more:
            first, layout["fewer_rows"] = self.uncropped(x)
        if operator == "Conv3x3" and found is None and (small := self.undoubled(x)):
            first, layout["doubled"] = small, 1
        readers = self.readers.get(place.output[0], [])
        if len(readers) == 1 and place.output[0] not in self.outputs and not residual:
            layout["more_rows"] = self.added_rows(readers[0])
            place = readers[0] if layout["more_rows"] else place
        inputs = [first, conv.input[1], bias, residual, gain, shift, more]
        norms = [node for node in self.affine.values() if gain and node.output[0] == gain]
        if operator == "Int8Conv" and norms:
            (norm,) = norms
            if len(norm.output) == 2:
                norm.output.append(norm.output[0].removesuffix("scale") + "range")
            inputs.append(norm.output[2])
        while not inputs[-1]:
            inputs.pop()
        if operator == "Int8Conv":
            made = _node(operator, conv.name, inputs, [place.output[0]])
        else:
            made = self.ours(operator, conv.name, inputs, place.output[0])
        strides = [tuple(a.ints) for a in conv.attribute if a.name == "strides"]
        if strides == [(2, 2)]:
            made.attribute.add(name="stride", i=2, type=INT)
        _describe(made, layout)
        return place, before, made

    def is_linear(self, node: Any) -> bool:
        """Whether a node is a linear layer so large that reading its weights takes longer than multiplying."""
        if self.products == "fp32" or node.op_type != "Gemm" or node.domain or len(node.input) != 3:
            return False
        weights, bias = (self.constants.get(name) for name in node.input[1:])
        if weights is None or bias is None or weights.data_type != FLOAT32:
            return False
        attributes = {a.name: a.f if a.type == FLOAT else a.i for a in node.attribute}
        return (
            {"alpha": 1.0, "beta": 1.0, "transA": 0, **attributes}
            == {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
            and list(bias.dims) == [weights.dims[0]]
            and weights.dims[0] * weights.dims[1] >= LEAST_WEIGHTS
        )

    def linear(self, gemm: Any) -> Any:
        """Our node for a linear layer."""
        made = _node("Linear", gemm.name, list(gemm.input), [gemm.output[0]])
        made.attribute.add(name="int8", i=int(self.products == "int8"), type=INT)
        return made

    def lone_norm(self, node: Any) -> list[Any] | None:
        """Our nodes for a norm with its gain and shift that no convolution takes in, as attention has it; or None."""
        if node.op_type != "Add" or node.domain or not node.output:
            return None
        name = node.output[0]
        shape = self.shapes.get(name, ())
        if len(shape) != 4 or any(reader.op_type == "Sigmoid" for reader in self.readers.get(name, [])):
            return None
        for product, shift in self.operands(name, "Add"):
            for normed, gain in self.operands(product, "Mul"):
                if not self.is_of_channels(shift, shape[1]) or not self.is_of_channels(gain, shape[1]):
                    continue
                if self.shapes.get(normed) != shape or shape[0] != 1:
                    continue
                kept = dict(self.affine)
                x, scale, offset, before = self.normed(normed, self.bare(gain), self.bare(shift))
                if scale != self.bare(gain) and not self.halves(x)[1] and not self.uncropped(x)[1]:
                    return [*before, _node("Affine", node.name, [x, scale, offset], [name])]
                self.affine = kept  # not emitted, so nobody may rely on it
        return None

    def shape_of(self, conv: Any) -> tuple[int, ...]:
        """Of the output of a convolution of those that `operator_for` names."""
        stride = next((a.ints[0] for a in conv.attribute if a.name == "strides"), 1)
        sides = (-(-side // stride) for side in self.shapes[conv.input[0]][2:])
        return (1, self.constants[conv.input[1]].dims[0], *sides)

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
                    return self.normed(x, self.bare(gain), self.bare(shift))
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

    def norm_of(
        self, x: str, gain: str, shift: str, groups: int, epsilon: float
    ) -> tuple[str, str, str, list[Any]]:
        """x, and the factor and the addend of its norm, computed once whoever asks."""
        key = (x, gain, shift)
        if key in self.affine:
            return (x, *self.affine[key].output[:2], [])
        made = (f"{x}/{gain}/{shift}/scale", f"{x}/{gain}/{shift}/offset")
        first, more = self.halves(x)
        fewer = 0
        if not more:
            first, fewer = self.uncropped(x)
        inputs = [first, gain, shift, more] if more else [first, gain, shift]
        node = _node("NormAffine", f"{x}/{gain}/{shift}/norm", inputs, list(made))
        node.attribute.add(name="groups", i=groups, type=INT)
        node.attribute.add(name="epsilon", f=epsilon, type=FLOAT)
        _describe(node, {"fewer_rows": fewer})
        self.affine[key] = node
        return (x, *made, [node])

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


def _describe(node: Any, layout: dict[str, int]) -> None:
    """Says of a node of ours how its maps lie in memory, where that is not as usual."""
    for name, value in layout.items():
        if value:
            node.attribute.add(name=name, i=value, type=INT)


def _node(operator: str, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    node = new_node()
    node.op_type, node.domain, node.name = operator, DOMAIN, name
    node.input.extend(inputs)
    node.output.extend(outputs)
    return node
