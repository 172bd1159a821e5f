"""What the networks read while their world is played, and the ranges that their convolutions' values take there.

The world plays from its own spawns, under the recorded actions, at each of its presets: the noise levels, histories
and frames of real use. Ranges are plain minimum and maximum (why: benchmarks/NOTES.md); only these two numbers
per tensor leave the graph, since a map of the published upsampler is 10 MB.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from engine.backends.base import Arrays, Graph
from engine.backends.ort import OrtBackend
from engine.bundle import Bundle
from engine.graphs import GraphSpec
from engine.world import World
from export.onnx_file import save, spec_of
from export.quantise import Ranges
from export.report import recorded_then_idle

SPAWNS, FRAMES, EVERY = (
    6,
    8,
    2,
)  # of each preset: spawns, frames played from each, and which of them are recorded
SEED = 1  # not the one that is verified with
EVALUATIONS = 48  # of each network: more are thinned out evenly

Inputs = dict[str, npt.NDArray[Any]]


def record_inputs(bundle: Bundle) -> dict[str, list[Inputs]]:
    """Plays the fp32 world and returns what each network was given, evenly spread over spawns, steps and presets."""
    recorder = _Recorder()
    inputs: dict[str, list[Inputs]] = {name: [] for name in bundle.manifest.noise}
    with World(bundle, recorder, "fp32", seed=SEED) as world:
        for preset in world.presets:
            world.set_preset(preset)
            for spawn in range(min(SPAWNS, world.spawn_count)):
                world.reset(spawn)
                actions = recorded_then_idle(bundle.spawn(spawn), world.action_space, FRAMES)
                for index, action in enumerate(actions):
                    recorder.clear()
                    world.step(action)
                    if index % EVERY == 0:
                        for name, calls in inputs.items():
                            calls += recorder.graphs[name].calls
    return {name: thinned(calls, EVALUATIONS) for name, calls in inputs.items()}


def thinned(items: Sequence[Inputs], count: int) -> list[Inputs]:
    """At most `count` of the items, evenly spread."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]


def measure_ranges(spec: GraphSpec, tensors: Sequence[str], inputs: Sequence[Inputs], folder: Path) -> Ranges:
    """Smallest and largest value of tensors inside an fp32 graph, over all inputs; `folder` is for a copy of it."""
    model = onnx.load(spec.path)
    del model.graph.output[:]
    measured = []
    for tensor in tensors:
        for operator in ("ReduceMin", "ReduceMax"):
            measured.append(f"{tensor}/{operator}")
            model.graph.node.append(helper.make_node(operator, [tensor], measured[-1:], keepdims=0))
            model.graph.output.append(helper.make_tensor_value_info(measured[-1], TensorProto.FLOAT, []))
    path = folder / "ranges" / spec.path.name
    save(model, path)
    del model
    backend = OrtBackend()
    try:
        graph = backend.load(spec_of(path, spec.role))
        rows = np.array([[found[name] for name in measured] for found in map(graph.run, inputs)])
    finally:
        backend.close()
        shutil.rmtree(path.parent)
    low, high = rows[:, 0::2].min(axis=0), rows[:, 1::2].max(axis=0)
    return {tensor: (float(low[i]), float(high[i])) for i, tensor in enumerate(tensors)}


class _Recorder(OrtBackend):
    """ONNX Runtime, with every graph's inputs kept until `clear`."""

    def __init__(self) -> None:
        super().__init__()
        self.graphs: dict[str, _Recorded] = {}

    def clear(self) -> None:
        for graph in self.graphs.values():
            graph.calls.clear()

    def _load(self, spec: GraphSpec) -> Graph:
        self.graphs[spec.role] = _Recorded(spec, super()._load(spec))
        return self.graphs[spec.role]


class _Recorded(Graph):
    def __init__(self, spec: GraphSpec, graph: Graph) -> None:
        super().__init__(spec)
        self.calls: list[Inputs] = []
        self._graph = graph

    def _run(self, inputs: Arrays) -> Arrays:
        self.calls.append({name: array.copy() for name, array in inputs.items()})
        return self._graph.run(inputs)

    def _close(self) -> None:
        self._graph.close()
