"""An fp32 graph -> one whose convolutions read and write 8 bits: QDQ, as ONNX Runtime's own quantiser writes it.

Activations are uint8 with a zero point, one scale a tensor; weights int8 around zero, one scale an output channel;
biases int32. Everything but the chosen convolutions stays fp32.

No `reduce_range`: an x86 CPU with VNNI, and an ARM one, add products in 32 bits. One with AVX2 alone adds them in pairs
in 16 bits, which saturate where large values meet; docs/precisions.md says what that means.
"""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import helper

Ranges = Mapping[str, tuple[float, float]]  # tensor -> its smallest and largest value


def convolutions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The convolutions, in order."""
    return [node for node in graph.node if node.op_type == "Conv"]


def quantise(model: onnx.ModelProto, ranges: Ranges, chosen: Collection[str]) -> onnx.ModelProto:
    """Quantises some convolutions.

    Args:
        model: an fp32 graph as `export.onnx` writes it; used up.
        ranges: of the inputs and outputs of its convolutions.
        chosen: names of the nodes to quantise.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    _separate_inputs(model.graph, chosen)
    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in _with_copies(model.graph, ranges).items()
    }
    producer = (model.producer_name, model.producer_version)
    quantiser = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=list(chosen),
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options={"WeightSymmetric": True, "ActivationSymmetric": False},
    )
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    result: onnx.ModelProto = quantiser.model.model
    result.producer_name, result.producer_version = producer
    return result


def _separate_inputs(graph: onnx.GraphProto, chosen: Collection[str]) -> None:
    """Gives each chosen convolution an input of its own: the quantiser would round what others read as well."""
    nodes = []
    for node in graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.name in chosen:
            copy.input[0] = f"{node.input[0]}/{node.name}"
            nodes.append(
                helper.make_node("Identity", node.input[:1], copy.input[:1], f"copy_{copy.input[0]}")
            )
        nodes.append(copy)
    del graph.node[:]
    graph.node.extend(nodes)


def _with_copies(graph: onnx.GraphProto, ranges: Ranges) -> dict[str, tuple[float, float]]:
    copies = {node.output[0]: ranges[node.input[0]] for node in graph.node if node.op_type == "Identity"}
    return {**ranges, **copies}
