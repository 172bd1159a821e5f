"""Small graphs made node by node, with the shape of every tensor beside it as the exporter writes them."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper, shape_inference

from engine import native

Array = npt.NDArray[Any]


class SmallGraph:
    """A graph that grows: every method adds a node and gives the name of its output.

    Attributes:
        inputs: what the graph is given, by name: arrays that a run takes.
        constants: its initializers.
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.inputs: dict[str, Array] = {}
        self.constants: dict[str, Array] = {}

    def input(self, name: str, *shape: int, dtype: type = np.float32) -> str:
        self.inputs[name] = self.rng.standard_normal(shape).astype(dtype)
        return name

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        name = f"number{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def weights(self, *shape: int, dtype: type = np.float32) -> str:
        return self.constant(self.rng.standard_normal(shape) / 10, dtype)

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def conv(self, x: str, weights: str, bias: str | None = None, **attributes: Any) -> str:
        """A 3x3 convolution, unless the attributes say otherwise."""
        inputs = [x, weights] if bias is None else [x, weights, bias]
        return self.node("Conv", *inputs, **({"pads": [1, 1, 1, 1]} | attributes))

    def silu(self, x: str) -> str:
        return self.node("Mul", x, self.node("Sigmoid", x))

    def modulated(self, x: str, gain: str, shift: str) -> str:
        """silu(x * gain + shift)"""
        return self.silu(self.node("Add", self.node("Mul", x, gain), shift))

    def instance_norm(self, x: str, channels: int, size: tuple[int, int], scale: Array, bias: Array) -> str:
        """Group norm as the exporter writes it for small maps; a group for each value of `scale`."""
        flat = self.node("Reshape", x, self.constant([1, len(scale), -1], np.int64))
        normed = self.node(
            "InstanceNormalization", flat, self.constant(scale), self.constant(bias), epsilon=1e-5
        )
        return self.node("Reshape", normed, self.constant([1, channels, *size], np.int64))

    def mean_norm(self, x: str, gain: str, shift: str, channels: int, groups: int) -> str:
        """x * a + b of a group norm, as the exporter writes it for large maps."""
        last, per_group = self.constant([-1], np.int64), [1, groups, channels // groups]
        shape, flat = self.constant([1, channels, 1, 1], np.int64), self.constant(per_group, np.int64)

        def mean(of: str) -> str:
            of = self.node("ReduceMean", of, last, keepdims=0)
            of = self.node("ReduceMean", of, last, keepdims=0)
            return self.node("ReduceMean", self.node("Reshape", of, flat), last, keepdims=1)

        first = mean(x)
        square = mean(self.node("Mul", x, x))
        variance = self.node(
            "Max", self.node("Sub", square, self.node("Mul", first, first)), self.constant(0.0)
        )
        root = self.node("Sqrt", self.node("Add", variance, self.constant(1e-5)))
        a = self.node("Mul", self.node("Reshape", gain, flat), self.node("Reciprocal", root))
        b = self.node("Sub", self.node("Reshape", shift, flat), self.node("Mul", first, a))
        scaled = self.node("Mul", x, self.node("Reshape", a, shape))
        return self.node("Add", scaled, self.node("Reshape", b, shape))

    def model(self, *outputs: str, shapes: bool = True) -> bytes:
        """The model, with all shapes or only those of inputs and outputs."""
        graph = helper.make_graph(
            self.nodes,
            "small",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
                for name, array in self.inputs.items()
            ],
            [helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        if not shapes:
            del model.graph.value_info[:]
        content: bytes = model.SerializeToString()
        return content


def compute(model: bytes, inputs: Mapping[str, Array]) -> list[Array]:
    """A model's outputs, native operators or not."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.register_custom_ops_library(str(native.LIBRARY))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs: list[Array] = session.run(None, dict(inputs))
    return outputs


def operators(model: bytes) -> Counter[str]:
    """How many nodes of each operator a model has."""
    return Counter(node.op_type for node in onnx.load_from_string(model).graph.node)


def native_nodes(model: bytes, operator: str) -> list[Any]:
    """Its native nodes of one operator."""
    return [node for node in onnx.load_from_string(model).graph.node if node.op_type == operator]
