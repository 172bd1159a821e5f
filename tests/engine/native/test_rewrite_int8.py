"""What of a graph becomes a native operator where products are to be in int8; and inputs that are two maps."""

import numpy as np
import onnx
import pytest

pytest.importorskip("onnx", reason="the graphs of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the graphs")

from engine import native
from engine.native.rewrite import LEAST_CHANNELS, LEAST_INT8_PRODUCTS, LEAST_WEIGHTS, rewrite
from tests.engine.native.cases import has_bf16, has_int8
from tests.engine.native.small_graph import SmallGraph, compute, native_nodes, operators
from tests.engine.native.test_rewrite import STAYS, few_channels, with_attributes

pytestmark = pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")

SMALL = (8, 14)  # 8 tiles
RANGE = 7  # its place among an Int8Conv's inputs


def attributes_of(model: bytes, operator: str) -> list[dict[str, int]]:
    return [{a.name: a.i for a in node.attribute} for node in native_nodes(model, operator)]


def test_small_maps_and_strides_are_multiplied_in_bytes_and_large_ones_in_bf16() -> None:
    for model, operator, attributes in (
        (with_attributes(SMALL), "Int8Conv", {}),
        (with_attributes(SMALL, strides=[2, 2]), "Int8Conv", {"stride": 2}),
        (with_attributes(strides=[2, 2]), "Int8Conv", {"stride": 2}),
        (with_attributes(), "Conv3x3", {"bf16": 1}),
    ):
        rewritten, replaced = rewrite(model, "int8")
        assert (replaced, operators(rewritten)) == (1, {operator: 1})
        assert attributes_of(rewritten, operator) == [attributes]
        onnx.checker.check_model(onnx.load_from_string(rewritten))


def test_a_1x1_convolution_is_multiplied_in_bytes_only_where_it_is_large() -> None:
    for channels, operator in ((1024, "Int8Conv"), (512, "DirectConv")):
        graph = SmallGraph()
        x = graph.input("x", 1, channels, 4, 7)
        weights = graph.weights(channels, channels, 1, 1)
        model, _ = rewrite(graph.model(graph.conv(x, weights, pads=[0, 0, 0, 0])), "int8")
        assert operators(model) == {operator: 1}
        assert (channels**2 * 4 * 7 >= LEAST_INT8_PRODUCTS) == (operator == "Int8Conv")


@pytest.mark.parametrize("name", [name for name in STAYS if "stride 2" not in name or "1x1" in name])
def test_what_does_not_fit_in_int8_either_comes_back_as_the_same_bytes(name: str) -> None:
    assert rewrite(STAYS[name](), "int8") == (STAYS[name](), 0)


@pytest.mark.parametrize("products", native.PRODUCTS)
def test_few_channels_out_are_worth_it_where_products_are_cheap(products: str) -> None:
    _, replaced = rewrite(few_channels(32, LEAST_CHANNELS - 1), products)
    assert replaced == (products != "fp32")


def normed_twice() -> tuple[SmallGraph, str]:
    """Two convolutions over a small map behind one norm and its silu, which a third reads at stride 2."""
    graph = SmallGraph()
    x = graph.input("x", 1, 32, *SMALL)
    gain, shift = graph.input("gain", 1, 32, 1, 1), graph.input("shift", 1, 32, 1, 1)
    normed = graph.instance_norm(x, 32, SMALL, np.ones(4), np.zeros(4))
    silu = graph.modulated(normed, gain, shift)
    first, second = (graph.conv(silu, graph.weights(32, 32, 3, 3)) for _ in range(2))
    down = graph.conv(silu, graph.weights(32, 32, 3, 3), graph.weights(32), strides=[2, 2])
    flat = graph.node("Reshape", graph.node("Add", first, second), graph.constant([1, -1], np.int64))
    return graph, graph.node(
        "Concat", flat, graph.node("Reshape", down, graph.constant([1, -1], np.int64)), axis=1
    )


@has_int8
def test_a_norm_tells_all_its_convolutions_their_range() -> None:
    graph, y = normed_twice()
    plain = graph.model(y)
    model, replaced = rewrite(plain, "int8")
    assert (replaced, operators(model)["Int8Conv"], operators(model)["NormAffine"]) == (3, 3, 1)
    (norm,) = native_nodes(model, "NormAffine")
    assert len(norm.output) == 3
    assert {node.input[RANGE] for node in native_nodes(model, "Int8Conv")} == {norm.output[2]}
    (expected,), (got,) = compute(plain, graph.inputs), compute(model, graph.inputs)
    error = np.abs(got - expected).max() / np.abs(expected).max()
    assert 1e-4 < error < 3e-2, f"{error:.1e}: below that it was not in int8"


@has_int8
def test_a_convolution_with_stride_2_takes_in_the_residual_of_its_own_size() -> None:
    graph = SmallGraph()
    x, other = graph.input("x", 1, 32, 9, 14), graph.input("other", 1, 32, 5, 7)
    down = graph.conv(x, graph.weights(32, 32, 3, 3), strides=[2, 2])
    plain = graph.model(graph.node("Add", down, other))
    model, _ = rewrite(plain, "int8")
    assert operators(model) == {"Int8Conv": 1}
    (expected,), (got,) = compute(plain, graph.inputs), compute(model, graph.inputs)
    assert got.shape == expected.shape == (1, 32, 5, 7)
    assert np.abs(got - expected).max() < 3e-2 * np.abs(expected).max()


# Inputs that are two maps.


def joined(axis: int = 1, parts: int = 2) -> tuple[SmallGraph, str]:
    """A norm, its silu and a convolution, and a 1x1 convolution, over maps that lie one after the other."""
    graph = SmallGraph()
    maps = [graph.input(f"x{index}", 1, 16, 12, 20) for index in range(parts)]
    x = graph.node("Concat", *maps, axis=axis)
    channels, size = (16 * parts, (12, 20)) if axis == 1 else (16, (12 * parts, 20))
    gain, shift = graph.input("gain", 1, channels, 1, 1), graph.input("shift", 1, channels, 1, 1)
    normed = graph.instance_norm(x, channels, size, np.ones(4), np.zeros(4))
    wide = graph.conv(graph.modulated(normed, gain, shift), graph.weights(24, channels, 3, 3))
    skip = graph.conv(x, graph.weights(24, channels, 1, 1), pads=[0, 0, 0, 0])
    return graph, graph.node("Add", wide, skip)


@pytest.mark.parametrize(
    ("products", "concats"),
    [("fp32", 1), pytest.param("bf16", 0, marks=has_bf16), pytest.param("int8", 0, marks=has_int8)],
)
def test_two_maps_are_read_where_they_are(products: str, concats: int) -> None:
    """In fp32 the 1x1 convolution is ONNX Runtime's, which wants them in one piece."""
    graph, y = joined()
    plain = graph.model(y)
    model, _ = rewrite(plain, products)
    assert operators(model)["Concat"] == concats
    (norm,), (conv,) = native_nodes(model, "NormAffine"), native_nodes(model, "Conv3x3")
    assert [norm.input[0], norm.input[3], conv.input[0], conv.input[6]] == ["x0", "x1", "x0", "x1"]
    (expected,), (got,) = compute(plain, graph.inputs), compute(model, graph.inputs)
    assert (got - expected).std() < (1e-5 if products == "fp32" else 2e-2) * expected.std()


@pytest.mark.parametrize(("axis", "parts"), [(1, 3), (2, 2)])
def test_three_maps_or_maps_below_each_other_stay_in_one_piece(axis: int, parts: int) -> None:
    graph, y = joined(axis, parts)
    model, _ = rewrite(graph.model(y))
    assert operators(model)["Concat"] == 1
    (conv,) = native_nodes(model, "Conv3x3")
    assert len(conv.input) == 6
    np.testing.assert_allclose(
        *compute(model, graph.inputs), *compute(graph.model(y), graph.inputs), atol=1e-4
    )


# Linear layers.


@pytest.mark.parametrize("products", native.PRODUCTS)
def test_large_linear_layers_keep_their_weights_short(products: str) -> None:
    for outputs, large in ((LEAST_WEIGHTS // 512, True), (LEAST_WEIGHTS // 512 - 1, False)):
        graph = SmallGraph()
        x = graph.input("x", 2, 512)
        y = graph.node("Gemm", x, graph.weights(outputs, 512), graph.weights(outputs), transB=1)
        plain = graph.model(y)
        model, replaced = rewrite(plain, products)
        assert replaced == (large and products != "fp32")
        if replaced:
            assert attributes_of(model, "Linear") == [{"int8": int(products == "int8")}]
            if native.kernels(products):
                (expected,), (got,) = compute(plain, graph.inputs), compute(model, graph.inputs)
                assert np.abs(got - expected).max() < 2e-2 * np.abs(expected).max()


@pytest.mark.parametrize("attributes", [{}, {"transB": 1, "alpha": 0.5}, {"transB": 1, "transA": 1}])
def test_other_products_of_matrices_stay(attributes: dict[str, float]) -> None:
    graph = SmallGraph()
    side = int(LEAST_WEIGHTS**0.5)
    x = graph.input("x", side, side)
    model = graph.model(graph.node("Gemm", x, graph.weights(side, side), graph.weights(side), **attributes))
    assert rewrite(model, "int8") == (model, 0)
