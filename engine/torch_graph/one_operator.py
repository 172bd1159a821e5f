"""One ONNX operator on its way into a PyTorch graph: what it reads, as `engine.torch_graph.operators` asks for it.

Whatever an operator asks for in vain is an error that names the file, the node and the operator. Beside every node of
the new graph goes an empty tensor of its shape and type, computed by PyTorch itself: so a mistake shows at the node
that makes it, and forms that depend on shapes can be chosen.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import DiamondError
from engine.graphs import GraphSpec
from engine.torch_graph.reader import Attribute, OnnxNode

_FIX = "play with --backend ort, or export the world again with diamond-export"


class Operator:
    """An operator and its surroundings.

    Args:
        torch: the module.
        spec: the graph that it belongs to.
        node: as read.
        tensor_named: gives the node of the new graph for a tensor's name.
        constants: numbers by name.
        emit: adds a call to the new graph; gives its node.
        like: gives an empty tensor with shape and type of a node.

    Attributes:
        torch: the module.
    """

    def __init__(
        self,
        torch: Any,
        spec: GraphSpec,
        node: OnnxNode,
        tensor_named: Callable[[str], Any],
        constants: Mapping[str, npt.NDArray[Any]],
        emit: Callable[..., Any],
        like: Callable[[Any], Any],
    ) -> None:
        self.torch = torch
        self._spec, self._node = spec, node
        self._tensor_named, self._constants = tensor_named, constants
        self._emit, self._like = emit, like
        self._asked: set[str] = set()

    @property
    def node(self) -> OnnxNode:
        """As read."""
        return self._node

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Adds a call to the graph."""
        try:
            return self._emit(function, *arguments, **named)
        except DiamondError:
            raise
        except Exception as error:  # whatever PyTorch says of shapes and types that do not go together
            raise self.fail(f"PyTorch refuses it: {error}") from error

    def tensor(self, index: int) -> Any:
        """An input as a node of the new graph."""
        if not self.has(index):
            raise self.fail(f"input {index} is missing")
        return self._tensor_named(self._node.inputs[index])

    def tensors(self) -> list[Any]:
        """All inputs."""
        return [self.tensor(index) for index in range(len(self._node.inputs))]

    def has(self, index: int) -> bool:
        """Whether there is such an input."""
        return index < len(self._node.inputs) and bool(self._node.inputs[index])

    def optional(self, index: int) -> Any | None:
        """An input that may be left out."""
        return self.tensor(index) if self.has(index) else None

    def shape(self, value: Any) -> tuple[int, ...]:
        """Of a node of the new graph. Free axes have the example's length here: nothing may come to depend on them."""
        return tuple(self._like(value).shape)

    def ints(self, index: int) -> tuple[int, ...]:
        """An input that is a list of whole numbers, known now."""
        return tuple(int(number) for number in self._constant(index).ravel())

    def number(self, index: int) -> float:
        """An input that is one number, known now."""
        array = self._constant(index)
        if array.size != 1:
            raise self.fail(f"input {index} has {array.size} numbers", "one")
        return float(array.ravel()[0].astype(np.float64))

    def numbers(self, index: int) -> tuple[float, ...]:
        """An input that is a list of numbers, known now."""
        return tuple(float(number) for number in self._constant(index).ravel().astype(np.float64))

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute of the default's type."""
        self._asked.add(name)
        return self._node.attributes.get(name, default)

    def require(self, name: str, *allowed: Attribute) -> None:
        """Takes note of an attribute that must have one of these values, the first of which is the default."""
        value = self.attribute(name, allowed[0])
        if value not in allowed:
            raise self.fail(f"attribute {name} is {value!r}", " or ".join(repr(choice) for choice in allowed))

    def ignore(self, *names: str) -> None:
        """Attributes that change nothing, others being as they are."""
        self._asked.update(names)

    def finish(self) -> None:
        """Complains about an attribute that nobody has asked for."""
        for name in self._node.attributes.keys() - self._asked:
            raise self.fail(f"attribute {name} is not understood")

    def fail(self, what: str, expected: str = "") -> DiamondError:
        """An error that says where."""
        node = self._node
        where = f"node {node.name or ', '.join(node.outputs)!r}, operator {node.operator}"
        return DiamondError(
            f"{self._spec.path}: {where}: {what}", expected or "what the backend torch runs", _FIX
        )

    def _constant(self, index: int) -> npt.NDArray[Any]:
        if not self.has(index):
            raise self.fail(f"input {index} is missing")
        name = self._node.inputs[index]
        if name not in self._constants:
            raise self.fail(f"input {index} ({name}) is computed", "a number that stands in the file")
        return self._constants[name]
