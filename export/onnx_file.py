"""ONNX files: written whole, read for their tensors, copied with inner tensors as outputs. No PyTorch, no runtime.

Large weights go to a file of their own: protobuf ends at 2 GiB, and a runtime reads them with half the memory.
"""

import os
import shutil
from pathlib import Path

import onnx

from engine.graphs import GraphSpec, TensorSpec

EXTERNAL_ABOVE_BYTES = 100_000_000
EXTERNAL_TENSOR_BYTES = 4096  # smaller ones stay inside: shape inference reads the sizes of Split and Slice


def save(model: onnx.ModelProto, path: Path, external_above_bytes: int = EXTERNAL_ABOVE_BYTES) -> list[Path]:
    """Writes to `path`, and large weights beside it (`path` + ".data"); returns the files written.

    `model` is used up: weights that go beside the graph leave it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if model.ByteSize() <= external_above_bytes:
        path.write_bytes(model.SerializeToString(deterministic=True))
        return [path]
    data = path.with_name(path.name + ".data")
    onnx.save_model(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data.name,
        size_threshold=EXTERNAL_TENSOR_BYTES,
    )
    return [path, data]


def tensor_specs(path: Path) -> tuple[dict[str, dict[str, object]], dict[str, dict[str, object]]]:
    """Inputs and outputs of an ONNX file as plain data: name -> dtype and shape, None where a size is free."""
    graph = onnx.load(path, load_external_data=False).graph
    return _specs(graph.input), _specs(graph.output)


def expose(path: Path, names: tuple[str, ...], copy: Path) -> None:
    """Writes a copy of the graph in which the tensors called `names`, found inside, are outputs as well.

    Weights that lie beside the graph are linked beside the copy, or copied where that is not possible.
    """
    model = onnx.load(path, load_external_data=False)
    inside = {value.name: value for value in model.graph.value_info}
    model.graph.output.extend(inside[name] for name in names)
    copy.write_bytes(model.SerializeToString(deterministic=True))
    data = path.with_name(path.name + ".data")
    if data.is_file():
        try:
            os.link(data, copy.with_name(data.name))
        except OSError:
            shutil.copyfile(data, copy.with_name(data.name))


def spec_of(path: Path, role: str, precision: str = "fp32") -> GraphSpec:
    """An ONNX file as a graph to load, with the tensors that it says it has."""
    inputs, outputs = (
        {name: TensorSpec.from_json(spec, name) for name, spec in side.items()} for side in tensor_specs(path)
    )
    return GraphSpec(role, precision, path, inputs, outputs)


def _specs(values: list[onnx.ValueInfoProto]) -> dict[str, dict[str, object]]:
    def spec(value: onnx.ValueInfoProto) -> dict[str, object]:
        tensor = value.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        return {"dtype": str(dtype), "shape": shape}

    return {value.name: spec(value) for value in values}
