"""A backend that evaluates networks in float64, in PyTorch: what rounding errors are measured against."""

from typing import ClassVar

import numpy as np
import torch

from engine.backends.base import Arrays, Backend, Graph
from engine.backends.ort import OrtBackend
from engine.graphs import GraphSpec
from engine.torch_graph.convert import graph_module


class Float64Graph(Graph):
    """A network; its inputs and outputs are float32 like everyone's."""

    def __init__(self, spec: GraphSpec) -> None:
        super().__init__(spec)
        self.module = graph_module(spec).double()

    def _run(self, inputs: Arrays) -> Arrays:
        with torch.no_grad():
            outputs = self.module(*(torch.from_numpy(inputs[name]).double() for name in self.spec.inputs))
        return {
            name: y.numpy().astype(np.float32) for name, y in zip(self.spec.outputs, outputs, strict=True)
        }

    def _close(self) -> None:
        pass


class Float64Backend(Backend):
    """Networks in float64. Conditioners are ONNX Runtime's, so that every backend's networks get the same inputs."""

    name: ClassVar[str] = "float64"
    precisions = ("fp32",)

    def __init__(self) -> None:
        super().__init__()
        self._conditioners = OrtBackend(threads=1)

    def describe(self) -> str:
        return "float64 in PyTorch"

    def _load(self, spec: GraphSpec) -> Graph:
        return self._conditioners.load(spec) if spec.role.endswith("conditioner") else Float64Graph(spec)
