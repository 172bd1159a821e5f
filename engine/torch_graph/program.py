"""A program of PyTorch: made from a graph, exported or compiled, as bytes and ready to run.

`torch.export` writes down the operators of a graph once; such a program runs without any model code. AOTInductor
makes machine code of it, where there is a compiler. Knows nothing of files.
"""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import DiamondError
from engine.graphs import GraphSpec
from engine.torch_graph.bindings import compiler_library, torch_library
from engine.torch_graph.convert import example_shape, graph_module
from engine.torch_graph.device import Device
from engine.torch_graph.quiet import quiet_torch

PRECISIONS = ("fp32", "fp16", "bf16")
EXPORTED, COMPILED = "exported", "compiled"
_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_HEAVY = ("conv2d", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm")


@dataclass(frozen=True)
class Program:
    """A program that can run.

    Attributes:
        form: `EXPORTED` or `COMPILED`.
        types: convolutions and products by the type that they read: {"fp32": 114}.
        run: takes a tensor for every input, in the spec's order; gives a sequence of the outputs.
    """

    form: str
    types: Mapping[str, int]
    run: Callable[..., Sequence[Any]]


def export(spec: GraphSpec, device: Device) -> Any:
    """A graph as a `torch.export.ExportedProgram` on the device.

    Raises:
        DiamondError: a graph that cannot be converted or exported, or whose layers have other types than asked for.
    """
    torch = torch_library()
    require_precision(spec)
    module = graph_module(spec).to(device.place)
    inputs = tuple(
        torch.zeros(example_shape(tensor.shape), dtype=getattr(torch, tensor.dtype), device=device.place)
        for tensor in spec.inputs.values()
    )
    free = torch.export.Dim.DYNAMIC
    dynamic = {
        name: {axis: free for axis, length in enumerate(tensor.shape) if length is None} or None
        for name, tensor in spec.inputs.items()
    }
    try:
        with quiet_torch(), torch.no_grad():
            exported = torch.export.export(module, inputs, dynamic_shapes=dynamic)
    except Exception as error:  # PyTorch's exporter raises whatever its parts raise
        raise DiamondError(
            f"{spec.path}: PyTorch cannot export {spec}: {_first_line(error)}",
            "a graph that diamond-export wrote",
            "play with --backend ort, and report this message",
        ) from error
    _require_types(spec, heavy_types(exported))
    return exported


def compile_program(spec: GraphSpec, exported: Any) -> bytes:
    """Machine code of an exported program, for the machine at hand: an AOTInductor package.

    Raises:
        DiamondError: no compiler, or it fails.
    """
    inductor, package = compiler_library(), io.BytesIO()
    try:
        with quiet_torch(), torch_library().no_grad():
            inductor.aoti_compile_and_package(
                exported,
                package_path=package,
                inductor_configs={"cpp.dynamic_threads": True},  # --threads is chosen when it runs
            )
    except Exception as error:  # a missing compiler, its failure, or PyTorch's own
        raise DiamondError(
            f"{spec}: PyTorch cannot compile it: {_first_line(error)}",
            "a C++ compiler (on NVIDIA and AMD GPUs also Triton), and a graph that it takes",
            "apt install g++; without --target torch it plays uncompiled",
        ) from error
    return package.getvalue()


def to_bytes(exported: Any) -> bytes:
    """An exported program as a .pt2 file."""
    file = io.BytesIO()
    with quiet_torch():
        torch_library().export.save(exported, file)
    return file.getvalue()


def from_bytes(data: bytes) -> Any:
    """The exported program of a .pt2 file. May run what the file holds: only for files of one's own."""
    with quiet_torch():
        return torch_library().export.load(io.BytesIO(data))


def exported_program(exported: Any) -> Program:
    """An exported program, ready to run."""
    with quiet_torch():
        return Program(EXPORTED, heavy_types(exported), exported.module())


def compiled_program(data: bytes, types: Mapping[str, int]) -> Program:
    """An AOTInductor package, ready to run. Runs what it holds: only for files of one's own.

    Args:
        types: those of the program that was compiled; the package does not tell them.
    """
    with quiet_torch():
        # Without the locks between threads: worlds are not for two threads at once, and a capture has no use for them.
        return Program(
            COMPILED,
            types,
            compiler_library().aoti_load_package(io.BytesIO(data), run_single_threaded=True),
        )


def heavy_types(exported: Any) -> dict[str, int]:
    """Convolutions and products of an exported program by the type that they read."""
    found: Counter[str] = Counter()
    for node in exported.graph.nodes:
        if node.op == "call_function" and getattr(node.target, "_opname", "") in _HEAVY:
            dtype = str(node.args[0].meta["val"].dtype).removeprefix("torch.")
            found[_NAMES.get(dtype, dtype)] += 1
    return dict(found)


def require_precision(spec: GraphSpec) -> None:
    """Checks that PyTorch runs the precision at all.

    Raises:
        DiamondError: it does not; int8 graphs are for other backends.
    """
    if spec.precision not in PRECISIONS:
        raise DiamondError(
            f"{spec.path}: the backend torch does not run {spec.precision}",
            f"one of {', '.join(PRECISIONS)}",
            "choose another --precision, or play with --backend ort",
        )


def _require_types(spec: GraphSpec, found: Mapping[str, int]) -> None:
    if found and not (spec.precision in found and found.keys() <= {spec.precision, "fp32"}):
        told = ", ".join(f"{count} {type_}" for type_, count in found.items())
        raise DiamondError(
            f"{spec.path}: {spec}: its convolutions and products have other types: {told}",
            f"{spec.precision}, and fp32 where it matters",
            f"export the world again: diamond-export WORLD --precision {spec.precision} --force",
        )


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
