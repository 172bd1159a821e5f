"""The types of a graph's layers are read from the graph, and a wrong one has a message of its own."""

from pathlib import Path

import onnx
import pytest

from engine.errors import DiamondError
from export.layer_types import layer_types, require_layers, typed_layers
from export.typed import make_typed


def test_fp32_layers_are_counted_by_operator(small_graphs: dict[str, Path]) -> None:
    found = layer_types(onnx.load(small_graphs["upsampler"]))
    assert found["Conv fp32"] > 10
    assert found["MatMul by a constant fp32"] == 2, "the enlargement"
    assert set(found) == {
        "Conv fp32",
        "MatMul fp32",
        "MatMul by a constant fp32",
        "InstanceNormalization fp32",
    }


def test_a_typed_graph_has_the_layers_asked_for_and_norms_in_fp32(small_graphs: dict[str, Path]) -> None:
    model = onnx.load(small_graphs["upsampler"])
    before = layer_types(model)
    make_typed(model, "bf16")
    found = layer_types(model)
    require_layers("upsampler", found, typed_layers(before, "bf16"))
    assert found["Conv bf16"] == before["Conv fp32"]
    assert found["InstanceNormalization fp32"] == before["InstanceNormalization fp32"]


def test_an_fp32_graph_is_not_taken_for_a_typed_one(small_graphs: dict[str, Path]) -> None:
    found = layer_types(onnx.load(small_graphs["denoiser"]))
    with pytest.raises(DiamondError, match=r"fp16 denoiser: its layers are \d+ Conv fp32") as failure:
        require_layers("fp16 denoiser", found, typed_layers(found, "fp16"))
    assert "Conv fp16" in failure.value.expected


def test_inputs_of_several_types_are_refused(small_graphs: dict[str, Path]) -> None:
    model = onnx.load(small_graphs["denoiser"])
    make_typed(model, "fp16")
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    wide = next(node for node in model.graph.node if node.output[0] == first.input[0]).input[0]
    first.input[0] = wide
    with pytest.raises((DiamondError, onnx.shape_inference.InferenceError)):
        layer_types(model)
