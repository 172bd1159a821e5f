"""Whole graphs as modules: norms and SiLU in one piece where they are what they look like; misfits are named."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to compare with")

from onnx import helper  # noqa: E402

from engine.backends import open_backend  # noqa: E402
from engine.bundle import Bundle  # noqa: E402
from engine.catalog import embedded  # noqa: E402
from engine.errors import DiamondError  # noqa: E402
from engine.graphs import GraphSpec, TensorSpec  # noqa: E402
from engine.torch_graph.convert import graph_module  # noqa: E402
from tests.engine.torch_graph.small_graphs import onnx, random_inputs, write  # noqa: E402

C, H, W, GROUPS, EPS = 6, 4, 5, 3, 1e-3


def calls(module: Any) -> Counter[str]:
    return Counter(node.target.__name__ for node in module.graph.nodes if node.op == "call_function")


def computed(spec: GraphSpec, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with torch.inference_mode():
        (result,) = graph_module(spec)(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    return result.numpy()


def by_onnx_runtime(spec: GraphSpec, inputs: dict[str, np.ndarray]) -> np.ndarray:
    (result,) = open_backend("ort", threads=1).load(spec).run(inputs).values()
    return result


class Writer:
    """Nodes one after the other, named by themselves."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, values: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values)
        return name

    def reshape(self, x: str, *shape: int) -> str:
        return self("Reshape", x, self.constant(np.array(shape)), allowzero=1)

    def mean(self, x: str, keepdims: int = 0) -> str:
        return self("ReduceMean", x, self.constant(np.array([-1])), keepdims=keepdims)


def small_norm(write_node: Writer, one: float = 1.0, groups: int = GROUPS) -> str:
    scale = [write_node.constant(np.full(groups, value, np.float32)) for value in (one, 0)]
    normed = write_node("InstanceNormalization", write_node.reshape("x", 1, groups, -1), *scale, epsilon=EPS)
    scaled = write_node("Mul", write_node.reshape(normed, 1, C, H, W), "gain")
    return write_node("Add", scaled, "shift")


def large_norm(write_node: Writer, floor: float = 0.0) -> str:
    def mean(x: str) -> str:
        rows = write_node.mean(write_node.mean(x))
        return write_node.mean(write_node.reshape(rows, 1, GROUPS, C // GROUPS), keepdims=1)

    mean_x = mean("x")
    square = mean(write_node("Mul", "x", "x"))
    variance = write_node("Sub", square, write_node("Mul", mean_x, mean_x))
    above = write_node("Max", variance, write_node.constant(np.float32(floor)))
    above = write_node("Add", above, write_node.constant(np.float32(EPS)))
    scale = write_node("Reciprocal", write_node("Sqrt", above))
    a = write_node("Mul", write_node.reshape("gain", 1, GROUPS, C // GROUPS), scale)
    shift = write_node.reshape("shift", 1, GROUPS, C // GROUPS)
    b = write_node("Sub", shift, write_node("Mul", mean_x, a))
    scaled = write_node("Mul", "x", write_node.reshape(a, 1, C, 1, 1))
    return write_node("Add", scaled, write_node.reshape(b, 1, C, 1, 1))


def norm_graph(path: Path, form: Any, gain: tuple[int, ...] = (1, C, 1, 1), **settings: Any) -> GraphSpec:
    write_node = Writer()
    y = form(write_node, **settings)
    write_node.nodes[-1].output[0] = "y"
    assert y != "y"
    inputs = {"x": (1, C, H, W), "gain": gain, "shift": (1, C, 1, 1)}
    return write(path, write_node.nodes, inputs, {"y": (1, C, H, W)}, write_node.constants)


@pytest.mark.parametrize("form", [small_norm, large_norm])
def test_a_norm_is_one_call_and_computes_the_same(tmp_path: Path, form: Any) -> None:
    spec = norm_graph(tmp_path / "norm.onnx", form)
    assert calls(graph_module(spec)) == {"group_norm": 1, "reshape": 2}
    inputs = random_inputs(spec)
    np.testing.assert_allclose(computed(spec, inputs), by_onnx_runtime(spec, inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("form", "settings"),
    [
        pytest.param(small_norm, {"one": 2.0}, id="a scale of two"),
        pytest.param(large_norm, {"floor": 0.1}, id="another floor of the variance"),
        pytest.param(small_norm, {"gain": (1, 1, 1, W)}, id="a gain a column"),
    ],
)
def test_what_only_looks_like_a_norm_stays_as_it_is(
    tmp_path: Path, form: Any, settings: dict[str, Any]
) -> None:
    spec = norm_graph(tmp_path / "norm.onnx", form, **settings)
    assert "group_norm" not in calls(graph_module(spec))
    inputs = random_inputs(spec)
    np.testing.assert_allclose(computed(spec, inputs), by_onnx_runtime(spec, inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("factor", "fused"), [("x", True), ("other", False)])
def test_silu_is_one_call_where_it_is_one(tmp_path: Path, factor: str, fused: bool) -> None:
    nodes = [helper.make_node("Sigmoid", ["x"], ["gate"]), helper.make_node("Mul", ["gate", factor], ["y"])]
    spec = write(tmp_path / "silu.onnx", nodes, {"x": (2, 3), "other": (2, 3)}, {"y": (2, 3)})
    assert calls(graph_module(spec)) == ({"silu": 1} if fused else {"sigmoid": 1, "mul": 1})
    inputs = random_inputs(spec)
    np.testing.assert_allclose(computed(spec, inputs), by_onnx_runtime(spec, inputs), atol=1e-6)


def test_every_norm_and_silu_of_the_embedded_world_is_in_one_piece() -> None:
    bundle = Bundle.open(embedded("freedoom"), verify=False)
    for role in ("denoiser", "upsampler"):
        spec = bundle.graph("fp32", role)
        operators = Counter(node.op_type for node in onnx.load(spec.path).graph.node)
        found = calls(graph_module(spec))
        assert found["group_norm"] == operators["InstanceNormalization"] + operators["Sqrt"]
        assert found["silu"] == operators["Sigmoid"]
        assert not found.keys() & {"instance_norm", "mean", "sqrt", "sigmoid"}


def test_weights_of_convolutions_lie_channels_last(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(0, 1, (4, 3, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)]
    spec = write(tmp_path / "conv.onnx", nodes, {"x": (1, 3, 5, 6)}, {"y": (1, 4, 5, 6)}, {"w": weight})
    module = graph_module(spec)
    (kept,) = module.buffers()
    assert kept.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(kept.numpy(), weight)
    (y,) = module(torch.zeros(1, 3, 5, 6))
    assert y.is_contiguous(memory_format=torch.channels_last)


# Files that do not fit.


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    tensor = {"x": TensorSpec("float32", (2, 3))}
    with pytest.raises(DiamondError, match=r"bad\.onnx: (cannot be read as|holds no) .*ONNX graph"):
        graph_module(GraphSpec("denoiser", "fp32", path, tensor, tensor))


def test_other_tensors_than_world_json_lists_are_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"])]
    spec = write(tmp_path / "neg.onnx", nodes, {"x": (2, 3)}, {"y": (2, 3)})
    other = {"z": TensorSpec("float32", (2, 3))}
    with pytest.raises(DiamondError, match=r"inputs \['x'\](.|\n)*\['z'\]"):
        graph_module(GraphSpec("denoiser", "fp32", spec.path, other, spec.outputs))
    with pytest.raises(DiamondError, match=r"outputs \['y'\](.|\n)*\['z'\]"):
        graph_module(GraphSpec("denoiser", "fp32", spec.path, spec.inputs, other))
    wrong = {"y": TensorSpec("float32", (2, 4))}
    with pytest.raises(DiamondError, match=r"y is float32 \(2, 3\)(.|\n)*float32 \(2, 4\)"):
        graph_module(GraphSpec("denoiser", "fp32", spec.path, spec.inputs, wrong))


@pytest.mark.parametrize("opset", [13, 17])
def test_an_opset_that_nobody_tested_is_refused(tmp_path: Path, opset: int) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"])]
    spec = write(tmp_path / "neg.onnx", nodes, {"x": (2, 3)}, {"y": (2, 3)}, opset=opset)
    with pytest.raises(DiamondError, match=rf"is written in opset {opset}(.|\n)*18 to 24"):
        graph_module(spec)


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    spec = write(tmp_path / "big.onnx", nodes, {"x": (2, 3)}, {"y": (2, 2)}, {"w": weight})
    model = onnx.load(spec.path)
    onnx.save(model, spec.path, save_as_external_data=True, location="big.onnx.data", size_threshold=0)
    assert (tmp_path / "big.onnx.data").is_file()
    x = np.eye(2, 3, dtype=np.float32)
    np.testing.assert_array_equal(computed(spec, {"x": x}), x @ weight)
