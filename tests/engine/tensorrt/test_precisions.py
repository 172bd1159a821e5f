"""Types read back: from the network, and from what an inspector tells of a plan, in the words of TensorRT 10 and 11."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import DiamondError
from engine.graphs import GraphSpec
from engine.tensorrt.precisions import Types, plan_types, require_plan_types, require_types


def spec(precision: str) -> GraphSpec:
    return GraphSpec("denoiser", precision, Path("denoiser.onnx"), {}, {})


def layer(kind: str, **tensor: str) -> dict[str, Any]:
    return {"Name": "one", "LayerType": kind, "Inputs": [tensor], "Outputs": [tensor]}


@pytest.mark.parametrize(
    ("precision", "types"),
    [
        ("fp32", Types({"fp32": 90}, {"fp32": 24}, {"fp32": 57})),
        ("fp16", Types({"fp16": 90}, {"fp16": 24, "fp32": 2}, {"fp32": 57})),
        ("bf16", Types({}, {"fp32": 3, "bf16": 3}, {})),  # a conditioner
    ],
)
def test_a_network_of_the_right_types_passes(precision: str, types: Types) -> None:
    require_types(spec(precision), types)


@pytest.mark.parametrize(
    ("precision", "types", "found"),
    [
        ("fp16", Types({"fp32": 90}, {"fp32": 24}, {}), "convolutions: 90 fp32"),
        ("fp16", Types({"fp16": 89, "fp32": 1}, {}, {}), "convolutions: 89 fp16, 1 fp32"),
        ("bf16", Types({"fp16": 90}, {}, {}), "convolutions: 90 fp16"),
        ("fp32", Types({"fp32": 90}, {"fp16": 1}, {}), "products: 1 fp16"),
        ("fp16", Types({"fp16": 90}, {}, {"fp16": 57}), "norms: 57 fp16"),
        ("fp16", Types({}, {"fp32": 6}, {}), "products: 6 fp32"),
    ],
)
def test_a_network_of_other_types_is_refused(precision: str, types: Types, found: str) -> None:
    with pytest.raises(DiamondError, match=rf"denoiser \({precision}\).*{found}"):
        require_types(spec(precision), types)


def test_the_inspectors_words_are_understood() -> None:
    layers = [
        layer("CaskConvolution", DataType="Half", Format="Row major linear"),  # TensorRT 11
        layer("CaskConvolution", **{"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}),
        layer("CaskConvolution", DataType="Float"),
        layer("gemm", DataType="BFloat16"),
        layer("CaskGemmConvolution", DataType="Int8"),
        layer("Reformat", DataType="Int8"),  # not a heavy layer
        layer("CaskConvolution", **{"Format/Datatype": "N/A due to dynamic shapes"}),
        "a name only, as without the detailed verbosity",
    ]
    found = plan_types(json.dumps({"Layers": layers}))
    assert found == {"fp16": 2, "fp32": 1, "bf16": 1, "int8": 1}


@pytest.mark.parametrize(
    "inspected", ["", "not json", "[]", "{}", '{"Layers": []}', '{"Layers": ["{ForeignNode}"]}']
)
def test_an_inspector_that_tells_nothing_is_no_failure(inspected: str) -> None:
    assert plan_types(inspected) == {}
    require_plan_types(spec("fp16"), {})


@pytest.mark.parametrize("found", [{"fp32": 90}, {"fp16": 89, "bf16": 1}, {"fp16": 80, "int8": 10}])
def test_a_plan_of_another_precision_is_refused(found: dict[str, int]) -> None:
    with pytest.raises(DiamondError, match=r"denoiser \(fp16\): TensorRT computes it in another precision"):
        require_plan_types(spec("fp16"), found)
    require_plan_types(spec("fp16"), {"fp16": 90, "fp32": 2})
