"""Rows that are cut off or added and maps that are doubled: which of these a convolution takes in, and which stay."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the graphs of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the graphs")

import onnx

from engine import native
from engine.native.rewrite import DOMAIN, rewrite
from engine.native.short_maps import CONVOLUTIONS
from tests.engine.native.cases import has_bf16, has_int8
from tests.engine.native.small_graph import SmallGraph, compute, native_nodes, operators

CHANNELS = 16
SIZE = (13, 16)  # 16 tiles
INTS, LAST = np.int64, np.iinfo(np.int64).max

pytestmark = pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")

# How far from ONNX Runtime a result may be: deviation by deviation. Convolutions of random maps in bf16: 2.4 % each.
FAR = {"fp32": 1e-5, "bf16": 8e-2, "int8": 8e-2}
each_kind = pytest.mark.parametrize(
    "products", ["fp32", pytest.param("bf16", marks=has_bf16), pytest.param("int8", marks=has_int8)]
)


class LayoutGraph(SmallGraph):
    """A small graph with a map of (1, CHANNELS, *SIZE), which knows what of its nodes stands for layouts."""

    def __init__(self) -> None:
        super().__init__()
        self.x = self.input("x", 1, CHANNELS, *SIZE)
        self.gain, self.shift = (self.input(name, 1, CHANNELS, 1, 1) for name in ("gain", "shift"))

    def convolved(self, x: str, **attributes: Any) -> str:
        weights = self.weights(CHANNELS, CHANNELS, 3, 3)
        return self.conv(x, weights, self.weights(CHANNELS), **attributes)

    def padded(self, x: str, pads: tuple[int, ...] = (0, 0, 0, 0, 0, 0, 3, 0), **attributes: Any) -> str:
        return self.node("Pad", x, self.constant(pads, INTS), **attributes)

    def cut(self, x: str, start: int = 0, end: int = -3, axis: int = 2, step: int | None = 1) -> str:
        numbers = [self.constant([number], INTS) for number in (start, end, axis, step) if number is not None]
        return self.node("Slice", x, *numbers)

    def resized(self, x: str, scales: tuple[float, ...] = (1, 1, 2, 2), **attributes: Any) -> str:
        usual = {
            "mode": "nearest",
            "nearest_mode": "floor",
            "coordinate_transformation_mode": "asymmetric",
        }
        return self.node("Resize", x, "", self.constant(scales), **(usual | attributes))

    def affine(self, normed: str, shift: str = "") -> str:
        return self.node("Add", self.node("Mul", normed, self.gain), shift or self.shift)

    def normed(self, x: str, size: tuple[int, int] = SIZE) -> str:
        return self.instance_norm(x, CHANNELS, size, np.ones(4), np.zeros(4))


def rewritten(graph: SmallGraph, *outputs: str, products: str = "fp32") -> bytes:
    """The rewritten model, which ONNX finds well formed and which computes what the plain one does in ONNX Runtime."""
    plain = graph.model(*outputs)
    model, _ = rewrite(plain, products)
    onnx.checker.check_model(onnx.load_from_string(model))
    for name, expected, got in zip(
        outputs, compute(plain, graph.inputs), compute(model, graph.inputs), strict=True
    ):
        error = (got - expected).std() / expected.std()
        assert error <= FAR[products], f"{name}: {error:.1e} of its deviation"
    return model


def layouts(model: bytes) -> list[dict[str, int]]:
    """What every convolution and norm of ours says of the rows that it reads and writes, in their order."""
    nodes = [n for n in onnx.load_from_string(model).graph.node if n.domain == DOMAIN]
    names = ("fewer_rows", "more_rows", "doubled")
    return [{a.name: a.i for a in n.attribute if a.name in names} for n in nodes]


# What is taken in.


@each_kind
def test_rows_that_are_added_are_written_by_the_convolution_before_them(products: str) -> None:
    for mode in ({}, {"mode": "constant"}):
        graph = LayoutGraph()
        model = rewritten(graph, graph.padded(graph.convolved(graph.x), **mode), products=products)
        assert (operators(model), layouts(model)) == ({"Conv3x3": 1}, [{"more_rows": 3}])


@each_kind
def test_rows_that_are_cut_off_are_not_read_by_the_convolution_behind_them(products: str) -> None:
    for end, step in ((-3, 1), (10, 1), (10, None)):
        graph = LayoutGraph()
        model = rewritten(graph, graph.convolved(graph.cut(graph.x, end=end, step=step)), products=products)
        assert (operators(model), layouts(model)) == ({"Conv3x3": 1}, [{"fewer_rows": 3}])


@each_kind
def test_a_map_that_is_doubled_is_read_as_it_was(products: str) -> None:
    graph = LayoutGraph()
    model = rewritten(graph, graph.convolved(graph.resized(graph.x)), products=products)
    assert (operators(model), layouts(model)) == ({"Conv3x3": 1}, [{"doubled": 1}])
    assert native_nodes(model, "Conv3x3")[0].input[0] == graph.x


@each_kind
def test_a_norm_and_its_convolution_leave_out_the_same_rows(products: str) -> None:
    graph = LayoutGraph()
    z = graph.affine(graph.normed(graph.cut(graph.x), (10, 16)))
    model = rewritten(graph, graph.convolved(graph.silu(z)), products=products)
    assert operators(model) == {"NormAffine": 1, "Conv3x3": 1}
    assert layouts(model) == [{"fewer_rows": 3}] * 2
    assert [node.input[0] for node in onnx.load_from_string(model).graph.node] == [graph.x] * 2


@each_kind
def test_a_norm_of_means_leaves_out_rows(products: str) -> None:
    graph = LayoutGraph()
    z = graph.mean_norm(graph.cut(graph.x), graph.gain, graph.shift, CHANNELS, 2)
    model = rewritten(graph, graph.convolved(graph.silu(z)), products=products)
    assert operators(model) == {"Reshape": 2, "NormAffine": 1, "Conv3x3": 1}  # of gain and shift
    assert layouts(model) == [{"fewer_rows": 3}] * 2


def network() -> tuple[LayoutGraph, str]:
    """Rows are added, the map is normed, doubled, cut and normed again; and a norm that ends in no convolution."""
    graph = LayoutGraph()
    first = graph.padded(graph.convolved(graph.x))  # 16x16
    inner = graph.convolved(graph.silu(graph.affine(graph.normed(first, (16, 16)))))
    large = graph.convolved(graph.resized(graph.node("Add", inner, first)))  # 32x32
    upper = graph.cut(large, end=-6)  # 26x32
    skip = graph.convolved(upper)
    y = graph.convolved(graph.silu(graph.affine(graph.normed(upper, (26, 32)))))
    y = graph.node("Add", y, skip)
    return graph, graph.node("Neg", graph.affine(graph.normed(y, (26, 32))))


@each_kind
def test_a_network_of_all_that_computes_what_it_did(products: str) -> None:
    graph, y = network()
    model = rewritten(graph, y, products=products)
    assert operators(model) == {"NormAffine": 3, "Conv3x3": 5, "Affine": 1, "Neg": 1}
    found = [layout for layout in layouts(model) if layout]
    fewer = {"fewer_rows": 6}
    assert sorted(map(str, found)) == sorted(
        map(str, [{"more_rows": 3}, {"doubled": 1}, fewer, fewer, fewer])
    )


@pytest.mark.parametrize(
    ("products", "operator", "attributes"),
    [
        pytest.param("bf16", "DirectConv", {}, marks=has_bf16),
        pytest.param("int8", "Int8Conv", {}, marks=has_int8),
        pytest.param("int8", "Int8Conv", {"strides": [2, 2]}, marks=has_int8),
    ],
)
def test_convolutions_over_small_maps_leave_out_rows_and_add_them(
    products: str, operator: str, attributes: dict[str, Any]
) -> None:
    graph = LayoutGraph()
    y = graph.padded(graph.convolved(graph.cut(graph.x, end=8), **attributes))  # 8x16: 8 tiles
    model = rewritten(graph, y, products=products)
    assert (operators(model), layouts(model)) == ({operator: 1}, [{"fewer_rows": 5, "more_rows": 3}])


@pytest.mark.parametrize("products", native.PRODUCTS)
def test_what_others_read_stays_for_them(products: str) -> None:
    graph = LayoutGraph()
    upper, large = graph.cut(graph.x), graph.resized(graph.x)
    outputs = (
        graph.convolved(upper),
        graph.convolved(large),
        graph.node("Neg", upper),
        graph.node("Neg", large),
    )
    model, _ = rewrite(graph.model(*outputs), products)
    assert operators(model) == {"Conv3x3": 2, "Slice": 1, "Resize": 1, "Neg": 2}
    assert layouts(model) == [{"fewer_rows": 3}, {"doubled": 1}]
    if products == "fp32":
        rewritten(graph, *outputs)


# What stays.


def pad_of(pads: tuple[int, ...], **attributes: Any) -> tuple[LayoutGraph, list[str]]:
    graph = LayoutGraph()
    return graph, [graph.padded(graph.convolved(graph.x), pads, **attributes)]


def pad_with(*inputs: Any) -> tuple[LayoutGraph, list[str]]:
    """A Pad with a value, or with axes."""
    graph = LayoutGraph()
    pads = [0, 3] if len(inputs) == 2 else [0, 0, 0, 0, 0, 0, 3, 0]
    given = [value if value == "" else graph.constant(value, np.array(value).dtype.type) for value in inputs]
    return graph, [graph.node("Pad", graph.convolved(graph.x), graph.constant(pads, INTS), *given)]


def pad_of_what_others_read(output: bool) -> tuple[LayoutGraph, list[str]]:
    graph = LayoutGraph()
    convolved = graph.convolved(graph.x)
    return graph, [graph.padded(convolved), convolved if output else graph.node("Neg", convolved)]


def pad_of_a_sum() -> tuple[LayoutGraph, list[str]]:
    """The residual is of the size before: it takes the place that the rows would have."""
    graph = LayoutGraph()
    return graph, [graph.padded(graph.node("Add", graph.convolved(graph.x), graph.x))]


def pad_of_an_input() -> tuple[LayoutGraph, list[str]]:
    graph = LayoutGraph()
    return graph, [graph.convolved(graph.padded(graph.x))]


def slice_of(*numbers: Any) -> tuple[LayoutGraph, list[str]]:
    graph = LayoutGraph()
    return graph, [graph.convolved(graph.cut(graph.x, *numbers))]


def slice_of_every_second_row() -> tuple[LayoutGraph, list[str]]:
    graph = LayoutGraph()
    high = graph.input("high", 1, CHANNELS, 26, 16)
    return graph, [graph.convolved(graph.cut(high, 0, LAST, 2, 2))]


def slice_of_two_axes(*pairs: list[int]) -> tuple[LayoutGraph, list[str]]:
    graph = LayoutGraph()
    numbers = [graph.constant(pair, INTS) for pair in pairs]
    return graph, [graph.convolved(graph.node("Slice", graph.x, *numbers))]


def slice_of_all_axes() -> tuple[LayoutGraph, list[str]]:
    graph = LayoutGraph()
    numbers = [graph.constant(four, INTS) for four in ([0] * 4, [1, CHANNELS, 10, 16])]
    return graph, [graph.convolved(graph.node("Slice", graph.x, *numbers))]


def slice_behind() -> tuple[LayoutGraph, list[str]]:
    graph = LayoutGraph()
    return graph, [graph.cut(graph.convolved(graph.x))]


def resize_of(*scales: float, **attributes: Any) -> tuple[LayoutGraph, list[str]]:
    graph = LayoutGraph()
    return graph, [graph.convolved(graph.resized(graph.x, scales or (1, 1, 2, 2), **attributes))]


def resize_before_silu() -> tuple[LayoutGraph, list[str]]:
    graph = LayoutGraph()
    return graph, [graph.convolved(graph.silu(graph.affine(graph.resized(graph.x))))]


def resize_of_a_small_map() -> tuple[LayoutGraph, list[str]]:
    """Twice 3x8 is 6x16, of 8 tiles: no Conv3x3."""
    graph = LayoutGraph()
    small = graph.input("small", 1, CHANNELS, 3, 8)
    return graph, [graph.convolved(graph.resized(small)), graph.convolved(graph.x)]


STAYS: dict[str, tuple[str, Callable[[], tuple[LayoutGraph, list[str]]]]] = {
    "rows on top": ("Pad", lambda: pad_of((0, 0, 3, 0, 0, 0, 0, 0))),
    "rows on both sides": ("Pad", lambda: pad_of((0, 0, 1, 0, 0, 0, 3, 0))),
    "columns on the left": ("Pad", lambda: pad_of((0, 0, 0, 1, 0, 0, 0, 0))),
    "columns on the right": ("Pad", lambda: pad_of((0, 0, 0, 0, 0, 0, 0, 2))),
    "rows and columns": ("Pad", lambda: pad_of((0, 0, 0, 0, 0, 0, 3, 2))),
    "channels": ("Pad", lambda: pad_of((0, 0, 0, 0, 0, 8, 0, 0))),
    "rows that are cut off by a pad": ("Pad", lambda: pad_of((0, 0, 0, 0, 0, 0, -3, 0))),
    "rows moved upwards": ("Pad", lambda: pad_of((0, 0, -3, 0, 0, 0, 3, 0))),
    "reflected rows": ("Pad", lambda: pad_of((0, 0, 0, 0, 0, 0, 3, 0), mode="reflect")),
    "repeated rows": ("Pad", lambda: pad_of((0, 0, 0, 0, 0, 0, 3, 0), mode="edge")),
    "rows of ones": ("Pad", lambda: pad_with(np.float32(1))),
    "rows on a named axis": ("Pad", lambda: pad_with("", np.array([2]))),
    "rows added to what another reads": ("Pad", lambda: pad_of_what_others_read(output=False)),
    "rows added to an output": ("Pad", lambda: pad_of_what_others_read(output=True)),
    "rows added to a sum": ("Pad", pad_of_a_sum),
    "rows added to an input": ("Pad", pad_of_an_input),
    "the lower rows": ("Slice", lambda: slice_of(3, LAST)),
    "rows in the middle": ("Slice", lambda: slice_of(1, -2)),
    "the left columns": ("Slice", lambda: slice_of(0, -3, 3)),
    "the first channels": ("Slice", lambda: slice_of(0, CHANNELS, 1, 1)),
    "every second row": ("Slice", slice_of_every_second_row),
    "rows upside down": ("Slice", lambda: slice_of(9, -LAST, 2, -1)),
    "rows and columns cut off": ("Slice", lambda: slice_of_two_axes([0, 0], [10, 13], [2, 3])),
    "columns turned around": (
        "Slice",
        lambda: slice_of_two_axes([0, 15], [10, -LAST], [2, 3], [1, -1]),
    ),
    "rows of all axes": ("Slice", slice_of_all_axes),
    "rows cut off behind": ("Slice", slice_behind),
    "linear": ("Resize", lambda: resize_of(mode="linear")),
    "rounded up": ("Resize", lambda: resize_of(nearest_mode="ceil")),
    "rounded down at a half": ("Resize", lambda: resize_of(nearest_mode="round_prefer_floor")),
    "by the centres of pixels": ("Resize", lambda: resize_of(coordinate_transformation_mode="half_pixel")),
    "by the corners": ("Resize", lambda: resize_of(coordinate_transformation_mode="align_corners")),
    "by three": ("Resize", lambda: resize_of(1, 1, 3, 3)),
    "rows alone": ("Resize", lambda: resize_of(1, 1, 2, 1)),
    "columns alone": ("Resize", lambda: resize_of(1, 1, 1, 2)),
    "by four": ("Resize", lambda: resize_of(1, 1, 4, 2)),
    "before gain, shift and silu": ("Resize", resize_before_silu),
    "before a small map's convolution": ("Resize", resize_of_a_small_map),
}


def test_a_scale_that_is_not_two_but_doubles_the_shape_stays() -> None:
    graph, outputs = resize_of(1, 1, 2.01, 2.01)
    assert operators(rewritten(graph, *outputs))["Resize"] == 1


@pytest.mark.parametrize("name", STAYS)
def test_what_is_of_another_form_stays_beside_the_convolution(name: str) -> None:
    operator, made = STAYS[name]
    graph, outputs = made()
    model = rewritten(graph, *outputs)
    for products in native.PRODUCTS:
        if products != "fp32":
            model, _ = rewrite(graph.model(*outputs), products)
        counts = operators(model)
        assert counts[operator] == 1, products
        assert sum(counts[ours] for ours in CONVOLUTIONS) >= 1
        assert not any(layouts(model)), products
