"""int8 worlds: static QDQ on convolutions only, sensitive layers kept, conditioners shared with fp32."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from engine import load_world
from engine.bundle import Bundle
from engine.errors import DiamondError
from export import int8
from export.add_precision import add_precisions
from export.precision_gates import GATES
from export.quantise import convolutions

pytest.importorskip("onnxruntime")


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def quantised(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world with int8 added."""
    return add_precisions(small_world, tmp_path_factory.mktemp("int8") / "small", ["int8"], quiet)


def graph_of(world: Path, role: str) -> onnx.GraphProto:
    return onnx.load(Bundle.open(world).graph("int8", role).path).graph


@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_the_first_and_the_last_convolution_and_all_else_stay_fp32(quantised: Path, role: str) -> None:
    graph = graph_of(quantised, role)
    dequantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    is_int8 = [node.input[1] in dequantised for node in convolutions(graph)]
    assert is_int8[0] is False
    assert is_int8[-1] is False
    assert sum(is_int8) >= 5
    assert not [
        node for node in graph.node if node.op_type == "MatMul" and not dequantised.isdisjoint(node.input)
    ]


def test_activations_are_uint8_a_tensor_and_weights_int8_a_channel(quantised: Path) -> None:
    graph = graph_of(quantised, "denoiser")
    weights = {weight.name: weight for weight in graph.initializer}
    seen: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            assert weights[node.input[2]].data_type == TensorProto.UINT8
            assert list(weights[node.input[1]].dims) == []
        elif node.op_type == "DequantizeLinear" and node.input[0] in weights:
            weight, scale = weights[node.input[0]], weights[node.input[1]]
            if weight.data_type == TensorProto.INT8:
                assert list(scale.dims) == [weight.dims[0]], "one scale an output channel"
                assert not any(onnx.numpy_helper.to_array(weights[node.input[2]])), "around zero"
            seen[str(weight.data_type)] += 1
    assert seen[str(TensorProto.INT8)] == seen[str(TensorProto.INT32)] > 0, "weights and biases"


def test_residuals_and_norms_read_their_inputs_before_rounding(quantised: Path) -> None:
    """A convolution's rounded input is its own; what else reads that tensor reads it in fp32."""
    graph = graph_of(quantised, "denoiser")
    producer = {name: node for node in graph.node for name in node.output}
    for node in convolutions(graph):
        source = producer.get(node.input[0])
        if source is not None and source.op_type == "DequantizeLinear":
            readers = [other for other in graph.node if node.input[0] in other.input]
            assert readers == [node]


def test_conditioners_are_the_fp32_files(quantised: Path) -> None:
    manifest = Bundle.open(quantised).manifest
    for role in ("denoiser_conditioner", "upsampler_conditioner"):
        assert manifest.graphs["int8"][role].file == f"fp32/{role}.onnx"
    assert sorted(name for name in manifest.files if name.startswith("int8/")) == [
        "int8/denoiser.onnx",
        "int8/parity.json",
        "int8/upsampler.onnx",
    ]


def test_the_int8_world_plays_close_to_fp32(quantised: Path) -> None:
    frames = {}
    for precision in ("fp32", "int8"):
        with load_world(quantised, "ort", precision) as world:
            world.reset(0)
            frames[precision] = [world.step(action).rgb.astype(int) for action in world.next_actions[:4]]
    error = np.abs(np.subtract(frames["int8"], frames["fp32"]))
    assert 0 < error.mean() < 2, f"max {error.max()}, mean {error.mean():.3f} grey levels"


def test_the_report_names_the_layers_kept_and_their_errors(quantised: Path) -> None:
    report = json.loads(Bundle.open(quantised).file("int8/parity.json").read_text())
    for network, kept in report["kept_fp32"].items():
        assert kept["conv_in.weight"] is None, "always kept, not measured"
        assert kept["conv_out.weight"] is None
        layers = report["layers"][network]
        assert layers["Conv fp32"] == len(kept)
        errors = [error for error in kept.values() if error is not None]
        assert errors == sorted(errors, reverse=True)
    assert report["gates"]["raw_error"] == GATES["int8"].raw_error


def test_a_world_with_int8_gets_another_precision_and_keeps_it(quantised: Path, tmp_path: Path) -> None:
    world = tmp_path / "small"
    shutil.copytree(quantised, world)
    add_precisions(world, world, ["fp16"], quiet)
    assert Bundle.open(world).precisions == ("fp32", "int8", "fp16")


def test_a_network_that_bears_no_8_bits_is_refused(
    small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "BUDGETS", {"denoiser": 0.0, "upsampler": 0.0})
    with pytest.raises(DiamondError, match="denoiser: no convolution can run in 8 bits within 0 grey levels"):
        add_precisions(small_world, tmp_path / "out", ["int8"], quiet)
    assert not list(tmp_path.iterdir())


def test_a_wrong_range_is_stopped_by_the_gate(
    small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges a quarter as wide as they should be, and a choice of layers that was made before."""
    plain = int8.quantise

    def narrow(model: onnx.ModelProto, ranges: int8.Ranges, chosen: list[str]) -> onnx.ModelProto:
        return plain(model, {name: (low / 4, high / 4) for name, (low, high) in ranges.items()}, chosen)

    def no_errors(spec: object, ranges: object, names: list[str], *rest: object) -> dict[str, float]:
        return dict.fromkeys(names, 0.0)

    monkeypatch.setattr(int8, "quantise", narrow)
    monkeypatch.setattr(int8, "measure_errors", no_errors)
    with pytest.raises(DiamondError, match=r"parity gate.*int8.*: raw_error is"):
        add_precisions(small_world, tmp_path / "out", ["int8"], quiet)
