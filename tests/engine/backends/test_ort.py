"""ONNX Runtime: what it runs on, and that a file is what world.json says of it."""

import builtins
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine import native
from engine.actions import Action
from engine.backends import open_backend
from engine.backends import ort as ort_module
from engine.backends.base import Graph
from engine.backends.ort import OrtBackend
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.graphs import GraphSpec, signature
from engine.loading import load_world
from engine.world import World
from tests.engine.tiny_world import TINY

onnx = pytest.importorskip("onnx", reason="the graphs of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to test")

INPUTS, OUTPUTS = signature("upsampler_conditioner", TINY, modulation=4)

has_native = pytest.mark.skipif(bool(native.missing()), reason=f"no native operators: {native.missing()}")


def graph_file(
    path: Path, shape: tuple[Any, ...] = ("E", 4), dtype: int = 1, output: str = "modulation"
) -> Path:
    """Writes modulation[e, m] = c_noise[e] + c_noise_cond[e] + [1, 2, 3, 4][m], with a signature as asked."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Add", ["c_noise", "c_noise_cond"], ["levels"]),
        helper.make_node("Unsqueeze", ["levels", "axis"], ["column"]),
        helper.make_node("Add", ["column", "row"], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, dtype, ["E"]) for name in ("c_noise", "c_noise_cond")],
        [helper.make_tensor_value_info(output, dtype, shape)],
        [
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("row", dtype, [4], [1.0, 2.0, 3.0, 4.0]),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture
def spec(tmp_path: Path) -> GraphSpec:
    path = graph_file(tmp_path / "conditioner.onnx")
    return GraphSpec("upsampler_conditioner", "fp32", path, INPUTS, OUTPUTS)


def test_a_graph_runs_with_any_number_of_evaluations(spec: GraphSpec) -> None:
    backend = OrtBackend()
    graph = backend.load(spec)
    for rows in (1, 6):
        levels = np.arange(rows, dtype=np.float32)
        modulation = graph.run({"c_noise": levels, "c_noise_cond": levels})["modulation"]
        np.testing.assert_allclose(modulation, 2 * levels[:, None] + [1, 2, 3, 4])
    backend.close()


def test_it_says_version_provider_and_threads() -> None:
    import onnxruntime

    described = OrtBackend(threads=1).describe()
    assert described == f"ONNX Runtime {onnxruntime.__version__}, CPUExecutionProvider, 1 thread"


def test_by_default_it_takes_a_thread_for_every_physical_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort_module, "physical_cores", lambda: 3)
    assert OrtBackend().threads == 3
    assert OrtBackend(threads=2).threads == 2
    monkeypatch.setattr(ort_module, "physical_cores", lambda: None)
    assert "its own choice" in OrtBackend().describe()


def test_idle_sessions_sleep_and_run_on_the_cpu_only(spec: GraphSpec) -> None:
    session = OrtBackend(threads=2).load(spec)._session  # type: ignore[attr-defined]
    options = session.get_session_options()
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert options.get_session_config_entry("session.intra_op.spin_duration_us") == str(ort_module.SPIN_US)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert options.intra_op_num_threads == 2


def test_threads_never_spin_where_their_time_cannot_be_set() -> None:
    for version in ("1.22.1", "1.26.0"):
        assert ort_module._spinning(version) == {"session.intra_op.allow_spinning": "0"}
    assert "session.intra_op.allow_spinning" not in ort_module._spinning("1.27.0")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"shape": ("E", 5)}, r"modulation is float32 \(any, any\)"),  # contradicts the graph itself
        ({"shape": (3, 4)}, r"modulation is float32 \(3, 4\)"),
        ({"dtype": 10}, r"c_noise is float16"),
        ({"output": "scales"}, r"outputs: has the tensors \['scales'\]"),
    ],
)
def test_a_file_other_than_world_json_says_is_refused(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    path = graph_file(tmp_path / "other.onnx", **change)
    with pytest.raises(DiamondError, match=complaint):
        OrtBackend().load(GraphSpec("upsampler_conditioner", "fp32", path, INPUTS, OUTPUTS))


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(DiamondError, match=r"bad\.onnx: ONNX Runtime cannot load upsampler_conditioner"):
        OrtBackend().load(GraphSpec("upsampler_conditioner", "fp32", path, INPUTS, OUTPUTS))


def test_a_precision_that_it_lacks_is_one_clear_message(tmp_path: Path) -> None:
    """ONNX Runtime's CPU multiplies no bf16 matrices; its own words name a node."""
    from onnx import TensorProto, helper

    low = TensorProto.BFLOAT16
    nodes = [
        helper.make_node("Cast", ["c_noise"], ["low"], to=low),
        helper.make_node("Unsqueeze", ["low", "axis"], ["column"]),
        helper.make_node("MatMul", ["column", "weight"], ["product"]),
        helper.make_node("Cast", ["product"], ["modulation"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["E"])
            for name in ("c_noise", "c_noise_cond")
        ],
        [helper.make_tensor_value_info("modulation", TensorProto.FLOAT, ["E", 4])],
        [
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("weight", low, [1, 4], [1.0, 2.0, 3.0, 4.0]),
        ],
    )
    path = tmp_path / "low.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    with pytest.raises(DiamondError, match=r"ONNX Runtime's CPU can't compute in bf16") as failure:
        OrtBackend().load(GraphSpec("upsampler_conditioner", "bf16", path, INPUTS, OUTPUTS))
    assert failure.value.expected == "a precision that this backend runs well: fp32, int8"
    assert "leave --precision out" in failure.value.fix


def test_without_onnx_runtime_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import: Callable[..., ModuleType] = builtins.__import__

    def no_onnxruntime(name: str, *args: Any, **kwargs: Any) -> ModuleType:
        if name in ("onnxruntime", "openvino", "torch"):
            raise ImportError(f"No module named {name!r}")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_onnxruntime)
    for name in ("ort", "auto"):
        with pytest.raises(DiamondError, match=r'No module named(.|\n)*pip install "diamond-engine\[cpu\]"'):
            open_backend(name)


def test_two_wheels_that_overwrite_each_other_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort_module, "_installed", lambda wheel: True)
    with pytest.raises(DiamondError, match="both installed and overwrite each other"):
        OrtBackend()


# Native operators.


def weights_folder(graph: Graph) -> str | None:
    """Where a session looks for weights because its graph was rewritten; None where it was loaded from its file."""
    options = graph._session.get_session_options()  # type: ignore[attr-defined]
    try:
        return str(options.get_session_config_entry("session.model_external_initializers_file_folder_path"))
    except RuntimeError:
        return None


def convolution_file(
    path: Path, external_above_bytes: int = 10**9
) -> tuple[GraphSpec, npt.NDArray[np.float32]]:
    """Writes y = conv(x), 3x3 and large enough to be ours; weights of more bytes than that lie beside it."""
    from onnx import TensorProto, helper, numpy_helper

    from export.onnx_file import save, spec_of

    random = np.random.default_rng(0)
    weights = random.standard_normal((32, 32, 3, 3)).astype(np.float32) / 10
    shape = (1, 32, 16, 20)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weights"], ["y"], pads=[1, 1, 1, 1])],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    save(model, path, external_above_bytes)
    return spec_of(path, "denoiser"), random.standard_normal(shape).astype(np.float32)


@has_native
def test_it_says_how_many_operators_are_ours_once_a_graph_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, _ = convolution_file(tmp_path / "graph.onnx")

    def described() -> str:
        backend = OrtBackend(threads=1)
        assert "native" not in backend.describe()
        backend.load(spec)
        return backend.describe()

    assert re.search(rf"CPUExecutionProvider, 1 thread, 1 native .*\({native.kernels()}\)$", described())
    monkeypatch.setenv(native.SWITCH, "off")
    assert "native" not in described()
    monkeypatch.delenv(native.SWITCH)
    monkeypatch.setattr(native, "missing", lambda: "not compiled when the package was installed")
    assert "native" not in described()


@has_native
@pytest.mark.parametrize("external_above_bytes", [10**9, 0], ids=["one file", "weights beside it"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_graph_with_large_convolutions_runs_with_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external_above_bytes: int, relative: bool
) -> None:
    """A graph that was rewritten is handed over as bytes, and still finds the weights that lie beside its file."""
    monkeypatch.chdir(tmp_path)
    path = Path("graph.onnx") if relative else tmp_path / "graph.onnx"
    spec, x = convolution_file(path, external_above_bytes)
    assert (tmp_path / "graph.onnx.data").is_file() == (external_above_bytes == 0)
    graph = OrtBackend(threads=1).load(spec)
    assert weights_folder(graph) == str(path.parent)
    ours = graph.run({"x": x})["y"]

    monkeypatch.setenv(native.SWITCH, "off")
    graph = OrtBackend(threads=1).load(spec)
    assert weights_folder(graph) is None
    plain = graph.run({"x": x})["y"]
    assert (ours != plain).any(), "the same bits: one of them was not what it says"
    np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-5 * np.abs(plain).max())


@has_native
def test_a_graph_without_large_convolutions_is_loaded_as_it_lies_there(spec: GraphSpec) -> None:
    assert weights_folder(OrtBackend().load(spec)) is None


@has_native
def test_an_operator_that_fails_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library older than the rewriter, say: what ONNX Runtime says of it reaches the player."""
    from engine.native import rewrite as rewriter

    def strange(model: bytes, bf16: bool) -> tuple[bytes, int]:
        parsed = onnx.load_from_string(model)
        parsed.graph.node[0].op_type, parsed.graph.node[0].domain = "Conv5x5", rewriter.DOMAIN
        parsed.opset_import.add(domain=rewriter.DOMAIN, version=1)
        return parsed.SerializeToString(), 1

    spec, _ = convolution_file(tmp_path / "graph.onnx")
    monkeypatch.setattr(rewriter, "rewrite", strange)
    with pytest.raises(DiamondError, match=r"graph\.onnx: ONNX Runtime cannot load(.|\n)*Conv5x5"):
        OrtBackend(threads=1).load(spec)


# Whole worlds, exported.


def test_an_exported_world_plays_and_says_what_runs_it(tiny_bundle: Path) -> None:
    with load_world(tiny_bundle, threads=1) as world:
        frame = world.reset()
        assert (world.step(Action({"w"})).rgb != frame.rgb).any()
        described = world.describe()
    assert described.startswith(f"{world.name}: fp32 on ONNX Runtime")
    assert re.search(
        r"CPUExecutionProvider, 1 thread(, \d+ native .*)? \(picked by auto: not trt: ", described
    )


def test_an_exported_world_is_deterministic(tiny_bundle: Path) -> None:
    rollouts = []
    for _ in range(2):
        with load_world(tiny_bundle, "ort", seed=5, preset="quality") as world:
            world.reset(0)
            rollouts.append([world.step(Action({"w"}, mouse_dx=30)).rgb for _ in range(4)])
    np.testing.assert_array_equal(rollouts[0], rollouts[1])


def test_nan_inside_an_exported_network_comes_out_as_nan(tiny_bundle: Path) -> None:
    """Clamping and quantising must not turn NaN into a plausible black."""
    bundle, backend = Bundle.open(tiny_bundle), OrtBackend()
    for role in ("denoiser", "upsampler"):
        graph = backend.load(bundle.graph("fp32", role))
        inputs = {
            name: np.zeros([axis or 1 for axis in tensor.shape], np.float32)
            for name, tensor in graph.spec.inputs.items()
        }
        inputs["modulation"][...] = np.nan
        denoised = graph.run(inputs)["denoised"]
        assert np.isnan(denoised).any(), f"{role}: NaN came out as {np.unique(denoised)[:3]}"
    backend.close()


def test_a_world_can_be_opened_twice_side_by_side(tiny_bundle: Path) -> None:
    first, second = (World(Bundle.open(tiny_bundle), OrtBackend(threads=1)) for _ in range(2))
    first.reset(0)
    second.reset(0)
    np.testing.assert_array_equal(first.step(Action({"w"})).rgb, second.step(Action({"w"})).rgb)
    first.close()
    second.step(Action({"w"}))
    second.close()
