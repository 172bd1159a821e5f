"""Norms that no convolution takes in: which become an Affine, and which stay."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

pytest.importorskip("onnx", reason="the graphs of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the graphs")

from engine import native
from engine.native.rewrite import rewrite
from tests.engine.native.small_graph import compute, native_nodes, operators
from tests.engine.native.test_rewrite_layout import (
    CHANNELS,
    SIZE,
    LayoutGraph,
    each_kind,
    rewritten,
)

pytestmark = pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")

PLAIN_NORM = {"Reshape": 2, "InstanceNormalization": 1, "Mul": 1, "Add": 1}


def beside_a_convolution(graph: LayoutGraph, y: str) -> tuple[str, str]:
    """Outputs of a graph that has a convolution as well: without one it would not be rewritten."""
    return graph.node("Neg", y), graph.convolved(graph.x)


# What becomes an Affine.


@each_kind
def test_a_norm_with_gain_and_shift_becomes_two_nodes(products: str) -> None:
    for order in (1, -1):
        graph = LayoutGraph()
        product = graph.node("Mul", *(graph.normed(graph.x), graph.gain)[::order])
        y = graph.node("Add", *(product, graph.shift)[::order])
        model = rewritten(graph, *beside_a_convolution(graph, y), products=products)
        assert operators(model) == {"NormAffine": 1, "Affine": 1, "Neg": 1, "Conv3x3": 1}
        (norm,), (affine,) = native_nodes(model, "NormAffine"), native_nodes(model, "Affine")
        assert list(norm.input) == [graph.x, graph.gain, graph.shift]
        assert [*affine.input, *affine.output] == [graph.x, *norm.output, y]


@each_kind
def test_a_norm_of_means_becomes_two_nodes(products: str) -> None:
    graph = LayoutGraph()
    y = graph.mean_norm(graph.x, graph.gain, graph.shift, CHANNELS, 2)
    model = rewritten(graph, *beside_a_convolution(graph, y), products=products)
    assert operators(model) == {"Reshape": 2, "NormAffine": 1, "Affine": 1, "Neg": 1, "Conv3x3": 1}


@each_kind
def test_a_norm_that_is_an_output_becomes_two_nodes(products: str) -> None:
    graph = LayoutGraph()
    y = graph.affine(graph.normed(graph.x))
    model = rewritten(graph, y, graph.convolved(graph.x), products=products)
    assert operators(model) == {"NormAffine": 1, "Affine": 1, "Conv3x3": 1}


@each_kind
def test_a_norm_behind_which_there_is_no_silu_is_no_part_of_its_convolution(products: str) -> None:
    graph = LayoutGraph()
    model = rewritten(graph, graph.convolved(graph.affine(graph.normed(graph.x))), products=products)
    assert operators(model) == {"NormAffine": 1, "Affine": 1, "Conv3x3": 1}
    (affine,), (conv,) = native_nodes(model, "Affine"), native_nodes(model, "Conv3x3")
    assert conv.input[0] == affine.output[0]


@each_kind
@pytest.mark.parametrize("lone_first", [False, True])
def test_a_norm_that_a_convolution_takes_in_as_well_is_measured_once(lone_first: bool, products: str) -> None:
    """Of the same map with the same gain and shift, with a SiLU behind it and without one."""
    graph = LayoutGraph()
    product = graph.node("Mul", graph.normed(graph.x), graph.gain)
    outputs = []
    for lone in (lone_first, not lone_first):
        z = graph.node("Add", product, graph.shift)
        outputs.append(graph.node("Neg", z) if lone else graph.convolved(graph.silu(z)))
    model = rewritten(graph, *outputs, products=products)
    assert operators(model) == {"NormAffine": 1, "Affine": 1, "Neg": 1, "Conv3x3": 1}


# What stays.


def without_gain() -> tuple[LayoutGraph, str]:
    graph = LayoutGraph()
    return graph, graph.node("Add", graph.normed(graph.x), graph.shift)


def with_shift_of(*shape: int) -> tuple[LayoutGraph, str]:
    graph = LayoutGraph()
    return graph, graph.affine(graph.normed(graph.x), graph.input("other", *shape))


def with_gain_of(*shape: int) -> tuple[LayoutGraph, str]:
    graph = LayoutGraph()
    graph.gain = graph.input("other", *shape)
    return graph, graph.affine(graph.normed(graph.x))


def with_numbers(scale: float, bias: float) -> tuple[LayoutGraph, str]:
    graph = LayoutGraph()
    normed = graph.instance_norm(graph.x, CHANNELS, SIZE, np.full(4, scale), np.full(4, bias))
    return graph, graph.affine(normed)


def gated() -> tuple[LayoutGraph, str]:
    """By its own sigmoid, but read by no convolution of ours."""
    graph = LayoutGraph()
    return graph, graph.silu(graph.affine(graph.normed(graph.x)))


def of_two_maps() -> tuple[LayoutGraph, str]:
    graph = LayoutGraph()
    graph.gain, graph.shift = (graph.input(name, 1, 2 * CHANNELS, 1, 1) for name in ("gains", "shifts"))
    both = graph.node("Concat", graph.x, graph.node("Relu", graph.x), axis=1)
    return graph, graph.affine(graph.instance_norm(both, 2 * CHANNELS, SIZE, np.ones(4), np.zeros(4)))


def of_upper_rows() -> tuple[LayoutGraph, str]:
    graph = LayoutGraph()
    return graph, graph.affine(graph.normed(graph.cut(graph.x), (10, 16)))


STAYS: dict[str, Callable[[], tuple[LayoutGraph, str]]] = {
    "no gain": without_gain,
    "a shift of every pixel": lambda: with_shift_of(1, CHANNELS, *SIZE),
    "a shift of columns": lambda: with_shift_of(SIZE[1]),
    "one shift": lambda: with_shift_of(1, 1, 1, 1),
    "a gain of columns": lambda: with_gain_of(SIZE[1]),
    "a gain of every pixel": lambda: with_gain_of(1, CHANNELS, *SIZE),
    "a scale of its own": lambda: with_numbers(2, 0),
    "a bias of its own": lambda: with_numbers(1, 0.1),
    "a sigmoid": gated,
    "two maps": of_two_maps,
    "upper rows": of_upper_rows,
}


@pytest.mark.parametrize("name", STAYS)
def test_a_norm_of_another_form_stays(name: str) -> None:
    graph, y = STAYS[name]()
    outputs = beside_a_convolution(graph, y)
    model = rewritten(graph, *outputs)
    for products in native.PRODUCTS:
        if products != "fp32":
            model, _ = rewrite(graph.model(*outputs), products)
        counts = operators(model)
        assert (counts["Affine"], counts["NormAffine"], counts["InstanceNormalization"]) == (0, 0, 1), (
            products
        )


@pytest.mark.parametrize("products", native.PRODUCTS)
def test_a_graph_of_nothing_but_a_norm_comes_back_as_the_same_bytes(products: str) -> None:
    graph = LayoutGraph()
    plain = graph.model(graph.affine(graph.normed(graph.x)))
    assert operators(plain) == PLAIN_NORM
    assert rewrite(plain, products) == (plain, 0)


@pytest.mark.parametrize("name", ["two maps", "upper rows"])
def test_of_a_norm_that_stays_a_convolution_takes_in_what_it_needs(name: str) -> None:
    graph, y = STAYS[name]()
    product, shift = graph.nodes[-1].input
    channels = graph.inputs[shift].shape[1]
    z = graph.silu(graph.node("Add", product, shift))
    model = rewritten(graph, graph.node("Neg", y), graph.conv(z, graph.weights(CHANNELS, channels, 3, 3)))
    assert operators(model)["NormAffine"] == 1


def test_of_a_norm_of_means_that_stays_a_convolution_takes_in_what_it_needs() -> None:
    graph = LayoutGraph()
    y = graph.mean_norm(graph.x, graph.gain, graph.shift, CHANNELS, 2)
    z = graph.silu(graph.node("Add", *graph.nodes[-1].input))
    rewritten(graph, graph.node("Neg", y), graph.convolved(z))


def test_a_norm_of_which_the_shape_is_not_known_stays() -> None:
    graph = LayoutGraph()
    y = graph.affine(graph.normed(graph.x))
    outputs = beside_a_convolution(graph, y)
    model = onnx.load_from_string(graph.model(*outputs))
    known = [value for value in model.graph.value_info if value.name == y]
    del model.graph.value_info[:]
    model.graph.value_info.extend(known)
    plain = model.SerializeToString()
    again, _ = rewrite(plain)
    np.testing.assert_allclose(compute(again, graph.inputs)[0], compute(plain, graph.inputs)[0], atol=1e-5)


def test_a_norm_over_two_maps_at_once_stays() -> None:
    graph = LayoutGraph()
    two = graph.input("two", 2, CHANNELS, *SIZE)
    flat = graph.node("Reshape", two, graph.constant([1, 4, -1], np.int64))
    ones, zeros = graph.constant(np.ones(4)), graph.constant(np.zeros(4))
    normed = graph.node("InstanceNormalization", flat, ones, zeros, epsilon=1e-5)
    y = graph.affine(graph.node("Reshape", normed, graph.constant([2, CHANNELS, *SIZE], np.int64)))
    rewritten(graph, *beside_a_convolution(graph, y))
