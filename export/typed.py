"""fp32 graphs -> strongly typed fp16 or bf16 graphs: the types are in the file, because no runtime flag sets them.

In the low type runs what lies between the first and the last convolution: convolutions, attention, SiLU, residuals,
concatenations, resizing. fp32 stay the statistics of the norms and their affine, all that comes before the first
convolution and after the last one (preconditioning, enlargement, clamp, quantisation), and every input and output. In
a conditioner only the projections (Gemm) are low, and their bias is added in fp32: a gain is near 1, and would lose
half of its digits. A cast stands wherever a tensor crosses over, once per tensor.

An operator that this file does not name stays fp32. Knows ONNX only: no files, no runtime, no PyTorch.
"""

from collections.abc import Sequence
from enum import Enum

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine.errors import DiamondError

LOW_TYPES: dict[str, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
NUMPY_TYPES = {name: helper.tensor_dtype_to_np_dtype(type_) for name, type_ in LOW_TYPES.items()}
LARGEST = {"fp16": 65504.0, "bf16": 3.3895314e38}
OPSETS = {"fp16": 20, "bf16": 22}  # the first in which the standard lets Conv have this type, and 20 or more

# Operator -> which inputs have its type; of the others (shapes, scales, axes) the type never changes. None: all.
TYPED_INPUTS: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Conv", "Concat", "MatMul", "Add", "Mul")),
    **dict.fromkeys(("Sigmoid", "Softmax", "Reshape", "Transpose", "Split", "Slice", "Resize"), (0,)),
    "Gemm": (0, 1),
    "InstanceNormalization": (0, 1, 2),
    "Pad": (0, 2),
}
_STATISTICS = {"ReduceMean", "Sqrt", "Reciprocal", "Max"}


class Kind(Enum):
    """What a tensor holds, as seen from the body of the network."""

    OUTSIDE = "inputs, weights, and what is computed from them before the first convolution"
    STATISTIC = "means and what is computed from them"
    NORMALISED = "a feature map within a norm and its affine"
    MAP = "a feature map that may be rounded"


def make_typed(model: onnx.ModelProto, precision: str) -> None:
    """Turns an fp32 model into a typed one, in place.

    Args:
        model: a graph as `export.onnx` writes it; opset 20.
        precision: "fp16" or "bf16".

    Raises:
        DiamondError: a weight is too large for the type.
    """
    low = low_nodes(model.graph)
    _Rewriter(model.graph, precision).rewrite(low)
    for opset in model.opset_import:
        opset.version = max(opset.version, OPSETS[precision])


def low_nodes(graph: onnx.GraphProto) -> set[int]:
    """Positions of the nodes that compute in the low type."""
    kinds: dict[str, Kind] = {}
    before_last = _before_a_convolution(graph)
    low = set()
    for index, node in enumerate(graph.node):
        inputs = [kinds.get(name, Kind.OUTSIDE) for name in typed_inputs(node)]
        kind, is_low = _classify(node, inputs)
        if is_low and (index in before_last or node.op_type in ("Conv", "Gemm")):
            low.add(index)
        kinds.update(dict.fromkeys(node.output, kind))
    return low - _only_for_statistics(graph, low)


def typed_inputs(node: onnx.NodeProto) -> list[str]:
    """The inputs that have the node's type."""
    where = TYPED_INPUTS.get(node.op_type)
    inputs = [name for index, name in enumerate(node.input) if where is None or index in where]
    return [name for name in inputs if name]


def _classify(node: onnx.NodeProto, inputs: Sequence[Kind]) -> tuple[Kind, bool]:
    """What a node's result holds, and whether it may be computed in the low type."""
    operator, kinds = node.op_type, set(inputs)
    if operator == "Conv":
        return Kind.MAP, True
    if operator == "Gemm":
        return Kind.OUTSIDE, _has_plain_bias(node)
    if operator == "InstanceNormalization":
        return Kind.NORMALISED, False
    if operator in _STATISTICS:
        return Kind.STATISTIC, False
    if kinds == {Kind.MAP}:
        if operator == "Mul" and node.input[0] == node.input[1]:
            return Kind.STATISTIC, False  # a square, on its way to a variance
        return Kind.MAP, operator in TYPED_INPUTS
    if operator == "Mul" and Kind.STATISTIC in kinds and Kind.MAP in kinds:
        return Kind.NORMALISED, False  # x * a of the affine form
    if operator == "Add" and Kind.NORMALISED in kinds:
        return Kind.MAP, False  # ... + shift: here the norm ends
    for kind in (Kind.MAP, Kind.NORMALISED, Kind.STATISTIC):
        if kind in kinds:
            return kind, False
    return Kind.OUTSIDE, False


def _has_plain_bias(node: onnx.NodeProto) -> bool:
    beta = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return len(node.input) == 3 and beta.get("beta", 1.0) == 1.0


def _before_a_convolution(graph: onnx.GraphProto) -> set[int]:
    """Nodes whose result reaches some convolution."""
    wanted: set[str] = set()
    found = set()
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        reaches = not wanted.isdisjoint(node.output)
        if reaches:
            found.add(index)
        if reaches or node.op_type == "Conv":
            wanted.update(node.input)
    return found


def _only_for_statistics(graph: onnx.GraphProto, low: set[int]) -> set[int]:
    """Reshapes read by fp32 nodes alone: behind the cast instead of before it, they share it with the affine."""
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(index)
    return {
        index
        for index in low
        if graph.node[index].op_type == "Reshape" and low.isdisjoint(readers[graph.node[index].output[0]])
    }


class _Rewriter:
    """Writes the nodes of a graph anew, with casts, and its weights in their types."""

    def __init__(self, graph: onnx.GraphProto, precision: str) -> None:
        self.graph, self.precision = graph, precision
        self.low_type = LOW_TYPES[precision]
        self.weights = {weight.name: weight for weight in graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.low_tensors: set[str] = set()
        self.wide_weights: set[str] = set()  # those that some fp32 node reads
        self.renamed: dict[tuple[str, int], str] = {}  # (tensor, type) -> its name in that type

    def rewrite(self, low: set[int]) -> None:
        """`low`: positions of the nodes that compute in the low type."""
        for index, node in enumerate(self.graph.node):
            typed = typed_inputs(node) if index in low else []
            self.wide_weights |= (set(node.input) - set(typed)) & self.weights.keys()
        for index, node in enumerate(self.graph.node):
            if index not in low:
                self._add(node, [self._as(name, TensorProto.FLOAT) for name in node.input])
                continue
            typed = typed_inputs(node)
            inputs = [self._as(name, self.low_type) if name in typed else name for name in node.input]
            if node.op_type == "Gemm":
                self._add_projection(node, inputs)
            else:
                self._add(node, inputs)
                self.low_tensors.update(node.output)

        assert self.low_tensors.isdisjoint(value.name for value in self.graph.output)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        for value in self.graph.value_info:
            if value.name in self.low_tensors:
                value.type.tensor_type.elem_type = self.low_type

    def _as(self, name: str, type_: int) -> str:
        """The name under which a node of this type reads a tensor: its own, a cast's, or a stored copy's."""
        if (type_ == self.low_type) == (name in self.low_tensors):
            return name
        if (name, type_) not in self.renamed:
            if name in self.weights:
                self.renamed[name, type_] = self._low_weight(name)
            else:
                cast = f"{name}_{'fp32' if type_ == TensorProto.FLOAT else self.precision}"
                self.nodes.append(helper.make_node("Cast", [name], [cast], f"cast_{cast}", to=type_))
                self.renamed[name, type_] = cast
        return self.renamed[name, type_]

    def _add(self, node: onnx.NodeProto, inputs: Sequence[str]) -> onnx.NodeProto:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = inputs
        self.nodes.append(copy)
        return copy

    def _add_projection(self, node: onnx.NodeProto, inputs: Sequence[str]) -> None:
        """The product low, the bias added in fp32."""
        product = f"{node.output[0]}_product"
        self._add(node, inputs[:2]).output[0] = product
        self.low_tensors.add(product)
        wide = self._as(product, TensorProto.FLOAT)
        self.nodes.append(helper.make_node("Add", [wide, node.input[2]], node.output, f"{node.name}_bias"))

    def _low_weight(self, name: str) -> str:
        """Stores a weight in the low type; returns its name, a new one where fp32 nodes need the old values."""
        weight = self.weights[name]
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            rounded = values.astype(NUMPY_TYPES[self.precision])
        if not np.isfinite(rounded.astype(np.float32)).all():
            raise DiamondError(
                f"{name}: holds {np.abs(values).max():g}, which {self.precision} can't",
                f"weights up to {LARGEST[self.precision]:g}",
                "use bf16" if self.precision == "fp16" else "stay with fp32",
            )
        if name in self.wide_weights:
            weight = self.graph.initializer.add(dims=weight.dims, name=f"{name}_low")
        weight.ClearField("float_data")
        weight.data_type, weight.raw_data = self.low_type, rounded.tobytes()
        self.low_tensors.add(weight.name)
        return weight.name
