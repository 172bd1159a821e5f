"""When a plan is built, kept, used again, and why not; against doubles of TensorRT and the GPU."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import space
from engine.cuda.gpu import Gpu
from engine.errors import DiamondError
from engine.tensorrt import building, plans
from engine.tensorrt.network import ROWS, BuildOptions
from engine.tensorrt.plan_cache import PlanCache
from engine.tensorrt.plans import TIMING_CACHE, Plans
from tests.engine.tensorrt.doubles import FakeApi, fake_flavour, write_graph

GPU = Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, "580.95.05, CUDA 13.0", "13.4")


class Bench:
    """One graph, one TensorRT, one directory of plans; `said` is what the user has read."""

    def __init__(self, folder: Path) -> None:
        self.api, self.cache, self.said = FakeApi(), PlanCache(folder / "plans"), list[str]()
        self.spec = write_graph(folder / "graph.onnx", "fp16")

    def plans(self, gpu: Gpu | None = GPU, options: BuildOptions | None = None, is_rtx: bool = True) -> Plans:
        return Plans(fake_flavour(self.api, is_rtx), gpu, self.cache, options, self.said.append)

    def file(self, suffix: str) -> Path:
        (path,) = self.cache.folder.glob(f"*{suffix}")
        return path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_plan_is_built_once_and_the_build_is_announced(bench: Bench) -> None:
    bench.plans().obtain(bench.spec).close()
    assert bench.said[0] == "upsampler_conditioner (fp16): building a plan with TensorRT-RTX 1.7.1, once"
    assert bench.said[-1].endswith("convolutions: 1 fp16; products: 1 fp16")
    assert " built in " in bench.said[-1]
    bench.said.clear()
    plan = bench.plans().obtain(bench.spec)
    assert plan.types == {"fp16": 2}, "as the inspector tells them"
    assert (len(bench.api.built), bench.said) == (1, [])


def test_what_is_built_and_how_is_written_beside_the_plan(bench: Bench) -> None:
    bench.plans(options=BuildOptions(4, 1 << 30)).obtain(bench.spec)
    sidecar = json.loads(bench.file(".json").read_text())
    assert sidecar["made_for"]["gpu"] == "NVIDIA GeForce RTX 4090"
    assert sidecar["made_for"]["capability"] == "8.9"
    assert sidecar["made_for"]["driver"] == "580.95.05, CUDA 13.0"
    assert sidecar["options"] == {"opt_level": 4, "workspace_bytes": 1 << 30}
    assert sidecar["layers"] == {"network": "convolutions: 1 fp16; products: 1 fp16", "plan": "2 fp16"}


def test_the_builder_is_told_what_was_asked_for(bench: Bench) -> None:
    bench.plans(options=BuildOptions(4, 1 << 30)).obtain(bench.spec)
    (built,) = bench.api.built
    assert built["flags"] == {"strict_nans"}, "no TF32, and NaN stays NaN"
    assert (built["builder_optimization_level"], built["workspace"]) == (4, 1 << 30)
    assert (built["target"], built["max_aux_streams"]) == ("SM89", 0)
    rows = tuple((rows,) for rows in ROWS)
    assert built["profile"] == {"c_noise": rows, "c_noise_cond": rows}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"driver": "590.1, CUDA 13.1"}, "driver was 580.95.05, CUDA 13.0, is 590.1, CUDA 13.1"),
        ({"name": "NVIDIA GeForce RTX 3090"}, "gpu was NVIDIA GeForce RTX 4090, is NVIDIA GeForce RTX 3090"),
        ({"capability": (12, 0)}, "capability was 8.9, is 12.0"),
        ({"cuda": "13.5"}, "cuda was 13.4, is 13.5"),
    ],
)
def test_another_gpu_or_driver_is_named_and_rebuilds(
    bench: Bench, changes: dict[str, str], named: str
) -> None:
    bench.plans().obtain(bench.spec)
    bench.said.clear()
    other = dataclasses.replace(GPU, **changes)  # type: ignore[arg-type]
    bench.plans(other).obtain(bench.spec)
    assert bench.said[0] == f"upsampler_conditioner (fp16): its plan does not fit: {named}"
    assert len(bench.api.built) == 2
    bench.plans(other).obtain(bench.spec)
    assert len(bench.api.built) == 2


def test_another_tensorrt_or_recipe_is_named_and_rebuilds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.plans().obtain(bench.spec)
    bench.api.__version__ = "1.8.0"
    bench.plans().obtain(bench.spec)
    assert any("tensorrt was TensorRT-RTX 1.7.1, is TensorRT-RTX 1.8.0" in line for line in bench.said)
    monkeypatch.setattr(plans, "RECIPE", "2")
    bench.plans().obtain(bench.spec)
    assert any("recipe was 1, is 2" in line for line in bench.said)
    assert len(bench.api.built) == 3


def test_a_changed_graph_has_a_plan_of_its_own(bench: Bench, tmp_path: Path) -> None:
    bench.plans().obtain(bench.spec)
    bench.plans().obtain(write_graph(tmp_path / "other.onnx", "fp16", note="other weights"))
    assert len(bench.api.built) == 2
    assert len(list(bench.cache.folder.glob("*.plan"))) == 2


def damage_plan(bench: Bench) -> None:
    path = bench.file(".plan")
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def remove_plan(bench: Bench) -> None:
    bench.file(".plan").unlink()


def damage_sidecar(bench: Bench) -> None:
    bench.file(".json").write_bytes(b'{"made_for": ')


def remove_sidecar(bench: Bench) -> None:
    bench.file(".json").unlink()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (damage_plan, ".plan is damaged"),
        (remove_plan, ".plan is missing"),
        (damage_sidecar, ".json: not valid JSON"),
        (remove_sidecar, "building a plan"),
    ],
)
def test_what_is_damaged_or_missing_is_named_and_rebuilt(
    bench: Bench, damage: Callable[[Bench], None], named: str
) -> None:
    bench.plans().obtain(bench.spec)
    bench.said.clear()
    damage(bench)
    bench.plans().obtain(bench.spec)
    assert named in bench.said[0]
    assert len(bench.api.built) == 2


def test_a_kept_plan_that_tensorrt_refuses_is_rebuilt_once_and_then_an_error(bench: Bench) -> None:
    bench.plans().obtain(bench.spec)
    bench.api.broken.add("deserialize_cuda_engine")
    with pytest.raises(DiamondError, match="opening its plan: TensorRT-RTX failed: Error Code 9"):
        bench.plans().obtain(bench.spec)
    assert len(bench.api.built) == 2
    assert any(
        "its plan does not fit: upsampler_conditioner (fp16): opening its plan" in line for line in bench.said
    )


def test_a_plan_whose_layers_have_another_type_than_asked_for_is_an_error_and_not_kept(bench: Bench) -> None:
    bench.api.plan_dtype = "Float"
    with pytest.raises(DiamondError, match="TensorRT computes it in another precision: 2 fp32"):
        bench.plans().obtain(bench.spec)
    assert not bench.cache.folder.exists()


def test_an_inspector_that_tells_no_types_is_written_down_as_such(bench: Bench) -> None:
    bench.api.plan_dtype = ""
    assert bench.plans().obtain(bench.spec).types == {}
    assert json.loads(bench.file(".json").read_text())["layers"]["plan"] == "not told by TensorRT"


def test_a_network_of_another_type_than_asked_for_is_not_even_built(bench: Bench, tmp_path: Path) -> None:
    written = write_graph(tmp_path / "fp32.onnx", "fp32")
    asked = dataclasses.replace(written, precision="fp16")
    with pytest.raises(DiamondError, match="its layers have other types: convolutions: 1 fp32"):
        bench.plans().obtain(asked)
    assert not bench.api.built


def test_a_precision_without_plans_is_refused(bench: Bench) -> None:
    with pytest.raises(DiamondError, match="no plans are made in int8"):
        bench.plans().obtain(dataclasses.replace(bench.spec, precision="int8"))


def test_a_refused_layer_is_named_with_the_parsers_words(bench: Bench, tmp_path: Path) -> None:
    spec = write_graph(tmp_path / "odd.onnx", "fp16", refuse="no importer")
    with pytest.raises(
        DiamondError, match=r"odd\.onnx: TensorRT-RTX refuses .*: FancyOp node_7: no importer"
    ):
        bench.plans().obtain(spec)


def test_tensors_other_than_world_json_says_are_refused(bench: Bench, tmp_path: Path) -> None:
    spec = write_graph(tmp_path / "odd.onnx", "fp16", outputs={"modulation": ["float32", [None, 7]]})
    with pytest.raises(DiamondError, match=r"modulation is float32 \(any, 7\)"):
        bench.plans().obtain(spec)


@pytest.mark.parametrize(
    "call",
    [
        *("Builder", "create_network", "set_memory_pool_limit", "set_compute_capability"),
        *("add_optimization_profile", "build_serialized_network", "deserialize_cuda_engine"),
        "create_engine_inspector",
    ],
)
def test_every_call_that_can_fail_is_an_error_with_tensorrts_line_and_keeps_nothing(
    bench: Bench, call: str
) -> None:
    bench.api.broken.add(call)
    with pytest.raises(DiamondError, match=f"Error Code 9: {call} said no"):
        bench.plans(options=BuildOptions(workspace_bytes=1 << 30)).obtain(bench.spec)
    assert not bench.cache.folder.exists()


def test_too_little_memory_is_said_before_the_build(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine import space

    monkeypatch.setattr(space, "available_memory_bytes", lambda: building.MEMORY_BASE_BYTES)
    with pytest.raises(DiamondError, match=r"400\.00 MB of memory available\.\n.*for building a plan"):
        bench.plans().obtain(bench.spec)
    assert not bench.said


def test_plans_that_others_may_write_are_not_opened_and_not_replaced(bench: Bench) -> None:
    bench.plans().obtain(bench.spec)
    bench.file(".plan").chmod(0o666)
    with pytest.raises(DiamondError, match="others may write it"):
        bench.plans().obtain(bench.spec)
    assert len(bench.api.built) == 1


def test_a_full_disk_keeps_nobody_from_playing_but_is_an_error_of_make(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "free_disk_bytes", lambda path: 1)
    assert bench.plans().obtain(bench.spec).types == {"fp16": 2}
    assert bench.said[-1].startswith("upsampler_conditioner (fp16): its plan is not kept: ")
    with pytest.raises(DiamondError, match="the plan"):
        bench.plans().make(bench.spec)
    assert not list(bench.cache.folder.glob("*.plan"))


def test_make_builds_opens_and_says_when_there_is_nothing_to_do(bench: Bench) -> None:
    assert bench.plans().make(bench.spec)
    assert not bench.plans().make(bench.spec)
    assert bench.said[-1] == "upsampler_conditioner (fp16): has a plan already"
    assert bench.plans().make(bench.spec, force=True)
    assert bench.plans(options=BuildOptions(5)).make(bench.spec), "built with other options"
    assert not bench.plans(options=BuildOptions(5)).make(bench.spec)
    bench.plans().obtain(bench.spec)
    assert len(bench.api.built) == 3, "who asks for no options takes any"


def test_without_a_gpu_a_plan_is_built_for_any_rtx_card_and_rebuilt_on_one(bench: Bench) -> None:
    assert bench.plans(gpu=None).make(bench.spec)
    assert not bench.plans(gpu=None).make(bench.spec)
    (built,) = bench.api.built
    assert built["target"] is None
    sidecar = json.loads(bench.file(".json").read_text())
    assert sidecar["layers"]["plan"] == "not read back: there was no GPU to open it"
    bench.plans().obtain(bench.spec)
    assert any("gpu was none, is NVIDIA GeForce RTX 4090" in line for line in bench.said)


def test_tensorrt_rtx_keeps_the_kernels_it_compiled(bench: Bench) -> None:
    keeper = bench.plans()
    plan = keeper.obtain(bench.spec)
    plan.ready(10**9, keeper.kernels(plan))
    keeper.keep_kernels(plan)
    assert bench.file(".kernels").read_bytes() == b"compiled "
    again = bench.plans().obtain(bench.spec)
    again.ready(10**9, keeper.kernels(again))
    assert bench.api.kernels == [b"compiled "], "handed back in"
    bench.plans().make(bench.spec, force=True)
    assert not list(bench.cache.folder.glob("*.kernels")), "those of the plan before"


def test_kernels_that_cannot_be_kept_are_said_and_no_failure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = bench.plans()
    plan = keeper.obtain(bench.spec)
    plan.ready(10**9)
    bench.cache.folder.chmod(0o770)
    keeper.keep_kernels(plan)
    assert "its compiled kernels are not kept" in bench.said[-1]


def test_tensorrt_keeps_what_it_timed_and_none_of_another_gpu(bench: Bench) -> None:
    bench.plans(is_rtx=False).obtain(bench.spec)
    assert bench.cache.read(TIMING_CACHE) == b"timed "
    bench.plans(is_rtx=False).make(bench.spec, force=True)
    assert bench.cache.read(TIMING_CACHE) == b"timed timed "
    bench.api.broken.add("set_timing_cache")  # what TensorRT says to one of another GPU
    bench.plans(is_rtx=False).make(bench.spec, force=True)
    assert bench.api.timing[-1] == b""
    assert bench.cache.read(TIMING_CACHE) == b"timed "
    assert all(built["target"] is None for built in bench.api.built)


@pytest.mark.parametrize("options", [(6, None), (-1, None), (None, 1000)])
def test_options_out_of_range_are_refused(options: tuple[int | None, int | None]) -> None:
    with pytest.raises(DiamondError, match=r"--opt-level|--workspace"):
        BuildOptions(*options)


def test_more_rows_than_plans_are_built_for_are_refused(bench: Bench) -> None:
    plan = bench.plans().obtain(bench.spec)
    plan.ready(10**9)
    plan.prepare(ROWS[-1])
    with pytest.raises(DiamondError, match="129 evaluations a frame"):
        plan.prepare(ROWS[-1] + 1)


def test_a_plan_that_does_not_fit_the_gpu_is_refused(bench: Bench) -> None:
    plan = bench.plans().obtain(bench.spec)
    with pytest.raises(DiamondError, match="999 bytes of GPU memory free"):
        plan.ready(999)
