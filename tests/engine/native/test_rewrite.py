"""What of a graph becomes a native operator and what stays, on small graphs and on the world in the package."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the graphs of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to run the graphs")

import onnx

from engine import native
from engine.backends.base import Backend
from engine.backends.ort import OrtBackend
from engine.bundle import Bundle
from engine.catalog import resolve
from engine.native.rewrite import DOMAIN, LEAST_CHANNELS, LEAST_TILES, rewrite
from tests.engine.native.small_graph import SmallGraph, compute, native_nodes, operators

CHANNELS = 16
SIZE, SMALL = (12, 16), (12, 12)  # 12 and 9 tiles
X, WEIGHTS, BIAS, RESIDUAL, GAIN, SHIFT = range(6)

pytestmark = pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")


def start(channels: int = CHANNELS, size: tuple[int, int] = SIZE) -> tuple[SmallGraph, str, str]:
    """A graph with a map and square 3x3 weights."""
    graph = SmallGraph()
    return graph, graph.input("x", 1, channels, *size), graph.weights(channels, channels, 3, 3)


def modulation(graph: SmallGraph, channels: int = CHANNELS) -> tuple[str, str]:
    """A gain and a shift as the graph's inputs."""
    return graph.input("gain", 1, channels, 1, 1), graph.input("shift", 1, channels, 1, 1)


def rewritten(graph: SmallGraph, *outputs: str, **options: Any) -> bytes:
    """The rewritten model, which ONNX finds well formed and which computes what the plain one does."""
    plain = graph.model(*outputs, **options)
    model, replaced = rewrite(plain)
    counts = operators(model)
    assert replaced == counts["Conv3x3"] + counts["Attention"]
    onnx.checker.check_model(onnx.load_from_string(model))
    for name, expected, got in zip(
        outputs, compute(plain, graph.inputs), compute(model, graph.inputs), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max(), err_msg=name)
    return model


def inputs_of(model: bytes) -> list[str]:
    """The names of the inputs of the only Conv3x3; "" for what it has not."""
    (node,) = native_nodes(model, "Conv3x3")
    return [*node.input] + [""] * (6 - len(node.input))


# Which convolutions.


def test_a_convolution_is_replaced_with_and_without_a_bias() -> None:
    for biased in (False, True):
        graph, x, weights = start()
        bias = graph.weights(CHANNELS) if biased else None
        model = rewritten(graph, graph.conv(x, weights, bias))
        assert operators(model) == {"Conv3x3": 1}
        assert inputs_of(model) == [x, weights, bias or "", "", "", ""]
        opsets = {opset.domain: opset.version for opset in onnx.load_from_string(model).opset_import}
        assert opsets == {"": 20, DOMAIN: 1}


def small_map() -> bytes:
    return with_attributes(size=SMALL)


def few_channels(inward: int, outward: int) -> bytes:
    graph = SmallGraph()
    x = graph.input("x", 1, inward, *SIZE)
    return graph.model(graph.conv(x, graph.weights(outward, inward, 3, 3)))


def with_attributes(size: tuple[int, int] = SIZE, **attributes: Any) -> bytes:
    graph, x, _ = start(32, size)
    weights = graph.weights(32, 32 // attributes.get("group", 1), *attributes.pop("kernel", (3, 3)))
    return graph.model(graph.conv(x, weights, **attributes))


def in_half_precision() -> bytes:
    graph = SmallGraph()
    x = graph.input("x", 1, CHANNELS, *SIZE, dtype=np.float16)
    return graph.model(graph.conv(x, graph.weights(CHANNELS, CHANNELS, 3, 3, dtype=np.float16)))


def with_computed_weights() -> bytes:
    graph, x, weights = start()
    return graph.model(graph.conv(x, graph.node("Neg", weights)))


def with_given_weights() -> bytes:
    graph = SmallGraph()
    x, weights = graph.input("x", 1, CHANNELS, *SIZE), graph.input("w", CHANNELS, CHANNELS, 3, 3)
    return graph.model(graph.conv(x, weights))


def with_two_maps_at_once() -> bytes:
    graph = SmallGraph()
    x = graph.input("x", 2, CHANNELS, *SIZE)
    return graph.model(graph.conv(x, graph.weights(CHANNELS, CHANNELS, 3, 3)))


def of_unknown_shape() -> bytes:
    graph, x, weights = start()
    return graph.model(graph.conv(graph.node("Relu", x), weights), shapes=False)


def of_one_axis_unknown() -> bytes:
    graph, x, weights = start()
    model = onnx.load_from_string(graph.model(graph.conv(x, weights)))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    return bytes(model.SerializeToString())


# What only products in bf16 gain from.
STAYS_IN_FP32: dict[str, Callable[[], bytes]] = {
    "small map": small_map,
    "1x1": lambda: with_attributes(kernel=(1, 1), pads=[0, 0, 0, 0]),
    "1x1 over a small map": lambda: with_attributes(SMALL, kernel=(1, 1), pads=[0, 0, 0, 0]),
}
STAYS: dict[str, Callable[[], bytes]] = {
    "few channels in": lambda: few_channels(LEAST_CHANNELS - 1, 32),
    "stride 2": lambda: with_attributes(strides=[2, 2]),
    "stride 1 and 2": lambda: with_attributes(strides=[1, 2]),
    "dilated": lambda: with_attributes(dilations=[2, 2], pads=[2, 2, 2, 2]),
    "dilated, padded by 1": lambda: with_attributes(dilations=[2, 2]),
    "groups": lambda: with_attributes(group=2),
    "no padding": lambda: with_attributes(pads=[0, 0, 0, 0]),
    "padding on one side": lambda: with_attributes(pads=[1, 1, 0, 0]),
    "small map, stride 2": lambda: with_attributes(SMALL, strides=[2, 2]),
    "small map, dilated": lambda: with_attributes(SMALL, dilations=[2, 2]),
    "small map, groups": lambda: with_attributes(SMALL, group=2),
    "1x1, stride 2": lambda: with_attributes(kernel=(1, 1), strides=[2, 2], pads=[0, 0, 0, 0]),
    "1x1, groups": lambda: with_attributes(kernel=(1, 1), group=2, pads=[0, 0, 0, 0]),
    "1x1, padded": lambda: with_attributes(kernel=(1, 1)),
    "5x5": lambda: with_attributes(kernel=(5, 5), pads=[2, 2, 2, 2]),
    "3x1": lambda: with_attributes(kernel=(3, 1)),
    "fp16": in_half_precision,
    "computed weights": with_computed_weights,
    "given weights": with_given_weights,
    "batch of 2": with_two_maps_at_once,
    "unknown shape": of_unknown_shape,
    "an axis unknown": of_one_axis_unknown,
}


@pytest.mark.parametrize("name", [*STAYS_IN_FP32, *STAYS])
def test_what_does_not_fit_comes_back_as_the_same_bytes(name: str) -> None:
    model = (STAYS_IN_FP32 | STAYS)[name]()
    assert operators(model)["Conv"] == 1
    assert rewrite(model) == (model, 0)


def test_the_smallest_map_that_is_replaced_has_the_tiles_that_it_says() -> None:
    for width, count in ((4 * LEAST_TILES, 1), (4 * LEAST_TILES - 3, 1), (4 * LEAST_TILES - 4, 0)):
        graph, x, weights = start(LEAST_CHANNELS, (1, width))
        assert rewrite(graph.model(graph.conv(x, weights)))[1] == count, width


@pytest.mark.parametrize("content", [b"not a graph", b"\xff" * 100, b"PK\x03\x04 a zip"])
def test_what_is_no_onnx_file_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        rewrite(content)


def test_an_initializer_that_a_caller_may_override_is_no_constant() -> None:
    """Old files list every initializer among the inputs; ONNX Runtime then takes it for a default."""
    graph, x, weights = start()
    model = onnx.load_from_string(graph.model(graph.conv(x, weights)))
    shape = graph.constants[weights].shape
    model.graph.input.append(onnx.helper.make_tensor_value_info(weights, onnx.TensorProto.FLOAT, shape))
    plain = model.SerializeToString()
    again, _ = rewrite(plain)
    np.testing.assert_allclose(compute(again, graph.inputs)[0], compute(plain, graph.inputs)[0], atol=1e-4)


# The residual.


def test_a_residual_is_taken_in() -> None:
    for order in (1, -1):
        graph, x, weights = start()
        model = rewritten(graph, graph.node("Add", *(graph.conv(x, weights), x)[::order]))
        assert operators(model) == {"Conv3x3": 1}
        assert inputs_of(model)[RESIDUAL] == x


def test_a_residual_that_is_computed_after_the_convolution_is_taken_in() -> None:
    graph, x, weights = start()
    convolved = graph.conv(x, weights)
    model = rewritten(graph, graph.node("Add", convolved, graph.node("Relu", x)))
    assert operators(model) == {"Conv3x3": 1, "Relu": 1}


def test_a_convolution_that_is_read_twice_keeps_its_add() -> None:
    graph, x, weights = start()
    convolved = graph.conv(x, weights)
    model = rewritten(
        graph, graph.node("Add", graph.node("Add", convolved, x), graph.node("Relu", convolved))
    )
    assert operators(model) == {"Conv3x3": 1, "Add": 2, "Relu": 1}


def test_a_convolution_that_is_added_to_itself_keeps_its_add() -> None:
    graph, x, weights = start()
    convolved = graph.conv(x, weights)
    assert operators(rewritten(graph, graph.node("Add", convolved, convolved))) == {"Conv3x3": 1, "Add": 1}


def test_a_convolution_that_is_an_output_keeps_its_add() -> None:
    graph, x, weights = start()
    convolved = graph.conv(x, weights)
    assert operators(rewritten(graph, convolved, graph.node("Add", convolved, x))) == {"Conv3x3": 1, "Add": 1}


def test_what_is_added_to_every_pixel_is_no_residual() -> None:
    for shape in ((1, CHANNELS, 1, 1), (1, 1, *SIZE), (SIZE[1],), ()):
        graph, x, weights = start()
        addend = graph.constant(graph.rng.standard_normal(shape))
        model = rewritten(graph, graph.node("Add", graph.conv(x, weights), addend))
        assert operators(model) == {"Conv3x3": 1, "Add": 1}, shape


def test_what_is_added_is_no_residual_where_shapes_are_not_known() -> None:
    for addend in ("constant", "computed"):
        graph, x, weights = start()
        number = graph.constant(0.5)
        other = number if addend == "constant" else graph.node("Neg", number)
        convolved = graph.conv(x, weights)
        rewritten(graph, graph.node("Relu", graph.node("Add", convolved, other)), shapes=False)


def test_of_two_convolutions_that_are_added_one_takes_in_the_other() -> None:
    graph, x, weights = start()
    first, second = graph.conv(x, weights), graph.conv(x, graph.weights(CHANNELS, CHANNELS, 3, 3))
    model = rewritten(graph, graph.node("Add", first, second))
    assert operators(model)["Conv3x3"] == 2
    assert operators(model)["Conv"] == 0


# What stands in front.


def test_gain_shift_and_silu_are_taken_in_whatever_the_order_of_their_operands() -> None:
    for order in (1, -1):
        graph, x, weights = start()
        gain, shift = modulation(graph)
        z = graph.node("Add", *(graph.node("Mul", *(x, gain)[::order]), shift)[::order])
        silu = graph.node("Mul", *(z, graph.node("Sigmoid", z))[::order])
        model = rewritten(graph, graph.conv(silu, weights))
        assert operators(model) == {"Conv3x3": 1}
        assert inputs_of(model) == [x, weights, "", "", gain, shift]


def test_everything_at_once_becomes_two_nodes() -> None:
    graph, x, weights = start()
    gain, shift = modulation(graph)
    ones, zeros = np.ones(4), np.zeros(4)
    normed = graph.instance_norm(x, CHANNELS, SIZE, ones, zeros)
    convolved = graph.conv(graph.modulated(normed, gain, shift), weights, graph.weights(CHANNELS))
    model = rewritten(graph, graph.node("Add", x, convolved))
    assert operators(model) == {"NormAffine": 1, "Conv3x3": 1}
    (norm,) = native_nodes(model, "NormAffine")
    assert list(norm.input) == [x, gain, shift]
    found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in norm.attribute}
    assert found == {"groups": 4, "epsilon": pytest.approx(1e-5)}
    taken = inputs_of(model)
    assert (taken[X], taken[RESIDUAL]) == (x, x)
    assert taken[GAIN:] == list(norm.output)


def test_a_norm_of_means_becomes_one_node() -> None:
    graph, x, weights = start()
    gain, shift = modulation(graph)
    z = graph.mean_norm(x, gain, shift, CHANNELS, 2)
    model = rewritten(graph, graph.conv(graph.silu(z), weights))
    assert operators(model) == {"Reshape": 2, "NormAffine": 1, "Conv3x3": 1}  # of gain and shift
    (norm,) = native_nodes(model, "NormAffine")
    assert {attribute.name: attribute.i for attribute in norm.attribute}["groups"] == 2


def test_a_norm_with_a_scale_or_bias_of_its_own_stays() -> None:
    for scale, bias in ((2.0, 0.0), (1.0, 0.1)):
        graph, x, weights = start()
        gain, shift = modulation(graph)
        normed = graph.instance_norm(x, CHANNELS, SIZE, np.full(4, scale), np.full(4, bias))
        model = rewritten(graph, graph.conv(graph.modulated(normed, gain, shift), weights))
        assert operators(model) == {"Reshape": 2, "InstanceNormalization": 1, "Conv3x3": 1}
        assert inputs_of(model)[GAIN:] == [gain, shift]


def test_a_silu_of_which_a_convolution_is_only_one_reader_stays_for_the_others() -> None:
    graph, x, weights = start()
    gain, shift = modulation(graph)
    silu = graph.modulated(x, gain, shift)
    small = graph.conv(silu, graph.weights(LEAST_CHANNELS - 1, CHANNELS, 3, 3))
    model = rewritten(graph, graph.conv(silu, weights), small)
    assert operators(model) == {"Mul": 2, "Add": 1, "Sigmoid": 1, "Conv": 1, "Conv3x3": 1}


def test_a_silu_that_is_an_output_stays() -> None:
    graph, x, weights = start()
    gain, shift = modulation(graph)
    silu = graph.modulated(x, gain, shift)
    model = rewritten(graph, silu, graph.conv(silu, weights))
    assert operators(model) == {"Mul": 2, "Add": 1, "Sigmoid": 1, "Conv3x3": 1}


def test_a_norm_that_two_convolutions_read_is_computed_once() -> None:
    """The first takes in a residual that comes late; the second reads the same norm before it."""
    graph, x, weights = start()
    gain, shift = modulation(graph)
    silu = graph.modulated(graph.instance_norm(x, CHANNELS, SIZE, np.ones(2), np.zeros(2)), gain, shift)
    first = graph.conv(silu, weights)
    second = graph.node("Relu", graph.conv(silu, graph.weights(CHANNELS, CHANNELS, 3, 3)))
    model = rewritten(graph, graph.node("Add", first, second))
    assert operators(model) == {"NormAffine": 1, "Conv3x3": 2, "Relu": 1}


def test_norms_of_one_map_with_one_gain_and_two_shifts_are_two() -> None:
    graph, x, weights = start()
    gain, shift = modulation(graph)
    other = graph.input("other", 1, CHANNELS, 1, 1)
    normed = graph.instance_norm(x, CHANNELS, SIZE, np.ones(2), np.zeros(2))
    outputs = [graph.conv(graph.modulated(normed, gain, addend), weights) for addend in (shift, other)]
    assert operators(rewritten(graph, *outputs)) == {"NormAffine": 2, "Conv3x3": 2}


def test_what_acts_on_columns_is_no_gain_or_shift_of_channels() -> None:
    """As many columns as channels: a vector without axes behind it belongs to the columns."""
    for wrong in ("gain", "shift"):
        graph, x, weights = start(size=(12, CHANNELS))
        shapes = {"gain": (1, CHANNELS, 1, 1), "shift": (1, CHANNELS, 1, 1)} | {wrong: (CHANNELS,)}
        gain, shift = (graph.input(name, *shape) for name, shape in shapes.items())
        model = rewritten(graph, graph.conv(graph.modulated(x, gain, shift), weights))
        assert inputs_of(model)[GAIN:] == ["", ""]


def test_a_gate_of_another_tensor_is_no_silu() -> None:
    graph, x, weights = start()
    gain, shift = modulation(graph)
    z = graph.node("Add", graph.node("Mul", x, gain), shift)
    model = rewritten(graph, graph.conv(graph.node("Mul", z, graph.node("Sigmoid", x)), weights))
    assert inputs_of(model)[GAIN:] == ["", ""]


# What else a file may hold.


def test_nodes_of_every_kind_survive_the_rewriting() -> None:
    """Strings, tensors and lists in attributes, and whatever else the rewriter has no name for."""
    graph, x, weights = start()
    y = graph.node(
        "Pad", graph.conv(x, weights), graph.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), mode="reflect"
    )
    tensor = onnx.numpy_helper.from_array(np.array([3.0], np.float32))
    y = graph.node("Add", y, graph.node("Constant", value=tensor))
    y = graph.node("Add", y, graph.node("Constant", value_floats=[4.0]))
    y = graph.node("Resize", y, "", graph.constant([1, 1, 2, 2]), mode="nearest", nearest_mode="floor")
    plain = onnx.load_from_string(graph.model(y))
    model = onnx.load_from_string(rewritten(graph, y))
    others = [node.SerializeToString() for node in plain.graph.node if node.op_type != "Conv"]
    assert [node.SerializeToString() for node in model.graph.node if node.domain != DOMAIN] == others
    for part in ("initializer", "input", "output", "value_info"):
        assert getattr(model.graph, part) == getattr(plain.graph, part), part


def test_a_graph_whose_shapes_are_known_in_part_is_rewritten_in_part() -> None:
    graph, x, weights = start()
    gain, shift = modulation(graph)
    silu = graph.modulated(x, gain, shift)
    y = graph.conv(silu, weights)
    model = onnx.load_from_string(graph.model(y))
    known = [value for value in model.graph.value_info if value.name == silu]
    del model.graph.value_info[:]
    model.graph.value_info.extend(known)
    plain = model.SerializeToString()
    again, replaced = rewrite(plain)
    assert replaced == 1
    np.testing.assert_allclose(compute(again, graph.inputs)[0], compute(plain, graph.inputs)[0], atol=1e-4)


def test_a_transpose_without_axes_is_no_stumbling_block() -> None:
    graph, x, weights = start()
    matrix = graph.input("matrix", 3, 5)
    product = graph.node("MatMul", matrix, graph.node("Transpose", matrix))
    assert operators(rewritten(graph, graph.conv(x, weights), product))["Transpose"] == 1


def test_what_a_branch_reads_survives_the_rewriting() -> None:
    """A branch of If reads tensors of the graph around it without naming them among its inputs."""
    graph, x, weights = start()
    convolved = graph.conv(x, weights)
    added = graph.node("Add", convolved, x)
    relu = graph.node("Relu", x)
    graph.inputs["choice"] = np.array(True)
    branches = {
        f"{branch}_branch": onnx.helper.make_graph(
            [onnx.helper.make_node("Neg", [read], [branch])],
            branch,
            [],
            [onnx.helper.make_tensor_value_info(branch, onnx.TensorProto.FLOAT, (1, CHANNELS, *SIZE))],
        )
        for branch, read in (("then", convolved), ("else", relu))
    }
    chosen = graph.node("If", "choice", **branches)
    for choice in (True, False):
        graph.inputs["choice"] = np.array(choice)
        rewritten(graph, added, chosen)


def test_small_constants_in_a_file_beside_the_graph_are_not_taken_for_granted(tmp_path: Path) -> None:
    """A norm's scale that lies elsewhere may be any; without looking there it must stay."""
    graph, x, weights = start()
    gain, shift = modulation(graph)
    normed = graph.instance_norm(x, CHANNELS, SIZE, np.full(4, 2.0), np.zeros(4))
    plain = graph.model(graph.conv(graph.modulated(normed, gain, shift), weights))
    path = tmp_path / "beside.onnx"
    onnx.save_model(
        onnx.load_from_string(plain),
        path,
        save_as_external_data=True,
        location="beside.data",
        size_threshold=8,
    )
    assert (tmp_path / "beside.data").is_file()
    model, replaced = rewrite(path.read_bytes())
    assert replaced == 1
    again = tmp_path / "again.onnx"
    again.write_bytes(model)
    whole = onnx.load(again).SerializeToString()
    np.testing.assert_allclose(compute(whole, graph.inputs)[0], compute(plain, graph.inputs)[0], atol=1e-4)


# Attention.


def attention(graph: SmallGraph, qkv: str, heads: int, channels: int, positions: int, axis: int = -1) -> str:
    """softmax(q^T k) applied to v, as the exporter writes it."""
    names = [f"{part}{len(graph.nodes)}" for part in "qkv"]
    graph.nodes.append(onnx.helper.make_node("Split", [qkv], names, axis=0, num_outputs=3))
    q, k, v = names
    scores = graph.node("MatMul", graph.node("Transpose", q, perm=[0, 1, 3, 2]), k)
    weights = graph.node("Softmax", scores, axis=axis)
    return graph.node("MatMul", v, graph.node("Transpose", weights, perm=[0, 1, 3, 2]))


@pytest.mark.parametrize(
    ("channels", "axis", "count"), [(8, -1, 1), (8, 3, 1), (8, 2, 0), (16, -1, 0), (4, -1, 0)]
)
def test_attention_with_heads_of_eight_channels_is_one_node(channels: int, axis: int, count: int) -> None:
    graph = SmallGraph()
    qkv = graph.input("qkv", 3, 2, channels, 35)
    model = rewritten(graph, attention(graph, qkv, 2, channels, 35, axis))
    assert operators(model)["Attention"] == count
    assert operators(model)["MatMul"] == 2 * (1 - count)


def test_attention_of_which_the_weights_are_an_output_keeps_them() -> None:
    graph = SmallGraph()
    qkv = graph.input("qkv", 3, 2, 8, 35)
    y = attention(graph, qkv, 2, 8, 35)
    (softmax,) = [node.output[0] for node in graph.nodes if node.op_type == "Softmax"]
    assert operators(rewritten(graph, y, softmax))["Softmax"] == 1


# The world in the package.


class PlainGraph:
    """A graph as it was exported, and questions about it that the rewriter does not answer."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(path)
        self.nodes = list(self.model.graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output}
        values = (*self.model.graph.input, *self.model.graph.value_info, *self.model.graph.output)
        self.shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
        self.weights = {tensor.name: list(tensor.dims) for tensor in self.model.graph.initializer}

    def large_convolutions(self) -> list[Any]:
        """3x3, stride 1, channels each way and tiles of 4x4 enough."""
        found = []
        for node in self.nodes:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type != "Conv" or attributes["strides"] != [1, 1] or attributes["group"] != 1:
                continue
            K, C, *kernel = self.weights[node.input[1]]
            _, _, H, W = self.shapes[node.input[0]]
            tiles = -(-H // 4) * -(-W // 4)
            if kernel == [3, 3] and min(K, C) >= LEAST_CHANNELS and tiles >= LEAST_TILES:
                found.append(node)
        return found

    def is_silu(self, name: str) -> bool:
        node = self.maker.get(name)
        gates = [self.maker.get(gate) for gate in node.input] if node and node.op_type == "Mul" else []
        return any(gate is not None and gate.op_type == "Sigmoid" for gate in gates)


@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_in_the_embedded_world_every_large_convolution_is_ours(role: str) -> None:
    path = resolve("freedoom") / "fp32" / f"{role}.onnx"
    graph = PlainGraph(path)
    large = {node.input[1]: node for node in graph.large_convolutions()}  # by their weights
    assert len(large) >= 10
    model, replaced = rewrite(path.read_bytes())
    ours = {node.input[1]: node for node in native_nodes(model, "Conv3x3")}
    assert ours.keys() == large.keys()
    assert replaced == operators(model)["Conv3x3"] + operators(model)["Attention"]
    behind_silu = [name for name, node in large.items() if graph.is_silu(node.input[0])]
    assert behind_silu
    assert not [name for name in behind_silu if len(ours[name].input) < 6 or not ours[name].input[GAIN]]
    assert not [name for name, node in large.items() if len(node.input) > 2 and not ours[name].input[BIAS]]
    # What is left of the norms feeds something else as well.
    left = onnx.load_from_string(model).graph
    readers: dict[str, list[Any]] = {}
    for node in left.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in left.output}
    unread = [
        name for node in left.node for name in node.output if name and name not in readers.keys() | outputs
    ]
    assert len(unread) == len([name for name in unread if "split" in name]), unread
    for norm in (node for node in left.node if node.op_type == "InstanceNormalization"):
        fed = reached(norm.output[0], readers)
        assert fed != {"Conv3x3"}, f"{norm.output[0]} only feeds ours"


def reached(name: str, readers: dict[str, list[Any]]) -> set[str]:
    """The operators at which what a norm gives ends: past reshapes, modulation and SiLU."""
    ends = set()
    for node in readers.get(name, []):
        if node.op_type in ("Reshape", "Mul", "Add", "Sigmoid"):
            ends |= reached(node.output[0], readers)
        else:
            ends.add(node.op_type)
    return ends


@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_in_the_embedded_world_the_network_computes_what_it_did(
    role: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is quantised, at every noise level of the parity gate; and hardly further from float64."""
    pytest.importorskip("torch", reason="the exporter's evaluations, and those in float64, need PyTorch")
    from export.playing import evaluate
    from tests.engine.native.in_float64 import Float64Backend

    bundle = Bundle.open(resolve("freedoom"))

    def evaluations(backend: Backend) -> list[Any]:
        return [row.raw for row in evaluate(bundle, "fp32", role, backend, tmp_path)]

    backend = OrtBackend(threads=2)
    ours = evaluations(backend)
    assert "native" in backend.describe()
    monkeypatch.setenv(native.SWITCH, "off")
    plain, exact = evaluations(OrtBackend(threads=2)), evaluations(Float64Backend())
    for name, got, reference, bound in (
        ("native operators to plain graph", ours, plain, 3e-5),
        ("native operators to float64", ours, exact, 2.5e-5),  # sums over 96 channels, Winograd
        ("plain graph to float64", plain, exact, 1e-5),
    ):
        error = np.abs(np.array(got) - np.array(reference))
        print(f"{role}: {name}: max {error.max():.1e}, mean {error.mean():.1e}")
        assert 0 < error.max() <= bound, name
