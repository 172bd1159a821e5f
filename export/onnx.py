"""Graph definitions -> ONNX files: checked, the same bytes for the same weights, no trace of the machine.

Opset 20, because later ones write operators that runtimes lag behind with (GroupNormalization is slower in ONNX
Runtime, Attention is refused by TensorRT-RTX). Knows nothing of bundles.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch

from export.graphs import GraphDefinition

OPSET = 20
EXTERNAL_ABOVE_BYTES = 1_500_000_000  # protobuf ends at 2 GiB
EXTERNAL_TENSOR_BYTES = 4096  # smaller ones stay inside: shape inference reads the sizes of Split and Slice
EVALUATIONS = "evaluations"  # name of the free dimension


def export_graph(
    definition: GraphDefinition, path: Path, external_above_bytes: int = EXTERNAL_ABOVE_BYTES
) -> list[Path]:
    """Writes the graph to `path` (and large weights beside it, `path` + ".data"); returns the files written."""
    dynamic = tuple(
        {0: torch.export.Dim.DYNAMIC} if name in definition.dynamic else None for name in definition.inputs
    )
    with _quiet_exporter():
        program = torch.onnx.export(
            definition.module.eval(),
            tuple(definition.inputs.values()),
            input_names=list(definition.inputs),
            output_names=[definition.output, *definition.internal],
            dynamic_shapes=dynamic,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _keep_internal(model, definition.internal)
    _name_free_dimension(model)
    _remove_traces(model)
    onnx.checker.check_model(model, full_check=True)
    return _save(model, path, external_above_bytes)


def tensor_specs(path: Path) -> tuple[dict[str, dict[str, object]], dict[str, dict[str, object]]]:
    """Inputs and outputs of an ONNX file as plain data: name -> dtype and shape, None where a size is free."""
    graph = onnx.load(path, load_external_data=False).graph
    return _specs(graph.input), _specs(graph.output)


def expose(path: Path, names: tuple[str, ...], copy: Path) -> None:
    """Writes a copy of the graph in which the tensors called `names`, found inside, are outputs as well."""
    model = onnx.load(path)
    inside = {value.name: value for value in model.graph.value_info}
    model.graph.output.extend(inside[name] for name in names)
    _save(model, copy, EXTERNAL_ABOVE_BYTES)


def _keep_internal(model: onnx.ModelProto, names: tuple[str, ...]) -> None:
    """Takes the tensors called `names` out of the outputs; inside the graph they keep their names."""
    outputs = model.graph.output
    for value in [value for value in outputs if value.name in names]:
        outputs.remove(value)
        model.graph.value_info.append(value)


def _name_free_dimension(model: onnx.ModelProto) -> None:
    """One name for the number of evaluations, in place of the exporter's own (s0, u7, ...)."""
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = EVALUATIONS


def _remove_traces(model: onnx.ModelProto) -> None:
    """Drops what names files of this machine (the exporter notes the Python line behind every node)."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    model.graph.name = "graph"
    for item in [
        *model.graph.node,
        *model.graph.initializer,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
    ]:
        item.doc_string = ""
        del item.metadata_props[:]


def _save(model: onnx.ModelProto, path: Path, external_above_bytes: int) -> list[Path]:
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


def _specs(values: list[onnx.ValueInfoProto]) -> dict[str, dict[str, object]]:
    def spec(value: onnx.ValueInfoProto) -> dict[str, object]:
        tensor = value.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        return {"dtype": str(dtype), "shape": shape}

    return {value.name: spec(value) for value in values}


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keeps the exporter's notes about optional packages and its own deprecations off the user's screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
