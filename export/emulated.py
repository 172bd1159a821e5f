"""A typed graph -> a graph of fp32 operators that computes the same, for a runtime without that type's arithmetic.

Each low operator reads values that are rounded already, computes in fp32, and has its result rounded: what tensor
cores with fp32 accumulation do. The graph is otherwise the delivered one, node by node.

ONNX Runtime's CPU needs it for both types. It has no bf16 convolution; and an fp16 graph it runs in fp32, with the
roundings between operators taken out, so that running the file itself would say nothing about fp16.
"""

import onnx
from onnx import TensorProto, helper, numpy_helper

from export.typed import LOW_TYPES, typed_inputs

_MOVES = {
    "Reshape",
    "Transpose",
    "Split",
    "Slice",
    "Concat",
    "Pad",
    "Resize",
}  # values as they were: nearest only


def emulate(model: onnx.ModelProto) -> None:
    """Lowers a typed model, in place."""
    graph = model.graph
    low_types = set(LOW_TYPES.values())
    low: dict[str, int] = {}  # tensor -> its low type
    for weight in graph.initializer:
        if weight.data_type in low_types:
            low[weight.name] = weight.data_type
            values = numpy_helper.to_array(weight).astype("float32")
            weight.data_type, weight.raw_data = TensorProto.FLOAT, values.tobytes()

    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        type_ = next((low[name] for name in typed_inputs(node) if name in low), None)
        if node.op_type == "Cast":
            to = helper.get_attribute_value(node.attribute[0])
            if to in low_types:
                low[node.output[0]] = to
                nodes += _rounded(node.input[0], node.output[0], to)
                continue
            if type_ is not None:  # back to fp32: the values are there
                nodes.append(helper.make_node("Identity", node.input, node.output, node.name))
                continue
        nodes.append(copy)
        if type_ is None:
            continue
        low.update(dict.fromkeys(node.output, type_))
        if node.op_type not in _MOVES:
            (output,) = node.output
            copy.output[0] = f"{output}_exact"
            nodes += _rounded(copy.output[0], output, type_)
    del graph.node[:]
    graph.node.extend(nodes)
    for value in graph.value_info:
        if value.name in low:
            value.type.tensor_type.elem_type = TensorProto.FLOAT


def _rounded(source: str, target: str, type_: int) -> list[onnx.NodeProto]:
    rounded = f"{target}_rounded"
    return [
        helper.make_node("Cast", [source], [rounded], f"round_{target}", to=type_),
        helper.make_node("Cast", [rounded], [target], f"widen_{target}", to=TensorProto.FLOAT),
    ]
