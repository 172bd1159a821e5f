"""Calibration sees what play sees: every preset, the right inputs, and the true extremes of each tensor."""

from pathlib import Path

import numpy as np

from engine.backends import open_backend
from engine.bundle import Bundle
from export.calibration import EVALUATIONS, EVERY, FRAMES, measure_ranges, record_inputs, thinned
from export.onnx_file import expose, spec_of


def test_every_recorded_evaluation_fits_its_graph(small_world: Path) -> None:
    bundle = Bundle.open(small_world)
    recorded = record_inputs(bundle)
    frames = 2 * FRAMES // EVERY  # of two spawns
    assert {name: len(calls) for name, calls in recorded.items()} == {
        "denoiser": 2 * frames,
        "upsampler": frames,
    }
    for name, calls in recorded.items():
        spec = bundle.graph("fp32", name)
        for call in calls:
            assert {key: array.shape for key, array in call.items()} == {
                key: tensor.shape for key, tensor in spec.inputs.items()
            }
            assert np.abs(call["history"]).max() > 0, "the run on zeros at loading is not play"


def test_ranges_are_the_extremes_over_all_inputs(small_world: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(small_world)
    spec = bundle.graph("fp32", "denoiser")
    inputs = record_inputs(bundle)["denoiser"][:3]
    low, high = measure_ranges(spec, ["raw"], inputs, tmp_path)["raw"]
    expose(spec.path, ("raw",), tmp_path / "exposed.onnx")
    backend = open_backend("ort")
    graph = backend.load(spec_of(tmp_path / "exposed.onnx", "denoiser"))
    raws = np.stack([np.array(graph.run(call)["raw"]) for call in inputs])
    backend.close()
    np.testing.assert_allclose([low, high], [raws.min(), raws.max()], rtol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["exposed.onnx"], "copies are gone"


def test_thinning_spreads_evenly_and_keeps_both_ends() -> None:
    calls = [{"x": np.array(index)} for index in range(100)]
    assert [int(call["x"]) for call in thinned(calls, 4)] == [0, 33, 66, 99]
    assert thinned(calls[:3], EVALUATIONS) == calls[:3]
