"""The typed graphs: what is low, what stays fp32, and that no operator mixes the two."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.errors import DiamondError
from export.layer_types import layer_types
from export.typed import LOW_TYPES, make_typed

ROLES = ("denoiser_conditioner", "denoiser", "upsampler_conditioner", "upsampler")


def typed(path: Path, precision: str) -> onnx.ModelProto:
    model = onnx.load(path)
    make_typed(model, precision)
    onnx.checker.check_model(model, full_check=True)
    return model


def inputs_by_type(model: onnx.ModelProto) -> dict[tuple[str, int], int]:
    """How often each operator reads its first input in each type."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    values = [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {weight.name: weight.data_type for weight in inferred.graph.initializer}
    return Counter((node.op_type, types[node.input[0]]) for node in inferred.graph.node)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("network", ["denoiser", "upsampler"])
def test_convolutions_and_silu_are_low_and_norms_are_fp32(
    tiny_bundle: Path, precision: str, network: str
) -> None:
    low = LOW_TYPES[precision]
    found = inputs_by_type(typed(tiny_bundle / "fp32" / f"{network}.onnx", precision))
    for operator in ("Conv", "Sigmoid", "Softmax", "Resize", "Pad", "Slice"):
        assert found[operator, low] > 0, operator
        assert found[operator, TensorProto.FLOAT] == 0, operator
    for operator in ("InstanceNormalization", "ReduceMean", "Sqrt", "Reciprocal", "Sub", "Clip", "Floor"):
        assert found[operator, low] == 0, operator
    assert found["InstanceNormalization", TensorProto.FLOAT] > 0
    assert network == "denoiser" or found["ReduceMean", TensorProto.FLOAT] > 0, "no norm in the affine form"


@pytest.mark.parametrize("role", ROLES)
def test_float32_goes_in_and_comes_out_of_a_typed_graph(tiny_bundle: Path, role: str) -> None:
    before = onnx.load(tiny_bundle / "fp32" / f"{role}.onnx").graph
    after = typed(tiny_bundle / "fp32" / f"{role}.onnx", "fp16").graph
    assert list(after.input) == list(before.input)
    assert list(after.output) == list(before.output)


def test_what_lies_around_the_convolutions_stays_fp32(tiny_bundle: Path) -> None:
    model = typed(tiny_bundle / "fp32" / "upsampler.onnx", "bf16")
    assert layer_types(model)["MatMul by a constant fp32"] == 2, "the enlargement"
    producer = {output: node for node in model.graph.node for output in node.output}
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    into = producer[first.input[0]]
    assert (into.op_type, producer[into.input[0]].op_type) == ("Cast", "Concat")
    (out,) = [node for node in model.graph.node if "raw" in node.input]
    assert (producer["raw"].op_type, out.op_type, out.attribute[0].i) == ("Conv", "Cast", TensorProto.FLOAT)


@pytest.mark.parametrize("role", ROLES)
def test_a_tensor_is_cast_once_to_a_type(tiny_bundle: Path, role: str) -> None:
    model = typed(tiny_bundle / "fp32" / f"{role}.onnx", "fp16")
    casts = Counter(
        (node.input[0], node.attribute[0].i) for node in model.graph.node if node.op_type == "Cast"
    )
    assert max(casts.values()) == 1
    fp32_weights = {
        weight.name for weight in model.graph.initializer if weight.data_type == TensorProto.FLOAT
    }
    assert not [source for source, _ in casts if source in fp32_weights], "a weight is stored in its type"


def test_a_gain_keeps_its_fp32_bias(tiny_bundle: Path) -> None:
    model = typed(tiny_bundle / "fp32" / "denoiser_conditioner.onnx", "bf16")
    producer = {output: node for node in model.graph.node for output in node.output}
    assert producer["modulation"].op_type == "Add"
    weights = {weight.name: weight for weight in model.graph.initializer}
    before = {
        w.name: w for w in onnx.load(tiny_bundle / "fp32" / "denoiser_conditioner.onnx").graph.initializer
    }
    bias = producer["modulation"].input[1]
    assert weights[bias].raw_data == before[bias].raw_data
    assert layer_types(model)["Gemm bf16"] == 3


def with_large_weight(path: Path, value: float) -> onnx.ModelProto:
    model = onnx.load(path)
    weight = next(w for w in model.graph.initializer if w.name == "conv_out.weight")
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] = value
    weight.raw_data = values.tobytes()
    return model


def test_a_weight_beyond_fp16_is_refused_by_name_and_bf16_takes_it(tiny_bundle: Path) -> None:
    path = tiny_bundle / "fp32" / "denoiser.onnx"
    with pytest.raises(DiamondError, match=r"conv_out\.weight: holds 70000, which fp16 can't") as failure:
        make_typed(with_large_weight(path, 70000.0), "fp16")
    assert failure.value.fix == "use bf16"
    make_typed(with_large_weight(path, 70000.0), "bf16")


def test_a_weight_that_both_types_read_is_stored_in_both() -> None:
    """Here w is a convolution's weight, and a factor of the input before it."""
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "w"], ["y"]),
        helper.make_node("Add", ["y", "one"], ["out"]),
    ]
    weights = {"w": np.full((1, 1, 1, 1), 1 / 3, np.float32), "one": np.ones(1, np.float32)}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 1, 2, 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    make_typed(model, "fp16")
    onnx.checker.check_model(model, full_check=True)
    stored = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    assert stored["w"].dtype == np.float32
    assert stored["w_low"].dtype == np.float16
