"""Which types the layers that matter really have, heavy ones and statistics, read back from the finished graph.

Tools that convert tend to warn, exit 0 and leave fp32 behind; so what was asked for is compared with what is there.
"""

from collections import Counter
from collections.abc import Mapping

import onnx
from onnx import TensorProto

from engine.errors import DiamondError

HEAVY = ("Conv", "Gemm", "MatMul")
STATISTICS = ("InstanceNormalization", "ReduceMean")  # fp32 in every precision
_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
}


def layer_types(model: onnx.ModelProto) -> dict[str, int]:
    """Counts by operator and type: {"Conv fp16": 90, "MatMul fp32": 2}; a convolution between QDQ pairs is int8.

    MatMuls with a constant (enlargement, Fourier features) are counted apart, as "MatMul by a constant fp32".

    Raises:
        DiamondError: a layer whose inputs have several types.
    """
    types = _element_types(model)
    constants = {weight.name for weight in model.graph.initializer}
    dequantised = {
        output
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        for output in node.output
        if types.get(node.input[0]) in (TensorProto.UINT8, TensorProto.INT8)
    }
    counts: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type not in HEAVY + STATISTICS:
            continue
        inputs = node.input[:1] if node.op_type == "ReduceMean" else node.input  # its axes are integers
        found = {types.get(name, 0) for name in inputs if name}
        if len(found) != 1:
            raise DiamondError(
                f"{node.op_type} {node.name}: inputs of several types {sorted(found)}", "one type"
            )
        type_ = _NAMES.get(found.pop(), "an unknown type")
        if dequantised.issuperset(node.input[:2]):
            type_ = "int8"
        fixed = node.op_type == "MatMul" and not constants.isdisjoint(node.input)
        counts[f"{node.op_type}{' by a constant' if fixed else ''} {type_}"] += 1
    return dict(sorted(counts.items()))


def typed_layers(fp32: Mapping[str, int], precision: str) -> dict[str, int]:
    """What fp16 and bf16 must have, from the fp32 graph's counts: heavy layers low, except MatMuls by a constant."""
    low = {f"{operator} fp32": f"{operator} {precision}" for operator in HEAVY}
    return {low.get(name, name): count for name, count in fp32.items()}


def require_layers(role: str, found: Mapping[str, int], expected: Mapping[str, int]) -> None:
    """Raises DiamondError where the layers of a graph don't have the types that were asked for."""
    if found != expected:
        raise DiamondError(
            f"{role}: its layers are {_listed(found)}",
            _listed(expected),
            "nothing was written. The conversion is at fault: report it with this message",
        )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor; weights are named only, for they may be a gigabyte."""
    bare = onnx.ModelProto()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    graph = bare.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.output.extend(model.graph.output)
    graph.input.extend(model.graph.input)
    for weight in model.graph.initializer:
        if len(weight.raw_data) > 4096:
            graph.input.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
        else:
            graph.initializer.add().CopyFrom(weight)
    inferred = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True).graph
    types = {
        value.name: value.type.tensor_type.elem_type for value in [*inferred.value_info, *inferred.output]
    }
    types |= {value.name: value.type.tensor_type.elem_type for value in inferred.input}
    return types | {weight.name: weight.data_type for weight in inferred.initializer}
