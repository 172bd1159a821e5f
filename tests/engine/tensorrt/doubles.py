"""Doubles of TensorRT and of CUDA: what both promise, in plain Python, failing as they do, with None and a log line.

A "graph" is a JSON file: {"inputs": {name: [dtype, shape]}, "outputs": ..., "layers": [[kind, dtype], ...]}, with
"refuse" where the parser is to refuse it. A "plan" is that JSON with what it was built with. "Device" addresses are the
host's, so that copies and runs really move numbers: an output is the sum of all inputs, between -1 and 1
for an image, and x @ w for the probe.
"""

import ctypes
import json
from collections.abc import Callable
from enum import Enum, IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from engine.graphs import GraphSpec, TensorSpec
from engine.tensorrt.flavour import Flavour, Log

DTYPES = {"float32": "FLOAT", "float16": "HALF"}
PROBE = {
    "inputs": {"x": ["float32", [1, 3]]},
    "outputs": {"y": ["float32", [1, 3]]},
    "layers": [["MATRIX_MULTIPLY", "FLOAT"]],
}
W = np.arange(9, dtype=np.float32).reshape(3, 3)


class Severity(IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)


class Kind(Enum):
    CONVOLUTION = "CaskConvolution"
    MATRIX_MULTIPLY = "gemm"
    NORMALIZATION = "Normalization"
    ACTIVATION = "Activation"


class FakeApi:
    """A TensorRT of which every switch below makes one thing fail, or differ.

    Attributes:
        broken: names of calls that return None or False, after a line in the log.
        plan_dtype: what the inspector says instead of a layer's own type; "" for nothing at all.
        built: the settings of every build. timing: the timing caches that were handed in.
    """

    LayerType = Kind
    TensorIOMode = Enum("TensorIOMode", "INPUT OUTPUT")
    LayerInformationFormat = SimpleNamespace(JSON="json")
    ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    BuilderFlag = SimpleNamespace(TF32="tf32", STRICT_NANS="strict_nans")
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    CudaGraphStrategy = SimpleNamespace(DISABLED="disabled")
    ComputeCapability = Enum("ComputeCapability", "NONE CURRENT SM75 SM89 SM120")
    IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda self: None})
    ILogger = type("ILogger", (), {"__init__": lambda self: None, "Severity": Severity})

    def __init__(self, version: str = "1.7.1") -> None:
        self.__version__ = version
        self.broken: set[str] = set()
        self.plan_dtype: str | None = None
        self.built: list[dict[str, Any]] = []
        self.timing: list[bytes] = []
        self.kernels: list[bytes] = []
        self.log: Any = None

    def fails(self, call: str) -> bool:
        if call in self.broken:
            self.log.log(Severity.ERROR, f"Error Code 9: {call} said no")
        return call in self.broken

    # Building.

    def Builder(self, log: Any) -> Any:
        self.log = log
        if self.fails("Builder"):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return SimpleNamespace(
            create_network=lambda flags: None if self.fails("create_network") else Network(),
            create_builder_config=lambda: Config(self),
            create_optimization_profile=lambda: Profile(),
            build_serialized_network=self._build,
        )

    def OnnxParser(self, network: "Network", log: Any) -> "Parser":
        return Parser(network)

    def _build(self, network: "Network", config: "Config") -> bytes | None:
        if self.fails("build_serialized_network"):
            return None
        if not config.progress_monitor.step_complete("timing", 0):
            self.log.log(Severity.ERROR, "Error Code 7: BuildCanceled")
            return None
        config.progress_monitor.phase_start("timing", "building", 3)
        self.built.append({name: value for name, value in vars(config).items() if name != "api"})
        return json.dumps({**network.document, "profile": config.profile, "target": config.target}).encode()

    # Running.

    def Runtime(self, log: Any) -> Any:
        self.log = log

        def deserialize(data: bytes) -> Engine | None:
            if self.fails("deserialize_cuda_engine"):
                return None
            try:
                return Engine(self, json.loads(data))
            except ValueError:
                log.log(Severity.ERROR, "Error Code 1: Serialization (magic tag)")
                return None

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


class Network:
    def __init__(self) -> None:
        self.document: dict[str, Any] = {}

    @property
    def num_inputs(self) -> int:
        return len(self.document["inputs"])

    @property
    def num_outputs(self) -> int:
        return len(self.document["outputs"])

    @property
    def num_layers(self) -> int:
        return len(self.document["layers"])

    def get_input(self, index: int) -> Any:
        return _tensor(*list(self.document["inputs"].items())[index])

    def get_output(self, index: int) -> Any:
        return _tensor(*list(self.document["outputs"].items())[index])

    def get_layer(self, index: int) -> Any:
        kind, dtype = self.document["layers"][index]
        tensor = SimpleNamespace(name=f"t{index}", dtype=SimpleNamespace(name=dtype))
        return SimpleNamespace(
            type=Kind[kind],
            num_inputs=1,
            num_outputs=1,
            get_input=lambda number: tensor,
            get_output=lambda number: SimpleNamespace(name=f"t{index}_out"),
        )


def _tensor(name: str, described: tuple[str, list[int | None]]) -> Any:
    dtype, shape = described
    return SimpleNamespace(
        name=name, dtype=SimpleNamespace(name=DTYPES[dtype]), shape=[-1 if a is None else a for a in shape]
    )


class Parser:
    def __init__(self, network: Network) -> None:
        self.network, self.errors = network, list[Any]()

    def parse_from_file(self, path: str) -> bool:
        content = Path(path).read_bytes()
        document = json.loads(content) if content.startswith(b"{") else PROBE
        if "refuse" in document:
            error = SimpleNamespace(
                node_name=lambda: "node_7",
                node_operator=lambda: "FancyOp",
                desc=lambda: document["refuse"],
            )
            self.errors.append(error)
            return False
        self.network.document = document
        return True

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index: int) -> Any:
        return self.errors[index]


class Profile(dict[str, Any]):
    def set_shape(self, name: str, *sizes: tuple[int, ...]) -> None:
        self[name] = sizes


class Config:
    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.flags = {"tf32"}
        self.workspace = 1 << 36
        self.target: str | None = None
        self.num_compute_capabilities = 0
        self.profile: dict[str, Any] = {}
        self.progress_monitor: Any = None

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: str, size_bytes: int) -> None:
        if not self.api.fails("set_memory_pool_limit"):
            self.workspace = size_bytes

    def get_memory_pool_limit(self, pool: str) -> int:
        return self.workspace

    def set_compute_capability(self, target: Enum, index: int) -> bool:
        self.target = target.name
        return not self.api.fails("set_compute_capability")

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profile = dict(profile)
        return -1 if self.api.fails("add_optimization_profile") else 0

    def create_timing_cache(self, content: bytes) -> Any:
        self.api.timing.append(content)
        return SimpleNamespace(content=content, serialize=lambda: content + b"timed ")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        return not (cache.content and self.api.fails("set_timing_cache"))


class Engine:
    def __init__(self, api: FakeApi, document: dict[str, Any]) -> None:
        self.api, self.document = api, document
        self.tensors = {**document["inputs"], **document["outputs"]}
        self.num_io_tensors = len(self.tensors)
        self.device_memory_size_v2 = 1000

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=DTYPES[self.tensors[name][0]])

    def get_tensor_shape(self, name: str) -> list[int]:
        return [-1 if axis is None else axis for axis in self.tensors[name][1]]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self.api.TensorIOMode
        return modes["INPUT"] if name in self.document["inputs"] else modes["OUTPUT"]

    def create_engine_inspector(self) -> Any:
        def information(format_: str) -> str:
            layers = []
            for kind, dtype in self.document["layers"]:
                told = self.api.plan_dtype if self.api.plan_dtype is not None else dtype
                layers.append({"LayerType": Kind[kind].value, "Inputs": [{"DataType": told}]})
            return json.dumps({"Layers": layers})

        return (
            None
            if self.api.fails("create_engine_inspector")
            else SimpleNamespace(get_engine_information=information)
        )

    def create_runtime_config(self) -> Any:
        api = self.api

        class Cache:
            content = b"compiled "

            def deserialize(self, data: bytes) -> bool:
                api.kernels.append(data)
                return True

            def serialize(self) -> bytes:
                return self.content

        return SimpleNamespace(create_runtime_cache=Cache, set_runtime_cache=lambda cache: True)

    def create_execution_context(self, config: Any = None) -> Any:
        return None if self.api.fails("create_execution_context") else Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shapes = {name: engine.get_tensor_shape(name) for name in engine.tensors}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.document["profile"][name]
        self.shapes[name] = list(shape)
        return all(low <= axis <= high for low, axis, high in zip(least, shape, most, strict=True))

    def infer_shapes(self) -> list[str]:
        rows = self.shapes.get("c_noise", [1])[0]
        for name in self.engine.document["outputs"]:
            self.shapes[name] = [rows if axis == -1 else axis for axis in self.engine.get_tensor_shape(name)]
        return [name for name, shape in self.shapes.items() if -1 in shape]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return not self.engine.api.fails("set_tensor_address")

    def execute_async_v3(self, stream: int) -> bool:
        if self.engine.api.fails("execute_async_v3"):
            return False
        inputs = {name: self._array(name) for name in self.engine.document["inputs"]}
        total = sum(array.sum(dtype=np.float64) for array in inputs.values())
        for name in self.engine.document["outputs"]:
            images = {"y": lambda: inputs["x"] @ W, "denoised": lambda: np.tanh(total / 1000)}
            self._array(name)[...] = images.get(name, lambda: total)()
        return True

    def _array(self, name: str) -> Any:
        size = int(np.prod(self.shapes[name]))
        memory = (ctypes.c_float * size).from_address(self.addresses[name])
        return np.ctypeslib.as_array(memory).reshape(self.shapes[name])


class FakeCuda:
    """The host plays the device; `left` counts what was not given back."""

    device, capability = "NVIDIA GeForce RTX 4090", (8, 9)

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.streams: set[int] = set()

    def allocate(self, size_bytes: int, stream: int) -> int:
        memory = ctypes.create_string_buffer(size_bytes)
        self.memory[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def free(self, address: int) -> None:
        del self.memory[address]

    def create_stream(self) -> int:
        self.streams.add(7)
        return 7

    def destroy_stream(self, stream: int) -> None:
        self.streams.remove(stream)

    def copy_in(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        ctypes.memmove(target, source, size_bytes)

    def copy_out(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        ctypes.memmove(target, source, size_bytes)

    def wait(self, stream: int) -> None:
        assert stream in self.streams

    def left(self) -> int:
        return len(self.memory) + len(self.streams)


def fake_flavour(api: FakeApi | None = None, is_rtx: bool = True) -> Flavour:
    api = api or FakeApi()
    log: Callable[[Any], Log] = Log
    return Flavour(api, "TensorRT-RTX" if is_rtx else "TensorRT", api.__version__, is_rtx, log(api))  # type: ignore[arg-type]


def write_graph(path: Path, precision: str = "fp32", **changes: Any) -> GraphSpec:
    """A conditioner with a free axis; `changes` go into the file."""
    dtype = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16"}[precision]
    document = {
        "inputs": {"c_noise": ["float32", [None]], "c_noise_cond": ["float32", [None]]},
        "outputs": {"modulation": ["float32", [None, 6]]},
        "layers": [["CONVOLUTION", dtype], ["MATRIX_MULTIPLY", dtype], ["NORMALIZATION", "FLOAT"]],
    }
    path.write_text(json.dumps(document | changes))
    return GraphSpec(
        "upsampler_conditioner",
        precision,
        path,
        {name: TensorSpec("float32", (None,)) for name in ("c_noise", "c_noise_cond")},
        {"modulation": TensorSpec("float32", (None, 6))},
    )
