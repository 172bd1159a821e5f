"""Plans really built by TensorRT-RTX, ahead of time and without a GPU, and `diamond-export --target trt`.

What a plan computes takes a GPU to see: benchmarks/gpu.md. Here: that it takes the graphs as they are, in the types
that were asked for, with the tensors that world.json lists, and what it says where it does not.
"""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from engine.backends import open_backend
from engine.bundle import Bundle
from engine.catalog import embedded
from engine.errors import DiamondError
from engine.graphs import GraphSpec, TensorSpec
from engine.tensorrt.flavour import Flavour, installed, load_flavour
from engine.tensorrt.network import BuildOptions, parse
from engine.tensorrt.opened import OpenPlan
from engine.tensorrt.plan_cache import PlanCache
from engine.tensorrt.plans import Plans
from export.job import ExportJob, export_world
from export.onnx_file import EXTERNAL_ABOVE_BYTES, save
from export.typed import make_typed

if installed() != ("tensorrt_rtx_bindings",):
    pytest.skip("TensorRT-RTX, the extra `trt`, is not installed", allow_module_level=True)

ROLES = ("denoiser_conditioner", "denoiser", "upsampler_conditioner", "upsampler")
ROOT = Path(__file__).parents[2]


def has_gpu() -> bool:
    try:
        open_backend("trt").close()
    except DiamondError:
        return False
    return True


needs_no_gpu = pytest.mark.skipif(has_gpu(), reason="says what happens without a GPU, and there is one")


@pytest.fixture(scope="module")
def flavour() -> Flavour:
    return load_flavour()


@pytest.fixture
def plans(flavour: Flavour, tmp_path: Path) -> Plans:
    return Plans(flavour, None, PlanCache(tmp_path / "plans"), say=lambda line: None)


def graph(
    world: Path, role: str, precision: str, folder: Path, external_above_bytes: int = EXTERNAL_ABOVE_BYTES
) -> GraphSpec:
    """A world's graph in a precision, typed by the exporter; without its gates, which the exporter's tests try."""
    spec = Bundle.open(world, verify=False).graph("fp32", role)
    model = onnx.load(spec.path)
    if precision != "fp32":
        make_typed(model, precision)
    path = save(model, folder / precision / f"{role}.onnx", external_above_bytes)[0]
    return dataclasses.replace(spec, precision=precision, path=path)


def kept(plans: Plans, suffix: str) -> bytes:
    (path,) = plans.cache.folder.glob(f"*{suffix}")
    return path.read_bytes()


# The worlds.


@pytest.mark.parametrize("world", ["freedoom", "published_tiny"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("role", ROLES)
def test_every_graph_becomes_a_plan_of_the_types_and_tensors_asked_for(
    world: str, precision: str, role: str, plans: Plans, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    directory = embedded(world) if world == "freedoom" else request.getfixturevalue(world)
    spec = graph(directory, role, precision, tmp_path)
    assert plans.make(spec)
    sidecar, plan = json.loads(kept(plans, ".json")), kept(plans, ".plan")
    types = sidecar["layers"]["network"]
    if role.endswith("_conditioner"):
        assert f" {precision}" in types
        assert "convolutions" not in types
    else:
        assert f"convolutions: {types.split()[1]} {precision};" in types, "all of them, and no other type"
    for name in (*spec.inputs, *spec.outputs):
        assert name.encode() in plan
    assert sidecar["made_for"]["tensorrt"] == str(plans.flavour)
    assert sidecar["made_for"]["gpu"] == "none"
    assert not plans.make(spec), "the kept one fits"


def test_weights_beside_the_graph_are_found(plans: Plans, tmp_path: Path) -> None:
    world = embedded("freedoom")
    inside = graph(world, "denoiser", "fp16", tmp_path / "inside")
    beside = graph(world, "denoiser", "fp16", tmp_path / "beside", external_above_bytes=0)
    assert (tmp_path / "beside" / "fp16" / "denoiser.onnx.data").stat().st_size > 4_000_000
    plans.make(inside)
    size_bytes = len(kept(plans, ".plan"))
    shutil.rmtree(plans.cache.folder)
    plans.make(beside)
    assert abs(len(kept(plans, ".plan")) - size_bytes) < 0.01 * size_bytes, "the weights are in the plan"
    (tmp_path / "beside" / "fp16" / "denoiser.onnx.data").unlink()
    with pytest.raises(DiamondError, match=r"TensorRT-RTX refuses denoiser \(fp16\)"):
        plans.make(beside)


@pytest.mark.parametrize("options", [BuildOptions(opt_level=0), BuildOptions(5, 2 << 30)])
def test_the_builder_takes_the_options(plans: Plans, tmp_path: Path, options: BuildOptions) -> None:
    spec = graph(embedded("freedoom"), "upsampler_conditioner", "fp16", tmp_path)
    plans.options = options
    assert plans.make(spec)
    assert json.loads(kept(plans, ".json"))["options"] == dataclasses.asdict(options)


def test_nan_is_let_through_the_clip_of_a_network_and_conditioners_stay_as_they_are(flavour: Flavour) -> None:
    bundle = Bundle.open(embedded("freedoom"), verify=False)
    for role in ROLES:
        parsed = parse(flavour, bundle.graph("fp32", role))
        assert len(parsed.arrays) == (0 if role.endswith("_conditioner") else 1)
        assert parsed.network.num_outputs == 1
        last = parsed.network.get_layer(parsed.network.num_layers - 1)
        if not role.endswith("_conditioner"):
            assert parsed.network.get_output(0).name == last.get_output(0).name == "denoised"
            assert last.get_input(0).name == "denoised_clipped"


# What is refused.


def one_node(path: Path, operator: str, opset: int = 20, **attributes: object) -> GraphSpec:
    """Writes y = operator(x) with x and y float32 (1, 3)."""
    row = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", "y")]
    node = helper.make_node(operator, ["x"], ["y"], "the_node", **attributes)
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("odd", 1)]
    onnx.save(
        helper.make_model(
            helper.make_graph([node], "one", row[:1], row[1:]), opset_imports=domains, ir_version=10
        ),
        path,
    )
    tensor = TensorSpec("float32", (1, 3))
    return GraphSpec("denoiser", "fp32", path, {"x": tensor}, {"y": tensor})


def test_a_layer_that_tensorrt_refuses_is_named_in_its_own_words(plans: Plans, tmp_path: Path) -> None:
    spec = one_node(tmp_path / "odd.onnx", "Fancy", domain="odd")
    with pytest.raises(
        DiamondError, match=r"odd\.onnx: TensorRT-RTX refuses .*: Fancy the_node: "
    ) as failure:
        plans.make(spec)
    assert "--backend ort" in failure.value.fix
    assert not plans.cache.folder.exists()


def test_a_file_that_is_no_graph_is_refused_though_the_parser_says_yes(plans: Plans, tmp_path: Path) -> None:
    """TensorRT-RTX 1.7 parses garbage into an empty network and reports no error."""
    spec = one_node(tmp_path / "garbage.onnx", "Relu")
    spec.path.write_bytes(b"hello world" * 100)
    with pytest.raises(DiamondError, match=r"garbage\.onnx"):
        plans.make(spec)
    spec.path.unlink()
    with pytest.raises(DiamondError, match=r"garbage\.onnx: cannot be read"):
        plans.make(spec)


def test_other_tensors_than_world_json_lists_are_refused(plans: Plans, tmp_path: Path) -> None:
    spec = one_node(tmp_path / "one.onnx", "Relu")
    wider = dataclasses.replace(spec, outputs={"y": TensorSpec("float32", (1, 4))})
    with pytest.raises(DiamondError, match=r"y is float32 \(1, 3\)"):
        plans.make(wider)


def test_another_precision_than_the_graphs_is_refused(plans: Plans, tmp_path: Path) -> None:
    spec = graph(embedded("freedoom"), "denoiser_conditioner", "bf16", tmp_path)
    with pytest.raises(DiamondError, match=r"denoiser_conditioner \(fp16\): its layers have other types"):
        plans.make(dataclasses.replace(spec, precision="fp16"))


def test_a_workspace_that_does_not_suffice_is_an_error_with_tensorrts_reason(
    plans: Plans, tmp_path: Path
) -> None:
    spec = graph(embedded("freedoom"), "upsampler", "fp16", tmp_path)
    plans.options = BuildOptions(workspace_bytes=1 << 20)
    with pytest.raises(DiamondError, match="workspace limit"):
        plans.make(spec)


@needs_no_gpu
def test_opening_a_plan_without_a_driver_is_an_error_with_tensorrts_line(
    plans: Plans, tmp_path: Path
) -> None:
    spec = graph(embedded("freedoom"), "upsampler_conditioner", "fp32", tmp_path)
    plans.make(spec)
    with pytest.raises(DiamondError, match=r"opening its plan: TensorRT-RTX failed: .*CUDA driver version"):
        OpenPlan(plans.flavour, spec, kept(plans, ".plan"))
    with pytest.raises(DiamondError, match="opening its plan: TensorRT-RTX failed"):
        OpenPlan(plans.flavour, spec, b"no plan at all")


@needs_no_gpu
def test_playing_without_a_driver_is_one_clear_message() -> None:
    command = [sys.executable, "-m", "engine.cli", "--backend", "trt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: backend trt: CUDA: there is no NVIDIA driver here")
    assert "Fix: " in done.stderr
    assert "Traceback" not in done.stderr


# diamond-export --target trt.


@needs_no_gpu
def test_target_trt_builds_every_plan_once_where_the_engine_looks(
    small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path))
    job = ExportJob(str(small_world), targets=("onnx", "trt"), plan_options=BuildOptions(opt_level=1))
    said: list[str] = []
    export_world(job, said.append)
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 4
    assert any("building ahead of time, for RTX cards" in line for line in said)
    assert "of plans" in said[-1]
    said.clear()
    export_world(job, said.append)
    assert sum("has a plan already" in line for line in said) == 4
    with_force = dataclasses.replace(job, force=True)
    export_world(with_force, said.append)
    assert sum(" built in " in line for line in said) == 4
