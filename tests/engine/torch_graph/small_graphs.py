"""Small ONNX graphs for the tests of the backend torch: written to a file, with the spec that world.json would give."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.graphs import GraphSpec, TensorSpec

onnx = pytest.importorskip("onnx", reason="the graphs of these tests are made with onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT = TensorProto.FLOAT


def write(
    path: Path,
    nodes: Sequence[Any],
    inputs: Mapping[str, tuple[int | None, ...]],
    outputs: Mapping[str, tuple[int | None, ...]],
    constants: Mapping[str, Any] | None = None,
    opset: int = 20,
    precision: str = "fp32",
    role: str = "denoiser",
) -> GraphSpec:
    """Writes a graph of float32 inputs and outputs; constants are arrays, or tensors of ONNX."""
    weights = []
    for name, value in (constants or {}).items():
        if not hasattr(value, "raw_data"):
            value = numpy_helper.from_array(np.asarray(value), name)
        value.name = name
        weights.append(value)
    ports = [
        [
            helper.make_tensor_value_info(name, FLOAT, ["n" if axis is None else axis for axis in shape])
            for name, shape in side.items()
        ]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "small", *ports, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, path)
    specs = [
        {name: TensorSpec("float32", shape) for name, shape in side.items()} for side in (inputs, outputs)
    ]
    return GraphSpec(role, precision, path, *specs)


def one_node(
    path: Path,
    operator: str,
    inputs: Sequence[tuple[int, ...]] = ((2, 3),),
    constants: Sequence[Any] = (),
    attributes: Mapping[str, Any] | None = None,
    outputs: Sequence[tuple[int, ...]] = ((2, 3),),
    **more: Any,
) -> GraphSpec:
    """One operator: first the inputs, then the constants, None for one that is left out."""
    names = [f"x{index}" for index in range(len(inputs))]
    given = {f"c{index}": value for index, value in enumerate(constants) if value is not None}
    read = names + [f"c{index}" if value is not None else "" for index, value in enumerate(constants)]
    results = [f"y{index}" for index in range(len(outputs))]
    node = helper.make_node(operator, read, results, name="the_node", **(attributes or {}))
    return write(
        path,
        [node],
        dict(zip(names, inputs, strict=True)),
        dict(zip(results, outputs, strict=True)),
        given,
        **more,
    )


def product(path: Path, precision: str = "fp32", factor: float = 2.0) -> GraphSpec:
    """A conditioner with a free axis, quick to export: modulation = (c_noise, c_noise_cond) @ weight."""
    weight = (np.arange(12, dtype=np.float32).reshape(2, 6) - 4) * factor
    nodes = [
        helper.make_node("Unsqueeze", [name, "axes"], [f"{name}_column"])
        for name in ("c_noise", "c_noise_cond")
    ]
    nodes += [
        helper.make_node("Concat", ["c_noise_column", "c_noise_cond_column"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "weight"], ["modulation"]),
    ]
    constants = {"axes": np.array([1]), "weight": weight}
    if precision != "fp32":
        low = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[precision]
        constants["weight"] = helper.make_tensor("weight", low, weight.shape, weight.ravel())
        nodes[-1:] = [
            helper.make_node("Cast", ["both"], ["low"], to=low),
            helper.make_node("MatMul", ["low", "weight"], ["product"]),
            helper.make_node("Cast", ["product"], ["modulation"], to=FLOAT),
        ]
    return write(
        path,
        nodes,
        {"c_noise": (None,), "c_noise_cond": (None,)},
        {"modulation": (None, 6)},
        constants,
        precision=precision,
        role="upsampler_conditioner",
    )


def random_inputs(spec: GraphSpec, seed: int = 0) -> dict[str, np.ndarray]:
    """Normal numbers for every input; free axes have three."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, 1, [3 if axis is None else axis for axis in tensor.shape]).astype(np.float32)
        for name, tensor in spec.inputs.items()
    }
