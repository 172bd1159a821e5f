"""OpenVINO: the frames that `ort` paints, in the precision asked for and no other, and NaN never hidden.

Bounds: fp32 single evaluations differ from ONNX Runtime's by one grey level on at most 0.5 % of the values (a value
between two levels may fall either way); bf16 ones by half a level on average; 16 bf16 frames stay above 35 dB.
"""

import builtins
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from engine import native
from engine.actions import Action
from engine.backends import open_backend
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.graphs import GraphSpec, TensorSpec
from engine.loading import load_world
from tests.engine.backends.typed_world import evaluate, rollout, worst_db, write_typed_bundle
from tests.engine.doubles import assert_same_picture

onnx = pytest.importorskip("onnx", reason="the graphs of these tests are made with onnx")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to compare with")
pytest.importorskip("openvino", reason="the extra `openvino` is not installed")

from engine.backends.openvino import OpenVinoBackend  # noqa: E402

IMAGE = TensorSpec("float32", (1, 3, 14, 20))


# Graphs of one convolution.


def convolution(path: Path, precision: str) -> GraphSpec:
    """Writes denoised = clip(conv(x), -1, 1), the convolution in fp32, bf16 or int8; listed as `precision`."""
    from onnx import TensorProto, helper

    weight = np.random.default_rng(0).normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32)
    tensors = [onnx.numpy_helper.from_array(weight, "w")]
    tensors += [helper.make_tensor(name, 1, [], [value]) for name, value in (("low", -1.0), ("high", 1.0))]
    nodes = [helper.make_node("Conv", ["x", "w"], ["raw"], pads=[1, 1, 1, 1])]
    if precision == "bf16":
        low, full = TensorProto.BFLOAT16, TensorProto.FLOAT
        nodes = [
            *(helper.make_node("Cast", [name], [f"{name}16"], to=low) for name in ("x", "w")),
            helper.make_node("Conv", ["x16", "w16"], ["raw16"], pads=[1, 1, 1, 1]),
            helper.make_node("Cast", ["raw16"], ["raw"], to=full),
        ]
    if precision == "int8":
        tensors += [helper.make_tensor("scale", 1, [], [0.02]), helper.make_tensor("w_scale", 1, [], [0.006])]
        tensors += [helper.make_tensor("zero", TensorProto.UINT8, [], [128])]
        tensors += [
            onnx.numpy_helper.from_array((weight / 0.006).round().clip(-127, 127).astype(np.int8), "w8")
        ]
        tensors += [helper.make_tensor("w_zero", TensorProto.INT8, [], [0])]
        quantiser = (["scale", "zero"], ["w_scale", "w_zero"])
        nodes = [
            helper.make_node("QuantizeLinear", ["x", *quantiser[0]], ["x8"]),
            helper.make_node("DequantizeLinear", ["x8", *quantiser[0]], ["xq"]),
            helper.make_node("DequantizeLinear", ["w8", *quantiser[1]], ["wq"]),
            helper.make_node("Conv", ["xq", "wq"], ["raw"], pads=[1, 1, 1, 1]),
        ]
    nodes.append(helper.make_node("Clip", ["raw", "low", "high"], ["denoised"]))
    ports = [helper.make_tensor_value_info(name, 1, IMAGE.shape) for name in ("x", "denoised")]
    graph = helper.make_graph(nodes, "one", ports[:1], ports[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), path)
    return GraphSpec("denoiser", precision, path, {"x": IMAGE}, {"denoised": IMAGE})


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_it_computes_in_the_precision_asked_for_and_says_so(tmp_path: Path, precision: str) -> None:
    backend = OpenVinoBackend(threads=1)
    if precision == "bf16" and not backend.can_bf16:
        pytest.skip("this CPU has no bf16 arithmetic")
    graph = backend.load(convolution(tmp_path / "one.onnx", precision))
    assert backend.describe().endswith(f", CPU, 1 thread, convolutions: 1 {precision}")
    x = np.random.default_rng(1).uniform(-1, 1, IMAGE.shape).astype(np.float32)
    reference = open_backend("ort").load(convolution(tmp_path / "fp32.onnx", "fp32"))
    bound = {"fp32": 1e-6, "bf16": 0.02, "int8": 0.05}[precision]
    np.testing.assert_allclose(
        graph.run({"x": x})["denoised"], reference.run({"x": x})["denoised"], atol=bound
    )


@pytest.mark.parametrize(("written", "asked"), [("fp32", "bf16"), ("fp32", "int8"), ("int8", "fp32")])
def test_a_graph_that_runs_in_another_precision_than_asked_for_is_refused(
    tmp_path: Path, written: str, asked: str
) -> None:
    spec = convolution(tmp_path / "one.onnx", written)
    other = GraphSpec(spec.role, asked, spec.path, spec.inputs, spec.outputs)
    with pytest.raises(DiamondError, match=rf"denoiser \({asked}\): OpenVINO .*convolutions: 1 {written}"):
        OpenVinoBackend().load(other)


def test_bf16_on_a_cpu_without_it_is_refused(tmp_path: Path) -> None:
    """Such a CPU would compute in fp32 without a word; OpenVINO's own switch plays one here."""
    path = convolution(tmp_path / "one.onnx", "bf16").path
    code = f"""
from pathlib import Path
from engine.backends.openvino import OpenVinoBackend
from tests.engine.backends.test_openvino import IMAGE, GraphSpec
OpenVinoBackend().load(GraphSpec("denoiser", "bf16", Path({str(path)!r}), {{"x": IMAGE}}, {{"denoised": IMAGE}}))
"""
    here = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=here, capture_output=True, text=True, check=False)
    assert "denoiser (bf16): OpenVINO computes it in another precision: convolutions: 1 fp32" in done.stderr


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nan_before_the_clip_comes_out_as_nan(tmp_path: Path, precision: str) -> None:
    backend = OpenVinoBackend()
    if precision == "bf16" and not backend.can_bf16:
        pytest.skip("this CPU has no bf16 arithmetic")
    graph = backend.load(convolution(tmp_path / "one.onnx", precision))
    assert np.isnan(graph.run({"x": np.full(IMAGE.shape, np.nan, np.float32)})["denoised"]).all()


def test_the_callers_arrays_are_only_read(tmp_path: Path) -> None:
    graph = OpenVinoBackend().load(convolution(tmp_path / "one.onnx", "fp32"))
    x = np.random.default_rng(1).uniform(-1, 1, IMAGE.shape).astype(np.float32)
    x.flags.writeable = False
    kept = x.copy()
    graph.run({"x": x})
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(DiamondError, match=r"bad\.onnx: OpenVINO cannot load denoiser"):
        OpenVinoBackend().load(GraphSpec("denoiser", "fp32", path, {"x": IMAGE}, {"denoised": IMAGE}))


def test_a_file_other_than_world_json_says_is_refused(tmp_path: Path) -> None:
    spec = convolution(tmp_path / "one.onnx", "fp32")
    wrong = GraphSpec(
        spec.role, "fp32", spec.path, spec.inputs, {"denoised": TensorSpec("float32", (1, 3, 4, 4))}
    )
    with pytest.raises(DiamondError, match=r"denoised is float32 \(1, 3, 14, 20\)"):
        OpenVinoBackend().load(wrong)


def test_without_openvino_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import: Callable[..., ModuleType] = builtins.__import__

    def no_openvino(name: str, *args: Any, **kwargs: Any) -> ModuleType:
        if name == "openvino":
            raise ImportError("No module named 'openvino'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_openvino)
    with pytest.raises(DiamondError, match=r'No module named(.|\n)*pip install "diamond-engine\[openvino\]"'):
        open_backend("openvino")


def test_it_reports_its_use_to_nobody(tmp_path: Path) -> None:
    """OpenVINO's own reporter sends one message for each import; a stand-in for it would leave a file."""
    reporter = tmp_path / "openvino_telemetry"
    reporter.mkdir()
    (reporter / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()")
    code = "from engine.backends import open_backend; print(open_backend('openvino').describe())"
    here = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=here, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("OpenVINO ")
    assert not (tmp_path / "imported").exists()


def test_threads_are_those_that_it_really_takes(tmp_path: Path) -> None:
    spec = convolution(tmp_path / "one.onnx", "fp32")
    for asked, at_most in ((1, 1), (10_000, len(os.sched_getaffinity(0)))):
        backend = OpenVinoBackend(threads=asked)
        backend.load(spec)
        assert 1 <= backend.threads <= at_most


# Whole worlds, exported.


@pytest.fixture(scope="session")
def low_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with graphs in bf16 as well."""
    return write_typed_bundle(tiny_bundle, tmp_path_factory.mktemp("low") / "tiny", ("bf16",))


@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_an_fp32_evaluation_is_that_of_onnx_runtime(tiny_bundle: Path, role: str) -> None:
    ours, theirs = (evaluate(open_backend(name), tiny_bundle, "fp32", role) for name in ("openvino", "ort"))
    assert_same_picture(ours, theirs)


@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_a_bf16_evaluation_is_within_half_a_grey_level_of_fp32(low_bundle: Path, role: str) -> None:
    backend = OpenVinoBackend()
    if not backend.can_bf16:
        pytest.skip("this CPU has no bf16 arithmetic")
    off = np.abs(
        evaluate(backend, low_bundle, "bf16", role) - evaluate(open_backend("ort"), low_bundle, "fp32", role)
    )
    levels = off * 127.5
    assert 0 < levels.mean() < 0.5, f"max {levels.max():.1f}, mean {levels.mean():.3f} grey levels"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_rollout_stays_close_to_that_of_onnx_runtime(low_bundle: Path, precision: str) -> None:
    if precision == "bf16" and not OpenVinoBackend().can_bf16:
        pytest.skip("this CPU has no bf16 arithmetic")
    ours = rollout(load_world(low_bundle, "openvino", precision, seed=5), 16)
    theirs = rollout(load_world(low_bundle, "ort", "fp32", seed=5), 16)
    assert worst_db(ours, theirs) > 35


def test_the_same_seed_paints_the_same_frames(low_bundle: Path) -> None:
    first, second = (rollout(load_world(low_bundle, "openvino", seed=5), 4) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_auto_takes_onnx_runtime_for_fp32_and_where_it_cannot_openvino_for_bf16(
    low_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not OpenVinoBackend().can_bf16:
        pytest.skip("this CPU has no bf16 arithmetic")

    def described(precision: str | None) -> str:
        with load_world(low_bundle, "auto", precision) as world:
            return world.describe()

    own = "ONNX Runtime" if native.kernels("bf16") else "OpenVINO"
    assert "fp32 on ONNX Runtime" in described(None)
    assert f"bf16 on {own}" in described("bf16")
    monkeypatch.setenv(native.SWITCH, "off")
    assert "bf16 on OpenVINO" in described("bf16")


def test_a_conditioner_takes_any_number_of_evaluations(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    ours, theirs = (
        open_backend(name).load(bundle.graph("fp32", "upsampler_conditioner")) for name in ("openvino", "ort")
    )
    for rows in (1, 13, 3, 1):
        levels = np.linspace(-1, 1, rows).astype(np.float32)
        inputs = {"c_noise": levels, "c_noise_cond": levels}
        np.testing.assert_allclose(
            ours.run(inputs)["modulation"], theirs.run(inputs)["modulation"], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_nan_inside_a_network_comes_out_as_nan(low_bundle: Path, precision: str, role: str) -> None:
    """Its clip alone would make a plausible black of it."""
    backend, bundle = OpenVinoBackend(), Bundle.open(low_bundle)
    if precision == "bf16" and not backend.can_bf16:
        pytest.skip("this CPU has no bf16 arithmetic")
    graph = backend.load(bundle.graph(precision, role))
    inputs = {
        name: np.zeros([axis or 1 for axis in tensor.shape], np.float32)
        for name, tensor in graph.spec.inputs.items()
    }
    inputs["modulation"][...] = np.nan
    assert np.isnan(graph.run(inputs)["denoised"]).any()


def test_two_worlds_play_side_by_side(tiny_bundle: Path) -> None:
    first, second = (load_world(tiny_bundle, "openvino", threads=1) for _ in range(2))
    first.reset(0)
    second.reset(0)
    np.testing.assert_array_equal(first.step(Action({"w"})).rgb, second.step(Action({"w"})).rgb)
    first.close()
    second.step(Action({"w"}))
    second.close()
