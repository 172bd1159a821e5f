"""Which convolutions to keep in fp32: the error of a network's prediction when one of them alone runs in 8 bits.

The error inside a layer says little: a large one deep in the network may vanish, a small one beside the output stays.
So the fp32 graph gets a quantised twin beside every convolution and a switch that lets one twin at a time through; one
session then measures them all. Errors of different layers are independent, so their squares add: the worst are kept
until the rest stay within a budget (measurements: benchmarks/NOTES.md). Knows ONNX and a runtime, no bundle.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Arrays = Mapping[str, npt.NDArray[np.float32]]
Run = Callable[[Mapping[str, npt.NDArray[np.generic]]], npt.NDArray[np.float32]]

SWITCH, NOBODY = "switch", -1


def add_twins(model: onnx.ModelProto, quantised: onnx.ModelProto, names: Sequence[str]) -> None:
    """Gives an fp32 model a further input, "switch": the position in `names` of the convolution that runs in 8 bits.

    Args:
        model: the fp32 graph; changed in place, its only output is then the raw one.
        quantised: the same graph with those convolutions quantised, see `export.quantise`.
    """
    graph = model.graph
    producer = {output: node for node in quantised.graph.node for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in quantised.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    twins = {node.name: node for node in quantised.graph.node if node.name in names}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(_copy(node))
        if node.name not in twins:
            continue
        (output,) = node.output
        nodes[-1].output[0] = f"{output}/plain"
        twin = twins[node.name]
        rounding = readers[twin.output[0]][0]
        parts = [*_before(twin, producer), twin, rounding, readers[rounding.output[0]][0]]
        renamed = {name: f"{name}/twin" for part in parts for name in part.output}
        for part in parts:
            copy = _copy(part)
            copy.name = f"{part.name}/twin"
            copy.input[:] = [renamed.get(name, name) for name in part.input]
            copy.output[:] = [renamed[name] for name in part.output]
            if part.op_type == "Identity":  # in the quantised graph, it may read what was rounded before
                copy.input[0] = node.input[0]
            nodes.append(copy)
        mine = f"{node.name}/position"
        graph.initializer.append(numpy_helper.from_array(np.array(names.index(node.name)), mine))
        nodes.append(helper.make_node("Equal", [SWITCH, mine], [f"{mine}/on"]))
        choice = [f"{mine}/on", renamed[parts[-1].output[0]], f"{output}/plain"]
        nodes.append(helper.make_node("Where", choice, [output]))
    del graph.node[:]
    graph.node.extend(nodes)
    present = {weight.name for weight in graph.initializer}
    graph.initializer.extend(weight for weight in quantised.graph.initializer if weight.name not in present)
    graph.input.append(helper.make_tensor_value_info(SWITCH, TensorProto.INT64, []))
    raw = next(value for value in graph.value_info if value.name == "raw")
    del graph.output[:]
    graph.output.append(raw)
    del graph.value_info[:]


def output_errors(run: Run, names: Sequence[str], samples: Sequence[Arrays]) -> dict[str, float]:
    """Error of the prediction, c_skip x + c_out raw, by convolution: root mean square, in grey levels."""

    def predictions(position: int) -> npt.NDArray[np.float32]:
        switch = {SWITCH: np.array(position, np.int64)}
        return np.stack([sample["coefficients"][2] * run({**sample, **switch}) for sample in samples])

    reference = predictions(NOBODY)
    return {
        name: 127.5 * math.sqrt(((predictions(position) - reference) ** 2).mean())
        for position, name in enumerate(names)
    }


def keep_worst(errors: Mapping[str, float], budget: float) -> list[str]:
    """The convolutions to keep, worst first: as few as leave the others within the budget."""
    kept: list[str] = []
    rest = sum(error**2 for error in errors.values())
    for name in sorted(errors, key=lambda name: -errors[name]):
        if rest <= budget**2:
            break
        kept.append(name)
        rest = sum(other**2 for known, other in errors.items() if known not in kept)
    return kept


def _before(node: onnx.NodeProto, producer: Mapping[str, onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """What lies between a quantised convolution and its fp32 input, and its weights' nodes; first ones first."""
    for name in node.input:
        if name in producer:
            if producer[name].op_type != "Identity":
                yield from _before(producer[name], producer)
            yield producer[name]


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
