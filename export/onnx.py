"""Graph definitions -> ONNX files: checked, the same bytes for the same weights, no trace of the machine.

Opset 20, because later ones write operators that runtimes lag behind with (GroupNormalization is slower in ONNX
Runtime, Attention is refused by TensorRT-RTX). Knows nothing of bundles.
"""

from pathlib import Path

import onnx
import onnx_ir
import torch

from engine.torch_graph.quiet import quiet_torch
from export.graphs import GraphDefinition
from export.onnx_file import EXTERNAL_ABOVE_BYTES, EXTERNAL_TENSOR_BYTES, expose, tensor_specs

__all__ = ["export_graph", "expose", "tensor_specs"]

OPSET = 20
EVALUATIONS = "evaluations"  # name of the free dimension


def export_graph(
    definition: GraphDefinition, path: Path, external_above_bytes: int = EXTERNAL_ABOVE_BYTES
) -> list[Path]:
    """Writes the graph to `path` (and large weights beside it, `path` + ".data"); returns the files written."""
    dynamic = tuple(
        {0: torch.export.Dim.DYNAMIC} if name in definition.dynamic else None for name in definition.inputs
    )
    with quiet_torch():
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
    path.parent.mkdir(parents=True, exist_ok=True)
    files, graph = [path], program.model
    if _weights_bytes(graph) > external_above_bytes:
        data = path.with_name(path.name + ".data")
        graph = onnx_ir.external_data.unload_from_model(
            graph, path.parent, data.name, size_threshold_bytes=EXTERNAL_TENSOR_BYTES
        )
        files.append(data)
    model = onnx_ir.to_proto(graph)
    _keep_internal(model, definition.internal)
    _name_free_dimension(model)
    _remove_traces(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path), full_check=True)
    return files


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


def _weights_bytes(graph: onnx_ir.Model) -> int:
    constants = (value.const_value for value in graph.graph.initializers.values())
    return sum(constant.nbytes for constant in constants if constant is not None)
