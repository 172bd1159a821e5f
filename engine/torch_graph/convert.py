"""An ONNX graph becomes a PyTorch module, operator by operator: a `torch.fx` graph over the file's own weights.

Types stay those of the file, so precision is where the exporter put it. Weights of convolutions lie channels-last,
which makes every feature map lie so too.
"""

from typing import Any

from engine.errors import DiamondError
from engine.graphs import GraphSpec
from engine.torch_graph.bindings import torch_library
from engine.torch_graph.fusions import fuse
from engine.torch_graph.one_operator import Operator
from engine.torch_graph.operators import NEWEST_OPSET, OLDEST_OPSET, OPERATORS
from engine.torch_graph.reader import OnnxGraph, read_graph, tensor_of

EXAMPLE_ROWS = 3  # of free axes: above 1, lest an export take it for a constant
_FIX = "play with --backend ort, or export the world again with diamond-export"


def graph_module(spec: GraphSpec) -> Any:
    """A graph as a `torch.fx.GraphModule` on the CPU.

    Its arguments are the spec's inputs and its results the spec's outputs, both in the spec's order; the results are a
    tuple of float32 tensors.

    Raises:
        DiamondError: a file that cannot be read, other inputs and outputs than the spec's, or an operator or attribute
            that is not supported, naming node, operator and file.
    """
    graph = read_graph(spec)
    if not OLDEST_OPSET <= graph.opset <= NEWEST_OPSET:
        raise DiamondError(
            f"{spec.path}: is written in opset {graph.opset}", f"{OLDEST_OPSET} to {NEWEST_OPSET}", _FIX
        )
    for side, ours, theirs in (
        ("inputs", spec.inputs, graph.inputs),
        ("outputs", spec.outputs, graph.outputs),
    ):
        if set(ours) != set(theirs):
            raise DiamondError(f"{spec.path}: {spec}: {side} {sorted(theirs)}", f"{sorted(ours)}", _FIX)
    return _Converter(spec, graph).module()


def example_shape(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """A shape with every free axis filled in."""
    return tuple(EXAMPLE_ROWS if axis is None else axis for axis in shape)


class _Converter:
    """A module in the making."""

    def __init__(self, spec: GraphSpec, source: OnnxGraph) -> None:
        self._torch = torch_library()
        self._spec, self._source = spec, source
        self._root = self._torch.nn.Module()
        self._graph = self._torch.fx.Graph()
        self._nodes: dict[str, Any] = {}  # by the tensor's name
        self._like: dict[Any, Any] = {}  # an empty tensor for every node

    def module(self) -> Any:
        spec, torch = self._spec, self._torch
        for name, tensor in spec.inputs.items():
            node = self._graph.placeholder(name)
            self._nodes[name] = node
            shape, dtype = example_shape(tensor.shape), getattr(torch, tensor.dtype)
            self._like[node] = torch.empty(shape, dtype=dtype, device="meta")
        for onnx_node in self._source.nodes:
            convert = OPERATORS.get(onnx_node.operator)
            operator = Operator(
                torch, spec, onnx_node, self._tensor, self._source.constants, self._emit, self._like_of
            )
            if convert is None:
                raise operator.fail("this operator is not supported")
            results = convert(operator)
            operator.finish()
            results = results if isinstance(results, list) else [results]
            self._nodes |= dict(zip(onnx_node.outputs, results, strict=True))
        self._graph.output(tuple(self._tensor(name) for name in spec.outputs))
        self._check_outputs()
        fuse(self._root, self._graph, self._like)
        return torch.fx.GraphModule(self._root, self._graph).eval()

    def _tensor(self, name: str) -> Any:
        """The node that gives a tensor; weights get theirs when they are first asked for."""
        if name not in self._nodes:
            if name not in self._source.constants:
                raise DiamondError(f"{self._spec.path}: nothing computes the tensor {name!r}", "", _FIX)
            weight = tensor_of(self._source.constants[name])
            if weight.dim() == 4:
                weight = weight.contiguous(memory_format=self._torch.channels_last)
            attribute = f"weight{len(self._like)}"
            self._root.register_buffer(attribute, weight)
            node = self._nodes[name] = self._graph.get_attr(attribute)
            self._like[node] = self._torch.empty_like(weight, device="meta")
        return self._nodes[name]

    def _emit(self, function: Any, *arguments: Any, **named: Any) -> Any:
        empty = self._torch.fx.node.map_arg
        like = function(*empty(arguments, self._like_of), **empty(named, self._like_of))
        node = self._graph.call_function(function, arguments, named)
        self._like[node] = like
        return node

    def _like_of(self, node: Any) -> Any:
        return self._like[node]

    def _check_outputs(self) -> None:
        for name, expected in self._spec.outputs.items():
            like = self._like[self._tensor(name)]
            dtype, shape = str(like.dtype).removeprefix("torch."), tuple(like.shape)
            if (dtype, shape) != (expected.dtype, example_shape(expected.shape)):
                raise DiamondError(
                    f"{self._spec.path}: {self._spec}: {name} is {dtype} {shape}", str(expected), _FIX
                )
