"""Which maps are kept in bf16: those between two operators of ours that nobody else reads, and no others."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("onnx", reason="the graphs of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the graphs")

from engine import native
from engine.catalog import resolve
from engine.native.rewrite import DOMAIN, rewrite
from tests.engine.native.cases import has_bf16, has_int8
from tests.engine.native.layouts import SHORT_MORE, SHORT_OUTPUT, SHORT_RESIDUAL, SHORT_X, rounded
from tests.engine.native.one_node import convolution
from tests.engine.native.small_graph import compute, operators
from tests.engine.native.test_rewrite_layout import CHANNELS, SIZE, LayoutGraph, network, rewritten

pytestmark = pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")

SHORT_KINDS = [pytest.param("bf16", marks=has_bf16), pytest.param("int8", marks=has_int8)]
OURS = ("Conv3x3", "DirectConv", "Int8Conv", "Affine")  # they write maps


def short_maps(model: bytes) -> dict[str, int]:
    """The attribute `short_maps` of the nodes that have it, by their first output."""
    nodes = onnx.load_from_string(model).graph.node
    return {n.output[0]: a.i for n in nodes for a in n.attribute if a.name == "short_maps"}


def check_that_all_agree(model: bytes) -> set[str]:
    """What writes a map in bf16 and all that read it say so, and nothing else does. Returns these maps."""
    graph, said = onnx.load_from_string(model).graph, short_maps(model)
    short = {name for name, maps in said.items() if maps & SHORT_OUTPUT}
    assert not short & {value.name for value in graph.output}
    for node in graph.node:
        places = {SHORT_X: 0, SHORT_MORE: 3} if node.op_type == "NormAffine" else {SHORT_X: 0}
        if node.op_type in ("Conv3x3", "DirectConv", "Int8Conv"):
            places |= {SHORT_RESIDUAL: 3, SHORT_MORE: 6}
        maps = said.get(node.output[0], 0)
        for at, name in enumerate(node.input):
            flagged = any(maps & bit and at == place for bit, place in places.items())
            assert flagged == (name in short), f"{node.op_type} reads {name}"
        assert node.domain == DOMAIN or not maps
        if maps & SHORT_OUTPUT:
            assert node.op_type in OURS
    return short


# What is short.


@pytest.mark.parametrize("products", SHORT_KINDS)
def test_a_map_and_a_residual_between_convolutions_are_short(products: str) -> None:
    graph = LayoutGraph()
    first = graph.convolved(graph.x)
    second = graph.node("Add", graph.convolved(first), first)
    third = graph.convolved(second)
    model = rewritten(graph, third, products=products)
    assert short_maps(model) == {first: 8, second: SHORT_X | SHORT_RESIDUAL | SHORT_OUTPUT, third: SHORT_X}


@pytest.mark.parametrize("products", SHORT_KINDS)
@pytest.mark.parametrize("which", ["first", "second", "both"])
def test_each_of_two_joined_maps_is_short_by_itself(which: str, products: str) -> None:
    graph = LayoutGraph()
    other = graph.input("other", 1, CHANNELS, *SIZE)
    first = other if which == "second" else graph.convolved(graph.x)
    second = other if which == "first" else graph.convolved(graph.x)
    both = graph.node("Concat", first, second, axis=1)
    graph.gain, graph.shift = (graph.input(name, 1, 2 * CHANNELS, 1, 1) for name in ("gains", "shifts"))
    normed = graph.instance_norm(both, 2 * CHANNELS, SIZE, np.ones(4), np.zeros(4))
    y = graph.conv(graph.silu(graph.affine(normed)), graph.weights(CHANNELS, 2 * CHANNELS, 3, 3))
    model = rewritten(graph, y, products=products)
    reads = {"first": SHORT_X, "second": SHORT_MORE, "both": SHORT_X | SHORT_MORE}[which]
    written = {name: SHORT_OUTPUT for name in (first, second) if name != other}
    found = short_maps(model)
    (norm,) = [name for name in found if name.endswith("scale")]
    assert found == {**written, norm: reads, y: reads}


@pytest.mark.parametrize("products", SHORT_KINDS)
def test_a_norm_before_a_convolution_and_what_it_norms_are_short(products: str) -> None:
    graph = LayoutGraph()
    first = graph.convolved(graph.x)
    lone = graph.affine(graph.normed(first))
    y = graph.convolved(lone)
    model = rewritten(graph, y, products=products)
    assert operators(model) == {"Conv3x3": 2, "NormAffine": 1, "Affine": 1}
    found = short_maps(model)
    (norm,) = [name for name in found if name.endswith("scale")]
    assert found == {first: SHORT_OUTPUT, norm: SHORT_X, lone: SHORT_X | SHORT_OUTPUT, y: SHORT_X}


@pytest.mark.parametrize("products", SHORT_KINDS)
def test_what_a_norm_gives_to_others_is_not_short_though_it_reads_a_short_map(products: str) -> None:
    graph = LayoutGraph()
    first = graph.convolved(graph.x)
    lone = graph.affine(graph.normed(first))
    model = rewritten(graph, graph.node("Neg", lone), products=products)
    assert short_maps(model)[first] == SHORT_OUTPUT
    assert short_maps(model)[lone] == SHORT_X


@pytest.mark.parametrize("products", SHORT_KINDS)
@pytest.mark.parametrize("between", ["padded", "cut", "resized"])
def test_maps_with_rows_added_or_cut_off_and_doubled_ones_are_short(between: str, products: str) -> None:
    graph = LayoutGraph()
    first = graph.convolved(graph.x)
    changed = getattr(graph, between)(first)
    y = graph.convolved(changed)
    model = rewritten(graph, y, products=products)
    assert operators(model) == {"Conv3x3": 2}
    assert short_maps(model) == {changed if between == "padded" else first: SHORT_OUTPUT, y: SHORT_X}


@pytest.mark.parametrize(
    ("products", "operator"),
    [pytest.param("bf16", "DirectConv", marks=has_bf16), pytest.param("int8", "Int8Conv", marks=has_int8)],
)
def test_maps_of_small_convolutions_are_short(products: str, operator: str) -> None:
    graph = LayoutGraph()
    small = graph.input("small", 1, CHANNELS, 5, 7)
    first = graph.convolved(small)
    second = graph.node("Add", graph.convolved(first), first)
    y = graph.convolved(second)
    model = rewritten(graph, y, products=products)
    assert operators(model) == {operator: 3}
    assert short_maps(model) == {first: 8, second: 13, y: 1}


# What is not.


def reader(operator: str, **attributes: Any) -> Callable[[LayoutGraph, str], str]:
    return lambda graph, name: graph.node(operator, name, **attributes)


def as_gain(graph: LayoutGraph, name: str) -> str:
    """A convolution of one pixel gives the gain of another."""
    pixel = graph.input("pixel", 1, CHANNELS, 1, 1)
    graph.gain = graph.conv(pixel, graph.weights(CHANNELS, CHANNELS, 1, 1), pads=[0] * 4)
    return graph.convolved(graph.silu(graph.affine(graph.node("Neg", name))))


def five_by_five(graph: LayoutGraph, name: str) -> str:
    return graph.conv(name, graph.weights(8, CHANNELS, 5, 5), pads=[2] * 4)


OTHERS: dict[str, Callable[[LayoutGraph, str], str]] = {
    "Relu": reader("Relu"),
    "Sigmoid": reader("Sigmoid"),
    "Transpose": reader("Transpose", perm=[0, 1, 3, 2]),
    "Reshape": lambda graph, name: graph.node("Reshape", name, graph.constant([-1], np.int64)),
    "a Pad on top": lambda graph, name: graph.convolved(graph.padded(name, (0, 0, 3, 0, 0, 0, 0, 0))),
    "a Slice of the lower rows": lambda graph, name: graph.convolved(graph.cut(name, 1, 13)),
    "a Slice that others read": lambda graph, name: graph.node("Neg", graph.cut(name)),
    "a Resize by three": lambda graph, name: graph.convolved(graph.resized(name, (1, 1, 3, 3))),
    "a Concat of rows": lambda graph, name: graph.convolved(graph.node("Concat", name, graph.x, axis=2)),
    "an Add of an input": lambda graph, name: graph.node("Add", name, graph.node("Neg", graph.x)),
    "a convolution of the standard's": five_by_five,
}


@pytest.mark.parametrize("products", SHORT_KINDS)
@pytest.mark.parametrize("name", OTHERS)
def test_a_map_that_another_operator_reads_as_well_is_not_short(name: str, products: str) -> None:
    graph = LayoutGraph()
    first = graph.convolved(graph.x)
    second = graph.convolved(first)
    outputs = (second, OTHERS[name](graph, first))
    model = rewritten(graph, *outputs, products=products)
    assert not {first, second} & short_maps(model).keys()
    check_that_all_agree(model)


@pytest.mark.parametrize("products", SHORT_KINDS)
def test_an_output_of_the_graph_is_not_short(products: str) -> None:
    graph = LayoutGraph()
    first = graph.convolved(graph.x)
    lone = graph.affine(graph.normed(first))
    outputs = (first, lone, graph.convolved(first), graph.convolved(lone))
    assert short_maps(rewritten(graph, *outputs, products=products)) == {}


@pytest.mark.parametrize("products", SHORT_KINDS)
def test_a_gain_is_no_map_that_may_be_short(products: str) -> None:
    graph = LayoutGraph()
    y = as_gain(graph, graph.x)
    model = rewritten(graph, y, products=products)
    assert operators(model) == {"DirectConv": 1, "Neg": 1, "Conv3x3": 1}
    assert short_maps(model) == {}


def test_in_fp32_nothing_is_short() -> None:
    graph, y = network()
    assert short_maps(rewritten(graph, y)) == {}


# What comes of it.


@has_bf16
@pytest.mark.parametrize("height", [13, 32])
def test_a_graph_computes_with_every_short_map_rounded_to_the_nearest(height: int) -> None:
    """Bit for bit as the operators one by one."""
    graph = LayoutGraph()
    graph.x = graph.input("map", 1, CHANNELS, height, 37)
    first = graph.padded(graph.convolved(graph.x))
    second = graph.node("Add", graph.convolved(first), first)
    third = graph.convolved(graph.cut(second))
    fourth = graph.convolved(graph.x)
    y = graph.convolved(graph.resized(graph.node("Add", third, fourth)))
    model, _ = rewrite(graph.model(y), "bf16")
    assert operators(model) == {"Conv3x3": 5}
    assert len(check_that_all_agree(model)) == 4
    (got,) = compute(model, graph.inputs)
    convs = [node for node in graph.nodes if node.op_type == "Conv"]
    constants = [[graph.constants[name] for name in node.input[1:]] for node in convs]

    def written(index: int, x: Any, residual: Any = None) -> Any:
        return rounded(convolution(x, *constants[index], residual=residual, bf16=1))

    x = graph.inputs["map"]
    padded = np.pad(written(0, x), ((0, 0), (0, 0), (0, 3), (0, 0)))
    upper = written(1, padded, padded)[:, :, :height].copy()
    small = written(2, upper, written(3, x))
    large = small.repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_array_equal(got, convolution(large, *constants[4], bf16=1))


@pytest.mark.parametrize("products", SHORT_KINDS)
def test_in_a_network_of_all_layouts_writers_and_readers_agree(products: str) -> None:
    graph, y = network()
    short = check_that_all_agree(rewritten(graph, y, products=products))
    assert len(short) == 5  # all convolutions: the last is read by an Affine of ours


@pytest.mark.parametrize("products", ["bf16", "int8"])  # whatever this processor multiplies
@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_in_the_embedded_world_writers_and_readers_agree(role: Any, products: str) -> None:
    model, _ = rewrite((resolve("freedoom") / "fp32" / f"{role}.onnx").read_bytes(), products)
    assert len(check_that_all_agree(model)) >= 10
