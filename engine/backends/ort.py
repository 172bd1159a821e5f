"""ONNX Runtime on the CPU: the backend that runs everywhere.

A world has up to four sessions, each with a pool of threads. By default an idle pool spins, which takes the cores from
the session at work. Pools that never spin lose as much again: waking a thread takes as long as a small operator. So
they spin for some microseconds within a run, and sleep between runs (measured in benchmarks/NOTES.md).

Where the native operators were compiled, a graph's large convolutions are theirs (engine/native). ONNX Runtime itself
can't multiply in bf16 on a CPU, and has no fast int8 for these graphs. Where the processor and these operators have, a
world plays in either from its fp32 graphs.
"""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, ClassVar

from engine import native
from engine.backends.base import Arrays, Backend, Graph, check_signature
from engine.backends.cores import physical_cores, threads_in_words
from engine.errors import DiamondError
from engine.graphs import GraphSpec, TensorSpec

PROVIDER = "CPUExecutionProvider"
SPIN_US = 30
_WEIGHTS_BESIDE = "session.model_external_initializers_file_folder_path"
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


class OrtBackend(Backend):
    """Graphs in ONNX Runtime.

    Args:
        threads: threads of each session; None for one a physical core.

    Raises:
        DiamondError: ONNX Runtime is missing or broken.
    """

    name: ClassVar[str] = "ort"
    precisions: tuple[str, ...] = ("fp32", "int8")

    def __init__(self, threads: int | None = None) -> None:
        super().__init__()
        self._ort = _onnxruntime()
        self.threads = physical_cores() if threads is None else threads
        self._replaced: dict[str, int] = {}
        # A world's bf16 graphs are nothing that it can run, and it runs int8 ones more slowly.
        self.computes_from = {name: "fp32" for name in ("bf16", "int8") if native.kernels(name)}
        if "bf16" in self.computes_from:
            self.precisions = ("fp32", "int8", "bf16")

    def describe(self) -> str:
        """Version, provider and threads; and how many operators are ours in the graphs that were loaded."""
        own = "".join(f", {count} native operators ({kind})" for kind, count in self._replaced.items())
        return f"ONNX Runtime {self._ort.__version__}, {PROVIDER}, {threads_in_words(self.threads)}{own}"

    def _load(self, spec: GraphSpec) -> Graph:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self.threads or 0  # 0: its own choice
        options.inter_op_num_threads = 1
        for name, value in _spinning(self._ort.__version__).items():
            options.add_session_config_entry(name, value)
        options.log_severity_level = 3  # errors only: they become exceptions anyway
        try:
            model = self._model(spec, options)
            session = self._ort.InferenceSession(model, options, providers=[PROVIDER])
        except DiamondError:
            raise
        except Exception as error:  # its exceptions have no base class of their own
            if "NOT_IMPLEMENTED" in str(error):
                others = [name for name in self.precisions if name != spec.precision]
                raise DiamondError(
                    f"{spec.path}: ONNX Runtime's CPU can't compute in {spec.precision}: {error}",
                    f"a precision that this backend runs well: {', '.join(others)}",
                    "leave --precision out, or play it on another backend, such as openvino",
                ) from error
            raise DiamondError(
                f"{spec.path}: ONNX Runtime cannot load {spec}: {error}",
                "an ONNX graph that ONNX Runtime's CPU runs",
                "export the world again with diamond-export",
            ) from error
        if session.get_providers() != [PROVIDER]:
            raise DiamondError(f"{spec}: ONNX Runtime runs it on {session.get_providers()}", PROVIDER)
        check_signature(spec, _tensors(session.get_inputs()), _tensors(session.get_outputs()))
        return OrtGraph(spec, session)

    def _model(self, spec: GraphSpec, options: Any) -> str | bytes:
        """A graph's path; where native operators speed it up, the graph with these, and `options` prepared for them."""
        products = spec.precision if spec.computed_from else "fp32"
        kernels = native.kernels(products)
        if not kernels:
            return str(spec.path)
        from engine.native.rewrite import rewrite

        try:
            model, replaced = rewrite(spec.path.read_bytes(), products)
        except (OSError, ValueError):  # ONNX Runtime says better what is wrong with the file
            return str(spec.path)
        if not replaced:
            if spec.computed_from and not spec.role.endswith("_conditioner"):
                raise DiamondError(
                    f"{spec.path}: no layer of this network can be computed in {spec.precision} here",
                    "convolutions of 8 channels or more",
                    "leave --precision out",
                )
            return str(spec.path)
        self._replaced[kernels] = self._replaced.get(kernels, 0) + replaced
        options.register_custom_ops_library(str(native.LIBRARY))
        options.add_session_config_entry(_WEIGHTS_BESIDE, str(spec.path.parent))
        return model


class OrtGraph(Graph):
    """A session. It reads the caller's arrays in place and allocates its outputs in its own arena."""

    def __init__(self, spec: GraphSpec, session: Any) -> None:
        super().__init__(spec)
        self._session = session
        self._outputs = list(spec.outputs)

    def _run(self, inputs: Arrays) -> Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))

    def _close(self) -> None:
        self._session = None


def _spinning(version: str) -> dict[str, str]:
    """How threads wait for work. Before 1.27 they spin for a millisecond or not at all; then not at all."""
    if tuple(map(int, version.split(".")[:2])) < (1, 27):
        return {"session.intra_op.allow_spinning": "0"}
    return {"session.intra_op.spin_duration_us": str(SPIN_US), "session.force_spinning_stop": "1"}


def _tensors(values: Sequence[Any]) -> dict[str, TensorSpec]:
    """Tensors as ONNX Runtime reports them; a dynamic axis has a name or None instead of a length."""
    return {
        value.name: TensorSpec(
            _DTYPES.get(value.type, value.type),
            tuple(axis if isinstance(axis, int) else None for axis in value.shape),
        )
        for value in values
    }


def _onnxruntime() -> ModuleType:
    wheels = [wheel for wheel in ("onnxruntime", "onnxruntime-gpu") if _installed(wheel)]
    if len(wheels) > 1:
        raise DiamondError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files",
            "one of the two",
            'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "diamond-engine[cpu]"',
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise DiamondError(
            f"backend ort: ONNX Runtime cannot be imported ({error})",
            "the package onnxruntime",
            'pip install "diamond-engine[cpu]"',
        ) from error
    module: ModuleType = onnxruntime
    return module


def _installed(wheel: str) -> bool:
    try:
        version(wheel)
    except PackageNotFoundError:
        return False
    return True
