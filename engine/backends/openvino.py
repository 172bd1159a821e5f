"""OpenVINO on the CPU, the extra `openvino`: the same graphs, and bf16 ones, which ONNX Runtime's CPU can't run.

Precision lives in the graph. Left alone, OpenVINO computes an fp32 graph in bf16 where the CPU can, and a bf16 graph in
fp32 where it can't, both without a word. So it is told to keep the graph's types, and what it made of them is read
back: convolutions of another type than asked for stop the load.

Each run copies its inputs into the request's own buffers: OpenVINO reserves the right to write into memory that it
shares, and a copy takes 0.1 ms where an upsampler takes 50. Compiled graphs are not kept on disk: half of a start's
two seconds is not worth a second copy of every weight, and the question when it is stale.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, ClassVar

from engine.backends.base import Arrays, Backend, Graph, check_signature
from engine.backends.cores import physical_cores, threads_in_words
from engine.errors import DiamondError
from engine.graphs import GraphSpec, TensorSpec

DEVICE = "CPU"
_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "i64": "int64"}
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}
_CLIPS = {"Clamp", "Maximum", "Minimum"}


class OpenVinoBackend(Backend):
    """Graphs in OpenVINO.

    Args:
        threads: threads of each graph; None for one a physical core.

    Raises:
        DiamondError: OpenVINO is missing or broken.
    """

    name: ClassVar[str] = "openvino"

    def __init__(self, threads: int | None = None) -> None:
        super().__init__()
        self._openvino = _import_openvino()
        self._core = self._openvino.Core()
        self.threads = physical_cores() if threads is None else threads
        self.can_bf16 = "BF16" in self._core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        self.precisions = ("bf16", "fp32", "int8") if self.can_bf16 else ("fp32", "int8")
        self._convolutions: Counter[str] = Counter()

    def describe(self) -> str:
        """Version; threads and the precision of the convolutions as read back from what was loaded."""
        version = self._openvino.__version__.split("-")[0]
        described = f"OpenVINO {version}, {DEVICE}, {threads_in_words(self.threads)}"
        return f"{described}, {_counted(self._convolutions)}" if self._convolutions else described

    def _load(self, spec: GraphSpec) -> Graph:
        try:
            model = self._core.read_model(spec.path)
            check_signature(spec, _tensors(model.inputs), _tensors(model.outputs))
            _let_nan_through(model)
            compiled = self._core.compile_model(model, DEVICE, self._settings())
        except RuntimeError as error:  # all that it raises; a DiamondError is none
            raise DiamondError(
                f"{spec.path}: OpenVINO cannot load {spec}: {error}",
                "an ONNX graph that OpenVINO's CPU runs",
                "export the world again with diamond-export, or play with --backend ort",
            ) from error
        self.threads = compiled.get_property("INFERENCE_NUM_THREADS")
        convolutions = _convolutions(compiled.get_runtime_model().get_ops())
        self._require_precision(spec, convolutions)
        self._convolutions += convolutions
        return OpenVinoGraph(spec, compiled.create_infer_request())

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "EXECUTION_MODE_HINT": "ACCURACY",  # keep the types of the graph
            "PERFORMANCE_HINT": "LATENCY",  # all threads on one frame
            "ENABLE_CPU_PINNING": False,  # the window needs the cores too
        }
        if self.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = self.threads
        return settings

    def _require_precision(self, spec: GraphSpec, found: Mapping[str, int]) -> None:
        """Compares the convolutions that OpenVINO made with the precision asked for.

        Conditioners have none; they pass. In int8 the sensitive ones are fp32, see `export.int8`.
        """
        allowed = {"int8", "fp32"} if spec.precision == "int8" else {spec.precision}
        if found and not (spec.precision in found and found.keys() <= allowed):
            raise DiamondError(
                f"{spec}: OpenVINO computes it in another precision: {_counted(found)}",
                f"all of them in {spec.precision}" if len(allowed) == 1 else "int8, and some in fp32",
                "choose another precision, or play with --backend ort",
            )


class OpenVinoGraph(Graph):
    """A compiled graph and its one request, which owns the buffers. A free axis changes without compiling again."""

    def __init__(self, spec: GraphSpec, request: Any) -> None:
        super().__init__(spec)
        self._request = request

    def _run(self, inputs: Arrays) -> Arrays:
        outputs = self._request.infer(dict(inputs), share_inputs=False, share_outputs=True)
        return {name: outputs[name] for name in self.spec.outputs}

    def _close(self) -> None:
        self._request = None


def _let_nan_through(model: Any) -> None:
    """Adds 0 * x to an output that is a clipped x: OpenVINO's clip turns NaN into a plausible black."""
    from openvino import opset13

    for result in model.get_results():
        output = result.input_value(0)
        x = _before_clip(output)
        if x is None:
            continue
        guarded = opset13.add(output, opset13.multiply(x, opset13.constant(0, x.get_element_type()))).output(
            0
        )
        names = output.get_names()
        output.set_names(set())
        guarded.set_names(names)
        result.input(0).replace_source_output(guarded)
    model.validate_nodes_and_infer_types()


def _before_clip(output: Any) -> Any | None:
    """What the last clip before an output reads, searched for along operators that read one tensor and constants."""
    found, value = None, output
    while True:
        node = value.get_node()
        is_clip = node.get_type_name() in _CLIPS  # one ONNX Clip may have become a Maximum and a Minimum
        read = [other for other in node.input_values() if other.get_node().get_type_name() != "Constant"]
        if len(read) != 1 or (found is not None and not is_clip):
            return found
        value = read[0]
        if is_clip:
            found = value


def _convolutions(layers: Iterable[Any]) -> Counter[str]:
    """How many of the layers that really run are convolutions, by precision."""
    notes = [layer.get_rt_info() for layer in layers]
    types = [
        note["runtimePrecision"].astype(str)
        for note in notes
        if note["layerType"].astype(str) == "Convolution"
    ]
    return Counter(_PRECISIONS.get(type_, type_) for type_ in types)


def _counted(convolutions: Mapping[str, int]) -> str:
    return "convolutions: " + ", ".join(f"{count} {precision}" for precision, count in convolutions.items())


def _tensors(ports: Iterable[Any]) -> dict[str, TensorSpec]:
    """Tensors as OpenVINO reports them."""
    return {
        port.any_name: TensorSpec(
            _DTYPES.get(port.element_type.get_type_name(), port.element_type.get_type_name()),
            tuple(axis.get_length() if axis.is_static else None for axis in port.partial_shape),
        )
        for port in ports
    }


def _import_openvino() -> ModuleType:
    """Imports it without the package that would report the import to its makers' statistics, over the network."""
    reporter = "openvino_telemetry"
    hide = reporter not in sys.modules
    if hide:
        sys.modules[reporter] = None  # type: ignore[assignment]  # importing it fails; OpenVINO then goes without
    try:
        import openvino
    except ImportError as error:
        raise DiamondError(
            f"backend openvino: OpenVINO cannot be imported ({error})",
            "the package openvino",
            'pip install "diamond-engine[openvino]"',
        ) from error
    finally:
        if hide:
            del sys.modules[reporter]
    module: ModuleType = openvino
    return module
