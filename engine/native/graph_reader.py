"""What a graph says of its tensors: who makes and reads them, their shapes and constants; and the small forms that
engine/native/rewrite.py looks for.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

FLOAT32, INT64 = 1, 7  # TensorProto.DataType


class GraphReader:
    """A graph that is only read. Names are of tensors.

    Args:
        graph: a GraphProto, as `engine.native.onnx_messages.parse` gives it.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.nodes: list[Any] = list(graph.node)
        self.maker = {output: node for node in self.nodes for output in node.output}
        given = {value.name for value in graph.input}  # in old files also defaults, which are no constants
        self.constants = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in given}
        self.outputs = {value.name for value in graph.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.shapes = {name: tuple(tensor.dims) for name, tensor in self.constants.items()}
        for value in (*graph.input, *graph.value_info, *graph.output):
            dims = value.type.tensor_type.shape.dim
            if value.type.tensor_type.elem_type == FLOAT32 and all(dim.dim_value > 0 for dim in dims):
                self.shapes[value.name] = tuple(dim.dim_value for dim in dims)

    def turned(self, name: str) -> str:
        """A tensor whose last two of four axes were exchanged; "" where they were not."""
        node = self.made(name, "Transpose")
        axes = [] if node is None else [tuple(a.ints) for a in node.attribute if a.name == "perm"]
        return str(node.input[0]) if axes == [(0, 1, 3, 2)] else ""

    def halves(self, name: str) -> tuple[str, str]:
        """The two maps whose channels a tensor puts one after the other; itself and "" where it does not."""
        node = self.made(name, "Concat")
        axis = [a.i for a in node.attribute if a.name == "axis"] if node is not None else []
        if node is None or axis != [1] or len(node.input) != 2:
            return name, ""
        first, more = node.input
        sizes = [self.shapes.get(part, ()) for part in (first, more)]
        whole = self.shapes.get(name, ())
        fits = [len(size) == 4 and (size[0], *size[2:]) == (whole[0], *whole[2:]) for size in sizes]
        return (first, more) if all(fits) else (name, "")

    def uncropped(self, name: str) -> tuple[str, int]:
        """The map of which a tensor is the upper rows, and how many are missing; itself and 0 where none are."""
        node = self.made(name, "Slice")
        source = node.input[0] if node is not None else ""
        whole, part = self.shapes.get(source, ()), self.shapes.get(name, ())
        if node is None or len(whole) != 4 or len(part) != 4 or (whole[:2], whole[3]) != (part[:2], part[3]):
            return name, 0
        given = [
            self.numbers(each) for each in node.input[1:]
        ]  # starts, ends, axes, steps; the shape says the ends
        if len(given) < 3 or any(each is None or each.size != 1 for each in given):
            return name, 0
        start, _, axis, step = (int(each[0]) for each in [*given, np.array([1])][:4])
        return (source, whole[2] - part[2]) if (start, axis, step) == (0, 2, 1) else (name, 0)

    def undoubled(self, name: str) -> str:
        """The map whose values a tensor has twice in both directions; "" where it is not of that kind."""
        node = self.made(name, "Resize")
        if node is None:
            return ""
        attributes = {a.name: a.s for a in node.attribute}
        small, large = self.shapes.get(node.input[0], ()), self.shapes.get(name, ())
        is_nearest = (attributes.get("mode", b"nearest"), attributes.get("nearest_mode")) == (
            b"nearest",
            b"floor",
        )
        is_even = attributes.get("coordinate_transformation_mode") == b"asymmetric"
        if not (
            is_nearest and is_even and len(small) == 4 and large == (*small[:2], 2 * small[2], 2 * small[3])
        ):
            return ""
        scales = self.numbers(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if scales is not None and scales.size and scales.tolist() != [1, 1, 2, 2]:
            return ""  # 2.01 may come to the same sides
        return str(node.input[0])

    def added_rows(self, node: Any) -> int:
        """How many rows of zeros a node adds at the bottom of a map; 0 where it is no such node."""
        if node.op_type != "Pad" or node.domain or len(node.input) != 2:
            return 0
        if any(a.name == "mode" and a.s != b"constant" for a in node.attribute):
            return 0
        pads = self.numbers(node.input[1])
        if pads is None or pads.size != 8 or min(pads) < 0 or pads.sum() != pads[6]:
            return 0
        return int(pads[6])

    def source_of_mean(self, name: str) -> str:
        """What a chain of means and reshapes is the mean of; "" where there is none."""
        node = self.maker.get(name)
        means = 0
        while node is not None and node.op_type in ("ReduceMean", "Reshape"):
            means += node.op_type == "ReduceMean"
            name = node.input[0]
            node = self.maker.get(name)
        return name if means == 3 else ""  # over columns, rows, and the channels of a group

    def is_variance(self, name: str, mean: str, x: str) -> bool:
        """Whether a tensor is the mean of x squared, less the squared mean."""
        difference = self.made(name, "Sub")
        if difference is None:
            return False
        squares = self.made(self.source_of_mean(difference.input[0]), "Mul")
        squared = self.made(difference.input[1], "Mul")
        return (
            squares is not None
            and list(squares.input) == [x, x]
            and squared is not None
            and list(squared.input) == [mean, mean]
        )

    def made(self, name: str, operator: str) -> Any:
        """The node that makes a tensor, if it is one of the standard's `operator`."""
        node = self.maker.get(name)
        return node if node is not None and node.op_type == operator and not node.domain else None

    def operands(self, name: str, operator: str) -> Iterator[tuple[str, str]]:
        """Both orders of the operands of the node that makes a tensor, if it is that operator."""
        node = self.made(name, operator)
        if node is not None:
            a, b = node.input
            yield a, b
            yield b, a

    def bare(self, name: str) -> str:
        """A tensor before it was reshaped."""
        node = self.made(name, "Reshape")
        return name if node is None else str(node.input[0])

    def is_of_channels(self, name: str, channels: int) -> bool:
        """Whether a tensor has a value for each channel of a map, and stands where a map's channels are."""
        return self.shapes.get(name) in ((1, channels, 1, 1), (channels, 1, 1))

    def count(self, name: str) -> int:
        """Elements of a tensor; 0 where its shape is not known."""
        shape = self.shapes.get(name)
        return int(np.prod(shape)) if shape else 0

    def numbers(self, name: str) -> Any:
        """A small constant as an array; None where there is none."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_type not in (FLOAT32, INT64):
            return None
        found = np.array(tensor.float_data if tensor.data_type == FLOAT32 else tensor.int64_data)
        if tensor.raw_data:
            found = np.frombuffer(tensor.raw_data, "<f4" if tensor.data_type == FLOAT32 else "<i8")
        return found if found.size == np.prod(tensor.dims) else None  # it lies in a file beside the graph
