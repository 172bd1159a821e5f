"""Which layers are kept in fp32: measured on the real quantised layer, one at a time, and the worst first."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from engine.backends import open_backend
from engine.bundle import Bundle
from export.calibration import measure_ranges, record_inputs
from export.onnx_file import expose, save, spec_of
from export.quantise import convolutions, quantise
from export.sensitivity import NOBODY, SWITCH, add_twins, keep_worst, output_errors

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def measured(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The small upsampler: its inputs in play, the ranges inside it, and its convolutions but the outer two."""
    folder = tmp_path_factory.mktemp("measured")
    bundle = Bundle.open(small_world)
    spec = bundle.graph("fp32", "upsampler")
    layers = convolutions(onnx.load(spec.path).graph)
    tensors = list(dict.fromkeys(name for node in layers for name in (node.input[0], node.output[0])))
    inputs = record_inputs(bundle)["upsampler"]
    ranges = measure_ranges(spec, tensors, inputs, folder)
    return {"spec": spec, "inputs": inputs, "ranges": ranges, "names": [node.name for node in layers[1:-1]]}


def raw_of(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    backend = open_backend("ort")
    raw = np.array(backend.load(spec_of(path, "upsampler")).run(inputs)["raw"])
    backend.close()
    return raw


def quantised(measured: dict[str, Any], names: list[str]) -> onnx.ModelProto:
    return quantise(onnx.load(measured["spec"].path), measured["ranges"], names)


def test_one_switched_layer_is_the_graph_with_that_layer_quantised(
    measured: dict[str, Any], tmp_path: Path
) -> None:
    names, inputs = measured["names"], measured["inputs"][0]
    model = onnx.load(measured["spec"].path)
    add_twins(model, quantised(measured, names), names)
    onnx.checker.check_model(model, full_check=True)
    save(model, tmp_path / "twins.onnx")
    expose(measured["spec"].path, ("raw",), tmp_path / "plain.onnx")
    plain = raw_of(tmp_path / "plain.onnx", inputs)
    nobody = raw_of(tmp_path / "twins.onnx", {**inputs, SWITCH: np.array(NOBODY)})
    np.testing.assert_allclose(nobody, plain, rtol=0, atol=1e-5)
    for position in (0, len(names) // 2, len(names) - 1):
        alone = quantised(measured, [names[position]])
        save(alone, tmp_path / "alone.onnx")
        expose(tmp_path / "alone.onnx", ("raw",), tmp_path / "alone_raw.onnx")
        expected = raw_of(tmp_path / "alone_raw.onnx", inputs)
        got = raw_of(tmp_path / "twins.onnx", {**inputs, SWITCH: np.array(position)})
        assert np.abs(expected - plain).max() > 1e-4, "quantising a layer changes something"
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_errors_are_in_grey_levels_of_the_prediction() -> None:
    """Layer 1 adds 0.01 to the raw output; a prediction has c_out of it, and 127.5 levels to 1."""
    sample = {"coefficients": np.array([1.0, 0.5, 0.4], np.float32)}

    def run(inputs: Any) -> np.ndarray:
        return np.full((1, 3, 2, 2), 0.5 + (0.01 if inputs[SWITCH] == 1 else 0), np.float32)

    errors = output_errors(run, ["first", "second"], [sample, sample])
    assert errors["first"] == 0
    assert errors["second"] == pytest.approx(0.01 * 0.4 * 127.5, rel=1e-3)


def test_the_worst_layers_are_kept_until_the_others_fit_the_budget() -> None:
    errors = {"a": 0.3, "b": 1.0, "c": 0.4, "d": 0.0}
    assert keep_worst(errors, 2.0) == []
    assert keep_worst(errors, 0.5) == ["b"], "0.3 and 0.4 make 0.5 together"
    assert keep_worst(errors, 0.35) == ["b", "c"]
    assert keep_worst(errors, 0.0) == ["b", "c", "a"]
