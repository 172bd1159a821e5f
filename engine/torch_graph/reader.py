"""An ONNX file as PyTorch needs it: nodes with plain Python attributes, weights as tensors, constants as numbers.

Reads what `diamond-export` writes, large weights beside the file included. A bf16 weight keeps its bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import DiamondError
from engine.graphs import GraphSpec
from engine.torch_graph.bindings import onnx_library, torch_library

Attribute = int | float | str | tuple[int, ...]


@dataclass(frozen=True)
class OnnxNode:
    """One operator of a graph.

    Attributes:
        operator: such as "Conv". name: as in the file; may be empty.
        inputs: names of tensors, "" where an optional one is left out. outputs: names.
        attributes: by name.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True)
class OnnxGraph:
    """A graph that was read.

    Attributes:
        nodes: in an order in which they can be computed.
        constants: weights, shapes and other numbers by name: arrays; bfloat16 as ml_dtypes has it.
        inputs, outputs: names in the file's order.
        opset: version of the standard's operators.
    """

    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, npt.NDArray[Any]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int


def read_graph(spec: GraphSpec) -> OnnxGraph:
    """Reads a graph's file.

    Raises:
        DiamondError: it cannot be read, or is no ONNX graph.
    """
    onnx = onnx_library()
    try:
        model = onnx.load(str(spec.path))
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        nodes = tuple(_node(onnx, node) for node in model.graph.node)
    except DiamondError:
        raise
    except Exception as error:  # protobuf's, onnx's and the operating system's have no base class in common
        raise DiamondError(
            f"{spec.path}: cannot be read as an ONNX graph: {error or type(error).__name__}",
            "a graph that diamond-export wrote",
            "export the world again with diamond-export",
        ) from error
    if not model.graph.output:
        raise DiamondError(
            f"{spec.path}: holds no ONNX graph",
            "a graph that diamond-export wrote",
            "export the world again with diamond-export",
        )
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    return OnnxGraph(
        nodes,
        constants,
        tuple(value.name for value in model.graph.input if value.name not in constants),
        tuple(value.name for value in model.graph.output),
        opset,
    )


def tensor_of(array: npt.NDArray[Any]) -> Any:
    """A constant as a tensor of the same dtype, with memory of its own."""
    torch = torch_library()
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, copy=True))


def _node(onnx: Any, node: Any) -> OnnxNode:
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
    return OnnxNode(
        domain + node.op_type,
        node.name,
        tuple(node.input),
        tuple(node.output),
        {attribute.name: _plain(onnx.helper.get_attribute_value(attribute)) for attribute in node.attribute},
    )


def _plain(value: Any) -> Attribute:
    """Bytes as text, lists as tuples; anything else (a tensor, a graph) as text that no operator accepts."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, int | float | str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, int) for item in value):
        return tuple(value)
    return f"a value of type {type(value).__name__}"
