"""The exported files, run by ONNX Runtime, against what the published code computed on the same tiny networks."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import pytest
import torch

from engine.backends import open_backend
from engine.bundle import Bundle
from engine.frame import to_signed
from engine.graphs import GraphSpec, TensorSpec
from engine.sampler import Sampler
from engine.schedule import conditioning
from export.graphs import GraphDefinition, world_graphs
from export.onnx import export_graph, expose, tensor_specs
from tests.engine.doubles import (
    RecordedNoise,
    assert_same_picture,
    golden_frames,
    recorded_keys,
)
from tests.engine.tiny_world import golden_sampler
from tests.export.worlds import random_agent
from train.model import Agent

ort = pytest.importorskip("onnxruntime")
Cases = dict[str, np.ndarray]


def run(path: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def evaluate(bundle: Path, folder: Path, agent: Agent, network: str, cases: Cases, **inputs: Any) -> Any:
    """The golden evaluation `eval_NETWORK` through the conditioner and the graph, with its inner tensors."""
    case = f"eval_{network}"
    sigma_cond = cases.get(f"{case}/sigma_cond")
    pre = getattr(agent, network).preconditioning(
        torch.from_numpy(cases[f"{case}/sigma"]), None if sigma_cond is None else torch.from_numpy(sigma_cond)
    )
    levels = {"c_noise": pre.c_noise.numpy(), "c_noise_cond": pre.c_noise_cond.numpy()}
    if network == "denoiser":
        levels["action"] = cases[f"{case}/act"]
    modulation = run(bundle / "fp32" / f"{network}_conditioner.onnx", **levels)["modulation"]
    inner = ("raw",) if network == "denoiser" else ("raw", "enlarged")
    expose(bundle / "fp32" / f"{network}.onnx", inner, folder / "exposed.onnx")
    coefficients = torch.cat((pre.c_in, pre.c_skip, pre.c_out)).flatten().numpy()
    x = cases[f"{case}/x"].astype(np.float32)
    return run(folder / "exposed.onnx", x=x, modulation=modulation, coefficients=coefficients, **inputs)


def test_the_denoiser_equals_the_published_evaluation(
    tiny_bundle: Path, tmp_path: Path, golden_agent: Agent, golden_cases: Cases
) -> None:
    history = golden_cases["eval_denoiser/history"]
    got = evaluate(tiny_bundle, tmp_path, golden_agent, "denoiser", golden_cases, history=history)
    np.testing.assert_allclose(got["raw"], golden_cases["eval_denoiser/raw"], rtol=0, atol=1e-5)
    assert_same_picture(got["denoised"], golden_cases["eval_denoiser/denoised"])


def test_the_upsampler_equals_the_published_evaluation(
    tiny_bundle: Path, tmp_path: Path, golden_agent: Agent, golden_cases: Cases
) -> None:
    frames = {
        "history": to_signed(golden_cases["eval_upsampler/previous_u8"]),
        "low_res": to_signed(golden_cases["eval_upsampler/low_res_u8"]),
        "enlarged_noise": np.zeros((1, 3, 70, 100), np.float32),
    }
    got = evaluate(tiny_bundle, tmp_path, golden_agent, "upsampler", golden_cases, **frames)
    bicubic = golden_cases["eval_upsampler/low_res_bicubic"]  # every 7th row, every 5th column
    np.testing.assert_allclose(got["enlarged"][0, :, ::7, ::5], bicubic, rtol=0, atol=1e-5)
    raw = golden_cases["eval_upsampler/raw"].astype(np.float32)
    rounding = 2**-11 * np.abs(raw).max()  # recorded as float16
    np.testing.assert_allclose(got["raw"], raw, rtol=0, atol=1e-5 + rounding)
    levels = np.rint((got["denoised"] + 1) * 127.5)
    off = np.abs(levels - golden_cases["eval_upsampler/denoised"])
    assert off.max() <= 1, f"up to {off.max():.0f} levels off"
    assert (off > 0).mean() <= 0.005, f"{(off > 0).mean():.3%} of the values off"


@pytest.mark.parametrize("case", ["fast", "euler3", "heun2"])
def test_upsampler_samples_equal_the_published_ones(
    tiny_bundle: Path, tmp_path: Path, golden_cases: Cases, case: str
) -> None:
    """The golden cases record the low-res frame enlarged and quantised, so the graph is cut behind its enlargement."""
    name = f"sample_upsampler_{case}"
    noise = RecordedNoise(f"{name}/")
    frames = golden_frames(f"{name}/history_u8")  # the previous frame, then the enlarged low-res one
    spec = Bundle.open(tiny_bundle).graph("fp32", "upsampler")
    inputs = {**spec.inputs, "enlarged": TensorSpec("float32", (1, 3, 70, 100))}
    del inputs["low_res"]
    onnx.utils.extract_model(str(spec.path), str(tmp_path / "cut.onnx"), list(inputs), ["denoised"])

    backend = open_backend("ort")
    graph = backend.load(GraphSpec("upsampler", "fp32", tmp_path / "cut.onnx", inputs, spec.outputs))
    sampler = Sampler("upsampler", graph, golden_sampler(name), 0.5, 0.1)
    c_noise, c_noise_cond = conditioning(sampler.steps)
    levels = {"c_noise": c_noise, "c_noise_cond": c_noise_cond}
    modulation = run(tiny_bundle / "fp32" / "upsampler_conditioner.onnx", **levels)["modulation"]
    more = {"enlarged": np.ascontiguousarray(frames[:, 3:])}
    image = sampler.sample(np.ascontiguousarray(frames[:, :3]), modulation, noise, 0, more)
    assert_same_picture(image, golden_cases[f"{name}/out"])
    assert sorted(noise.used) == sorted(recorded_keys(name)), "every recorded draw is used once"
    backend.close()


@pytest.mark.parametrize("evaluations", [1, 2, 11])
def test_the_conditioner_takes_any_number_of_evaluations(tiny_bundle: Path, evaluations: int) -> None:
    path = tiny_bundle / "fp32" / "denoiser_conditioner.onnx"
    levels = np.linspace(-1.5, 0.4, 11, dtype=np.float32)
    action = np.random.default_rng(0).integers(0, 2, (1, 4, 51)).astype(np.float32)
    every = run(path, action=action, c_noise=levels, c_noise_cond=levels)["modulation"]
    some = levels[:evaluations]
    first = run(path, action=action, c_noise=some, c_noise_cond=some)["modulation"]
    np.testing.assert_allclose(first, every[:evaluations], rtol=0, atol=1e-6)


def test_graphs_use_standard_operators_of_opset_20_only(tiny_bundle: Path) -> None:
    for path in sorted((tiny_bundle / "fp32").glob("*.onnx")):
        model = onnx.load(path)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)], path.name
        assert not model.functions
        assert {node.domain for node in model.graph.node} == {""}


def test_no_file_of_a_bundle_names_this_machine(tiny_bundle: Path) -> None:
    here = [str(Path(__file__).parents[2]), str(Path.home()), "site-packages", str(tiny_bundle.parent)]
    traces = [text.encode() for text in here if len(text) > 3] + [
        b".py\n",
        b".py:",
        b'File "',
        os.uname().nodename.encode(),
    ]
    for path in tiny_bundle.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [trace for trace in traces if trace in content], path


def small_denoiser() -> GraphDefinition:
    return list(world_graphs(random_agent(), (6, 8)))[1]


def test_the_same_weights_give_the_same_bytes(small_graphs: dict[str, Path], tmp_path: Path) -> None:
    (path,) = export_graph(small_denoiser(), tmp_path / "again.onnx")
    assert path.read_bytes() == small_graphs["denoiser"].read_bytes()


def test_large_weights_go_beside_the_graph_and_small_tensors_stay(
    small_graphs: dict[str, Path], tmp_path: Path
) -> None:
    definition, whole = small_denoiser(), small_graphs["denoiser"]
    graph, data = export_graph(definition, tmp_path / "split.onnx", external_above_bytes=0)
    assert data.name == "split.onnx.data"
    large = 3 * 3 * 16 * 8 * 4  # bytes of the convolution behind the first skip connection
    assert large <= data.stat().st_size < whole.stat().st_size
    assert tensor_specs(graph) == tensor_specs(whole)
    random = np.random.default_rng(0)
    inputs = {name: random.random(tensor.shape, np.float32) for name, tensor in definition.inputs.items()}
    np.testing.assert_array_equal(run(graph, **inputs)["denoised"], run(whole, **inputs)["denoised"])
