"""What of a graph becomes a native operator where products are to be in bf16, and how near to fp32 it stays."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the graphs of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the graphs")

import onnx

from engine import native
from engine.backends.base import Graph
from engine.backends.ort import OrtBackend
from engine.bundle import Bundle
from engine.catalog import resolve
from engine.graphs import GraphSpec
from engine.native.rewrite import LEAST_CHANNELS, rewrite
from tests.engine.native.cases import has_bf16
from tests.engine.native.small_graph import SmallGraph, compute, native_nodes, operators
from tests.engine.native.test_rewrite import (
    CHANNELS,
    GAIN,
    RESIDUAL,
    SHIFT,
    SIZE,
    STAYS,
    STAYS_IN_FP32,
    WEIGHTS,
    PlainGraph,
    X,
    attention,
    modulation,
    start,
)

pytestmark = pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")


# Which convolutions.


@pytest.mark.parametrize("name", STAYS_IN_FP32)
def test_in_bf16_small_maps_and_1x1_become_a_direct_sum(name: str) -> None:
    model, replaced = rewrite(STAYS_IN_FP32[name](), "bf16")
    assert (replaced, operators(model)) == (1, {"DirectConv": 1})
    onnx.checker.check_model(onnx.load_from_string(model))


@pytest.mark.parametrize("name", STAYS)
def test_what_does_not_fit_in_bf16_either_comes_back_as_the_same_bytes(name: str) -> None:
    model = STAYS[name]()
    assert rewrite(model, "bf16") == (model, 0)


# What stands around them.


def kinds(model: bytes) -> dict[str, list[int]]:
    """The attribute `bf16` of the nodes that have it, by operator."""
    found: dict[str, list[int]] = {}
    for node in onnx.load_from_string(model).graph.node:
        for attribute in node.attribute:
            if attribute.name == "bf16":
                found.setdefault(node.op_type, []).append(attribute.i)
    return found


def everything() -> tuple[SmallGraph, str]:
    """A large 3x3 convolution, one over a small map, one of 1x1, a norm, and attention."""
    graph, x, weights = start()
    gain, shift = modulation(graph)
    normed = graph.instance_norm(x, CHANNELS, SIZE, np.ones(4), np.zeros(4))
    large = graph.conv(graph.modulated(normed, gain, shift), weights, graph.weights(CHANNELS))
    down = graph.conv(
        graph.node("Add", large, x), graph.weights(CHANNELS, CHANNELS, 3, 3), strides=[2, 2]
    )  # 6x8: 4 tiles
    small = graph.conv(graph.modulated(down, gain, shift), graph.weights(CHANNELS, CHANNELS, 3, 3))
    y = graph.node("Add", small, down)
    qkv = graph.conv(y, graph.weights(3 * CHANNELS, CHANNELS, 1, 1), pads=[0, 0, 0, 0])
    heads = graph.node("Reshape", qkv, graph.constant([3, 2, 8, 48], np.int64))
    attended = graph.node(
        "Reshape", attention(graph, heads, 2, 8, 48), graph.constant([1, CHANNELS, 6, 8], np.int64)
    )
    out = graph.conv(attended, graph.weights(CHANNELS, CHANNELS, 1, 1), pads=[0, 0, 0, 0])
    return graph, graph.node("Add", out, y)


def test_the_kind_of_the_products_is_an_attribute_of_every_node_that_has_one() -> None:
    graph, y = everything()
    plain = graph.model(y)
    model, replaced = rewrite(plain)
    assert kinds(model) == {"Conv3x3": [0], "Attention": [0]}
    assert (replaced, operators(model)["DirectConv"], operators(model)["Conv"]) == (2, 0, 4)
    model, replaced = rewrite(plain, "bf16")
    assert kinds(model) == {"Conv3x3": [1], "DirectConv": [1, 1, 1], "Attention": [1]}
    assert (replaced, operators(model)["NormAffine"], operators(model)["Conv"]) == (5, 1, 1)


def test_a_direct_sum_takes_in_what_stands_around_it() -> None:
    graph, y = everything()
    model, _ = rewrite(graph.model(y), "bf16")
    small, qkv, out = native_nodes(model, "DirectConv")
    assert len(small.input) == 6
    assert all(small.input[part] for part in (X, WEIGHTS, RESIDUAL, GAIN, SHIFT))
    assert len(qkv.input) == 2
    assert [bool(name) for name in out.input] == [True, True, False, True]
    assert operators(model)["Sigmoid"] == operators(model)["Add"] == 0


@has_bf16
def test_in_bf16_a_graph_computes_nearly_what_it_did() -> None:
    graph, y = everything()
    plain = graph.model(y)
    model, _ = rewrite(plain, "bf16")
    (expected,), (got,) = compute(plain, graph.inputs), compute(model, graph.inputs)
    error = np.abs(got - expected).max() / np.abs(expected).max()
    assert 1e-4 < error < 2e-2, f"{error:.1e}: below that it was not in bf16"


# The world in the package.


def test_in_the_embedded_world_bf16_leaves_strides_and_few_channels_to_the_standard() -> None:
    for role in ("denoiser", "upsampler"):
        path = resolve("freedoom") / "fp32" / f"{role}.onnx"
        plain = PlainGraph(path)
        model, replaced = rewrite(path.read_bytes(), "bf16")
        counts = operators(model)
        assert replaced == counts["Conv3x3"] + counts["DirectConv"] + counts["Attention"]
        assert counts["DirectConv"] >= 10, role
        for node in native_nodes(model, "Conv"):
            strides = next(tuple(a.ints) for a in node.attribute if a.name == "strides")
            K, C, *kernel = plain.weights[node.input[1]]
            assert strides != (1, 1) or min(K, C) < LEAST_CHANNELS, f"{role}: {node.name}: {K, C, *kernel}"


class InBf16(OrtBackend):
    """Computes every graph that it is given in bf16."""

    def _load(self, spec: GraphSpec) -> Graph:
        return super()._load(replace(spec, precision="bf16", computed_from="fp32"))


@has_bf16
@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_in_the_embedded_world_bf16_is_within_the_gate_of_exported_bf16(role: Any, tmp_path: Path) -> None:
    """At every noise level of the parity gate, against float64."""
    pytest.importorskip("torch", reason="the exporter's evaluations, and those in float64, need PyTorch")
    from export.playing import evaluate
    from export.precision_gates import GATES, evaluation_rows
    from tests.engine.native.in_float64 import Float64Backend

    bundle, backend = Bundle.open(resolve("freedoom")), InBf16(threads=2)
    ours = evaluate(bundle, "fp32", role, backend, tmp_path)
    assert "with bf16" in backend.describe()
    rows = evaluation_rows(ours, evaluate(bundle, "fp32", role, Float64Backend(), tmp_path))
    raw, levels = (max(row[name] for row in rows) for name in ("raw_error", "mean_grey_levels"))
    largest, mean = (
        max(row["raw_max_error"] for row in rows),
        np.mean([row["raw_mean_error"] for row in rows]),
    )
    print(
        f"{role}: bf16 to float64: max {largest:.2f}, mean {mean:.4f}; rms {raw:.1%} of the outputs'; "
        f"predictions {levels:.2f} grey levels on average"
    )
    assert 0.001 < raw <= GATES["bf16"].raw_error
    assert levels <= GATES["bf16"].mean_grey_levels
