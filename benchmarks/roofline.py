"""The least time that a frame could take: work counted from the graphs, over peaks measured here and now.

Counted are convolutions and matrix products, 2 operations a multiply-add, and the bytes of the weights, once an
evaluation. What moves between nodes is counted apart and not part of the bound, as a fused runtime need not move it.
Peaks are what this machine reaches in the same run: a large fp32 product in ONNX Runtime, a large copy in numpy. Lower
precisions may therefore come out below 1, and native convolutions, too: of 144 products that are counted they need 36.
"""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from engine.bundle import Bundle

SIDE = 1024  # of the square product
COPY_BYTES = 256 << 20
REPEATS = 5
HEAVY = ("Conv", "MatMul", "Gemm")
FREE = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Constant")  # move nothing


@dataclass(frozen=True)
class Work:
    """What one evaluation of a graph, or a frame, takes.

    Attributes:
        flops: of convolutions and matrix products.
        weight_bytes: of all weights, read once.
        rest_bytes: in and out of all other nodes, each for itself: norms, activations, concatenations.
    """

    flops: float
    weight_bytes: int
    rest_bytes: int = 0


@dataclass(frozen=True)
class Peaks:
    """What the machine reaches with a number of threads."""

    flops_per_s: float
    bytes_per_s: float


def count(path: Path, free: int = 1) -> Work:
    """Counts a graph; axes that are free at runtime have length `free`."""
    model = onnx.load(path, load_external_data=False)
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_value = free
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: _shape(value)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")  # an unknown one is no scalar: what needs it must fail
    }
    shapes |= {weight.name: list(weight.dims) for weight in inferred.initializer}
    for node in inferred.node:  # quantised graphs: a scale does not change the shape
        if node.op_type in ("DequantizeLinear", "QuantizeLinear") and node.input[0] in shapes:
            shapes.setdefault(node.output[0], shapes[node.input[0]])
    flops = sum(_flops(node, shapes) for node in inferred.node)
    bytes_of = {
        value.name: _value_bytes(value) for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    rest = [node for node in inferred.node if node.op_type not in (*HEAVY, *FREE)]
    rest_bytes = sum(bytes_of.get(name, 0) for node in rest for name in (*node.input, *node.output))
    return Work(flops, sum(_weight_bytes(weight) for weight in inferred.initializer), rest_bytes)


def frame_work(bundle: Bundle, precision: str, evaluations: dict[str, int]) -> Work:
    """One frame: `evaluations` of each network, and the denoiser's conditioner once for all of its."""
    parts = [(count(bundle.graph(precision, name).path), times) for name, times in evaluations.items()] + [
        (count(bundle.graph(precision, "denoiser_conditioner").path, evaluations["denoiser"]), 1)
    ]
    return Work(
        sum(work.flops * times for work, times in parts),
        sum(work.weight_bytes * times for work, times in parts),
        sum(work.rest_bytes * times for work, times in parts),
    )


def measure_peaks(threads: int) -> Peaks:
    """The best of a few repetitions."""
    return Peaks(_product_flops_per_s(threads), _copy_bytes_per_s(threads))


def roofline_ms(work: Work, peaks: Peaks) -> float:
    """The larger of the times that arithmetic and weights take at the peaks."""
    return 1e3 * max(work.flops / peaks.flops_per_s, work.weight_bytes / peaks.bytes_per_s)


def _flops(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> float:
    if node.op_type == "Conv":
        weight, output = shapes[node.input[1]], shapes[node.output[0]]
        return 2.0 * math.prod(output) * math.prod(weight[1:])
    if node.op_type in ("MatMul", "Gemm"):
        inputs, output = shapes[node.input[0]], shapes[node.output[0]]
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return 2.0 * math.prod(output) * (inputs[0] if transposed else inputs[-1])
    return 0.0


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _value_bytes(value: onnx.ValueInfoProto) -> int:
    itemsize = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).itemsize
    return int(math.prod(_shape(value)) * itemsize)


def _weight_bytes(weight: onnx.TensorProto) -> int:
    return int(math.prod(weight.dims) * helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize)


def _product_flops_per_s(threads: int) -> float:
    import onnxruntime

    square = [SIDE, SIDE]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, square) for name in "abc"]
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    model = helper.make_model(
        helper.make_graph([node], "product", tensors[:2], tensors[2:]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(0)
    inputs = {name: random.standard_normal(square, np.float32) for name in "ab"}
    return 2 * SIDE**3 / _best_s(lambda: session.run(None, inputs))


def _copy_bytes_per_s(threads: int) -> float:
    source = np.ones((threads, COPY_BYTES // threads), np.uint8)
    target = np.empty_like(source)
    with ThreadPoolExecutor(threads) as pool:
        rows = range(threads)
        seconds = _best_s(lambda: list(pool.map(lambda row: np.copyto(target[row], source[row]), rows)))
    return 2 * source.nbytes / seconds  # read and written


def _best_s(work: Any) -> float:
    work()
    best = math.inf
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best
