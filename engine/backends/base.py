"""The seam between a world and whatever runs its graphs: load, run, close.

Validation, timing, warm-up and lifetime live here, once; a backend's file holds only what differs. Input
mistakes are found here by name, because runtimes report them in riddles or not at all.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.graphs import GraphSpec, Tensors, TensorSpec, check_tensors
from engine.noise import NoiseSource
from engine.runner import FrameRunner, Samplers

Arrays = Mapping[str, npt.NDArray[Any]]


class Graph(ABC):
    """One loaded graph.

    Attributes:
        spec: what was loaded.
        last_ms: how long the latest run took, in milliseconds.
    """

    def __init__(self, spec: GraphSpec) -> None:
        self.spec = spec
        self.last_ms = 0.0
        self._closed = False
        # By name, as numpy compares them in no time: this is done several times a frame.
        self._expected = {
            name: (np.dtype(tensor.dtype), tensor.shape) for name, tensor in spec.inputs.items()
        }

    def run(self, inputs: Arrays) -> Arrays:
        """Runs the graph.

        Args:
            inputs: exactly the arrays that the spec names, of its dtypes and shapes, C-contiguous.

        Returns:
            The outputs by name. They may be buffers that the next run overwrites: copy what must outlive it.

        Raises:
            DiamondError: inputs that do not fit, or a closed graph.
        """
        if self._closed:
            raise DiamondError(f"{self.spec}: closed", "an open graph", "load the world again")
        self._check(inputs)
        began = time.perf_counter()
        outputs = self._run(inputs)
        self.last_ms = (time.perf_counter() - began) * 1e3
        return outputs

    def close(self) -> None:
        """Frees what the graph holds; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._close()

    def _check(self, inputs: Arrays) -> None:
        if inputs.keys() != self.spec.inputs.keys():
            raise DiamondError(f"{self.spec}: inputs {sorted(inputs)}", f"{sorted(self.spec.inputs)}")
        for name, (dtype, shape) in self._expected.items():
            array = inputs[name]
            if array.dtype != dtype or not (
                array.shape == shape or self.spec.inputs[name].admits(array.dtype.name, array.shape)
            ):
                raise DiamondError(f"{self.spec}: {name} is {_spec_of(array)}", str(self.spec.inputs[name]))
            if not array.flags.c_contiguous:
                raise DiamondError(f"{self.spec}: {name} is not contiguous", "a C-contiguous array")

    @abstractmethod
    def _run(self, inputs: Arrays) -> Arrays: ...

    @abstractmethod
    def _close(self) -> None: ...


class Backend(ABC):
    """Something that loads graphs.

    Attributes:
        name: as in `--backend`.
        precisions: those it runs well on this machine, best first; a world's others run only when asked for.
        computes_from: precisions that it needs no graphs of, by which of the world's graphs it computes them from.
        why: how it came to be chosen, for people.
        last_resort: why `auto` takes any other that works rather than this one; empty where it does not.
    """

    name: ClassVar[str]
    precisions: tuple[str, ...]

    def __init__(self) -> None:
        self.computes_from: Mapping[str, str] = {}
        self.why = self.last_resort = ""
        self._graphs: list[Graph] = []
        self._closed = False

    def load(self, spec: GraphSpec) -> Graph:
        """Loads a graph, runs it once on zeros, and compares what comes out with the spec.

        The first run is the slowest (memory, kernels), so it happens before a player waits for it.

        Raises:
            DiamondError: the file cannot be loaded, or is not what the spec says.
        """
        if self._closed:
            raise DiamondError(f"backend {self.name}: closed", "an open backend", "open it again")
        graph = self._load(spec)
        self._graphs.append(graph)
        outputs = graph.run({name: _zeros(tensor) for name, tensor in spec.inputs.items()})
        for name, expected in spec.outputs.items():
            if name not in outputs or not expected.admits(outputs[name].dtype.name, outputs[name].shape):
                got = _spec_of(outputs[name]) if name in outputs else "missing"
                raise DiamondError(f"{spec.path}: {spec}: output {name} is {got}", str(expected), _FIX)
        return graph

    def spec(self, bundle: Bundle, precision: str, role: str) -> GraphSpec:
        """The graph that it loads to play in a precision.

        Raises:
            DiamondError: the world has no such graph.
        """
        source = self.source(bundle, precision)
        if source == precision:
            return bundle.graph(precision, role)
        return replace(bundle.graph(source, role), precision=precision, computed_from=source)

    def source(self, bundle: Bundle, precision: str) -> str:
        """Which precision's graphs it loads to play in a precision: the same, unless it computes that from others."""
        source = self.computes_from.get(precision, precision)
        return source if source in bundle.precisions else precision

    def probe(self) -> None:
        """Computes something small of which the result is known, to find out whether it works here.

        Raises:
            DiamondError: why it does not.
        """
        from engine.backends.probe import probe

        probe(self)

    def frame_runner(
        self, bundle: Bundle, precision: str, samplers: Samplers, noise: NoiseSource, cuda_graph: bool
    ) -> FrameRunner | None:
        """A runner that paints whole frames with this backend; None: the engine calls it graph by graph.

        Args:
            bundle, precision: which graphs. samplers: the settings to start with. noise: the random numbers.
            cuda_graph: capture a frame and replay it, rather than make its calls one by one.

        Raises:
            DiamondError: the graphs cannot be loaded, or the frame cannot be captured.
        """
        return None

    @abstractmethod
    def describe(self) -> str:
        """What really runs the graphs: runtime and version, device or provider, threads."""

    def close(self) -> None:
        """Closes every graph; closing twice is harmless."""
        self._closed = True
        while self._graphs:
            self._graphs.pop().close()

    @abstractmethod
    def _load(self, spec: GraphSpec) -> Graph: ...


_FIX = "export the world again with diamond-export"


def check_signature(spec: GraphSpec, inputs: Tensors, outputs: Tensors) -> None:
    """Compares what a runtime found in a file with what world.json says of it.

    Raises:
        DiamondError: at the first difference.
    """
    check_tensors(f"{spec.path}: {spec}: inputs", spec.inputs, inputs, _FIX)
    check_tensors(f"{spec.path}: {spec}: outputs", spec.outputs, outputs, _FIX)


def _spec_of(array: npt.NDArray[Any]) -> TensorSpec:
    return TensorSpec(array.dtype.name, array.shape)


def _zeros(spec: TensorSpec) -> npt.NDArray[Any]:
    return np.zeros([1 if axis is None else axis for axis in spec.shape], dtype=spec.dtype)
