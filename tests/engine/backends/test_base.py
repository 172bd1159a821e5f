"""What every backend gets from the seam: input checks, timing, warm-up, lifetime."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.backends.base import check_signature
from engine.errors import DiamondError
from engine.graphs import GraphSpec, TensorSpec, signature
from tests.engine.doubles import NumpyBackend, NumpyGraph
from tests.engine.tiny_world import TINY

INPUTS, OUTPUTS = signature("denoiser", TINY, modulation=32)
SPEC = GraphSpec("denoiser", "fp32", Path("denoiser.onnx"), INPUTS, OUTPUTS)


def inputs(**changes: Any) -> dict[str, npt.NDArray[Any]]:
    zeros = {
        name: np.zeros([axis or 1 for axis in tensor.shape], np.float32) for name, tensor in INPUTS.items()
    }
    return zeros | changes


def test_a_run_is_timed() -> None:
    graph = NumpyBackend().load(SPEC)
    graph.last_ms = 0
    assert graph.run(inputs())["denoised"].shape == (1, 3, 14, 20)
    assert graph.last_ms > 0


def test_loading_runs_the_graph_once() -> None:
    graph = NumpyBackend().load(SPEC)
    assert isinstance(graph, NumpyGraph)
    assert graph.runs == 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"history": np.zeros((1, 12, 30, 56), np.float32)}, r"history is float32 \(1, 12, 30, 56\)"),
        ({"history": np.zeros((1, 12, 14, 20), np.float16)}, r"history is float16"),
        ({"x": np.zeros((1, 3, 20, 14), np.float32).transpose(0, 1, 3, 2)}, "x is not contiguous"),
        ({"surprise": np.zeros(1, np.float32)}, r"inputs \['coefficients', .*'surprise'"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_by_name(changes: dict[str, Any], complaint: str) -> None:
    graph = NumpyBackend().load(SPEC)
    with pytest.raises(DiamondError, match=rf"denoiser \(fp32\): {complaint}"):
        graph.run(inputs(**changes))


def test_a_missing_input_is_refused_by_name() -> None:
    graph = NumpyBackend().load(SPEC)
    short = inputs()
    del short["modulation"]
    with pytest.raises(DiamondError, match="'modulation'"):
        graph.run(short)


def test_a_dynamic_axis_takes_any_length() -> None:
    conditioner_inputs, conditioner_outputs = signature("upsampler_conditioner", TINY, modulation=32)
    graph = NumpyBackend().load(
        GraphSpec("upsampler_conditioner", "fp32", Path(), conditioner_inputs, conditioner_outputs)
    )
    for rows in (1, 5):
        levels = np.zeros(rows, np.float32)
        assert graph.run({"c_noise": levels, "c_noise_cond": levels})["modulation"].shape == (rows, 32)


def test_an_output_other_than_promised_is_found_when_loading() -> None:
    wrong = dataclasses.replace(SPEC, outputs={"denoised": TensorSpec("float32", (1, 3, 14, 21))})
    with pytest.raises(DiamondError, match=r"output denoised is float32 \(1, 3, 14, 20\)"):
        NumpyBackend().load(wrong)


def test_closing_a_backend_closes_its_graphs_and_twice_is_harmless() -> None:
    backend = NumpyBackend()
    graph = backend.load(SPEC)
    backend.close()
    backend.close()
    with pytest.raises(DiamondError, match=r"denoiser \(fp32\): closed"):
        graph.run(inputs())
    with pytest.raises(DiamondError, match="backend numpy: closed"):
        backend.load(SPEC)


def test_a_signature_is_compared_tensor_by_tensor() -> None:
    check_signature(SPEC, INPUTS, OUTPUTS)
    other = dict(INPUTS) | {"x": TensorSpec("float16", (1, 3, 14, 20))}
    with pytest.raises(DiamondError, match=r"x is float16 \(1, 3, 14, 20\).\n.*float32"):
        check_signature(SPEC, other, OUTPUTS)
    with pytest.raises(DiamondError, match=r"outputs: has the tensors \['raw'\]"):
        check_signature(SPEC, INPUTS, {"raw": OUTPUTS["denoised"]})
