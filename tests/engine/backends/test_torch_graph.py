"""The backend torch on the CPU: the frames that `ort` paints; when auto takes it; what it says where it cannot run.

Bounds: fp32 evaluations differ from ONNX Runtime's by one grey level on at most 0.5 % of the values; fp16 and bf16
ones by half a level on average. Rollouts: fp32 above 50 dB, fp16 and bf16 above 35 dB, the worst of the frames.
"""

import builtins
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
onnx = pytest.importorskip("onnx", reason="the extra `torch` is not installed")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to compare with")

from engine import backends  # noqa: E402
from engine.backends import open_backend, torch_graph  # noqa: E402
from engine.backends.base import Backend  # noqa: E402
from engine.backends.torch_graph import TorchBackend  # noqa: E402
from engine.bundle import Bundle  # noqa: E402
from engine.catalog import embedded  # noqa: E402
from engine.errors import DiamondError  # noqa: E402
from engine.loading import load_world  # noqa: E402
from engine.torch_graph import bindings  # noqa: E402
from engine.torch_graph.device import Device  # noqa: E402
from tests.engine.backends.typed_world import evaluate, rollout, worst_db, write_typed_bundle  # noqa: E402
from tests.engine.doubles import NumpyBackend, assert_same_picture  # noqa: E402
from tests.engine.playing import WALK, assert_same_frames, play  # noqa: E402
from tests.engine.torch_graph.small_graphs import product  # noqa: E402

if Device().kind != "cpu":
    pytest.skip("there is a GPU: test_torch_graph_gpu.py is for it", allow_module_level=True)


@pytest.fixture
def backend() -> Iterator[Backend]:
    with_threads = TorchBackend(threads=1, say=lambda line: None)
    yield with_threads
    with_threads.close()


@pytest.fixture(scope="session")
def typed_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with graphs in fp16 and bf16 as well."""
    return write_typed_bundle(tiny_bundle, tmp_path_factory.mktemp("typed") / "tiny", ("fp16", "bf16"))


# Frames.


@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
@pytest.mark.parametrize("world", ["tiny", "freedoom"])
def test_an_fp32_evaluation_is_that_of_onnx_runtime(
    backend: Backend, tiny_bundle: Path, world: str, role: str
) -> None:
    bundle = tiny_bundle if world == "tiny" else embedded(world)
    reference = evaluate(open_backend("ort", threads=1), bundle, "fp32", role)
    assert_same_picture(evaluate(backend, bundle, "fp32", role), reference)


@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_low_evaluation_is_within_half_a_grey_level_of_fp32(
    backend: Backend, typed_bundle: Path, precision: str, role: str
) -> None:
    reference = evaluate(open_backend("ort", threads=1), typed_bundle, "fp32", role)
    levels = np.abs(evaluate(backend, typed_bundle, precision, role) - reference) * 127.5
    assert 0 < levels.mean() < 0.5, f"max {levels.max():.1f}, mean {levels.mean():.3f} grey levels"
    assert f"{precision}" in backend.describe()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_rollout_stays_close_to_that_of_onnx_runtime(typed_bundle: Path, precision: str) -> None:
    ours = rollout(load_world(typed_bundle, "torch", precision, seed=5, threads=1), 8)
    theirs = rollout(load_world(typed_bundle, "ort", "fp32", seed=5, threads=1), 8)
    assert worst_db(ours, theirs) > (50 if precision == "fp32" else 35)


def test_the_embedded_world_plays_as_with_onnx_runtime() -> None:
    ours, theirs = (
        rollout(load_world("freedoom", name, "fp32", seed=5, threads=1), 4) for name in ("torch", "ort")
    )
    assert worst_db(ours, theirs) > 50


def test_a_restored_world_goes_on_to_the_last_bit(tiny_bundle: Path) -> None:
    with load_world(tiny_bundle, "torch", seed=5, threads=1) as world:
        play(world, WALK)
        saved = world.snapshot()
        first = [world.step(action) for action in WALK]
        world.restore(saved)
        assert_same_frames([world.step(action) for action in WALK], first)


def test_a_conditioner_takes_any_number_of_evaluations(backend: Backend, tiny_bundle: Path) -> None:
    spec = Bundle.open(tiny_bundle).graph("fp32", "upsampler_conditioner")
    ours, theirs = backend.load(spec), open_backend("ort", threads=1).load(spec)
    for rows in (1, 13, 3, 1):
        levels = np.linspace(-1, 1, rows).astype(np.float32)
        inputs = {"c_noise": levels, "c_noise_cond": levels}
        np.testing.assert_allclose(
            ours.run(inputs)["modulation"], theirs.run(inputs)["modulation"], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nan_inside_a_network_comes_out_as_nan(backend: Backend, typed_bundle: Path, precision: str) -> None:
    graph = backend.load(Bundle.open(typed_bundle).graph(precision, "denoiser"))
    inputs = {
        name: np.zeros(tensor.shape, np.float32)  # type: ignore[arg-type]
        for name, tensor in graph.spec.inputs.items()
    }
    inputs["modulation"][...] = np.nan
    assert np.isnan(graph.run(inputs)["denoised"]).any()


def test_the_callers_arrays_are_only_read_and_results_are_contiguous(
    backend: Backend, tiny_bundle: Path
) -> None:
    graph = backend.load(Bundle.open(tiny_bundle).graph("fp32", "denoiser"))
    inputs = {
        name: np.full(tensor.shape, 0.25, np.float32)  # type: ignore[arg-type]
        for name, tensor in graph.spec.inputs.items()
    }
    for array in inputs.values():
        array.flags.writeable = False
    denoised = graph.run(inputs)["denoised"]
    assert denoised.flags.c_contiguous
    assert all((array == 0.25).all() for array in inputs.values())


def test_what_is_closed_does_not_run_and_closing_twice_is_harmless(tmp_path: Path, backend: Backend) -> None:
    graph = backend.load(product(tmp_path / "graph.onnx"))
    backend.close()
    backend.close()
    levels = np.zeros(2, np.float32)
    with pytest.raises(DiamondError, match="closed"):
        graph.run({"c_noise": levels, "c_noise_cond": levels})
    with pytest.raises(DiamondError, match="backend torch: closed"):
        backend.load(graph.spec)


def test_a_world_in_int8_only_is_refused(backend: Backend, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(DiamondError, match=r"does not run int8(.|\n)*play with --backend ort"):
        backend.load(replace(product(tmp_path / "graph.onnx"), precision="int8"))


def test_the_description_is_of_what_runs(backend: Backend, tmp_path: Path) -> None:
    assert backend.describe() == f"PyTorch {torch.__version__}, CPU, 1 thread"
    backend.load(product(tmp_path / "graph.onnx", "bf16"))
    backend.probe()
    assert backend.describe() == f"PyTorch {torch.__version__}, CPU, 1 thread, layers: 1 bf16, 1 exported"


def test_a_refusal_of_pytorch_is_one_line(backend: Backend, tmp_path: Path) -> None:
    graph: Any = backend.load(product(tmp_path / "graph.onnx"))

    class Broken:
        @staticmethod
        def run(*inputs: Any) -> Any:
            raise RuntimeError("CUDA out of memory. Tried everything\nand a long story")

    graph._program = Broken
    levels = np.zeros(2, np.float32)
    with pytest.raises(DiamondError, match=r"cannot run it: CUDA out of memory\. Tried everything\.\n"):
        graph.run({"c_noise": levels, "c_noise_cond": levels})


# Whole frames: where there are any.


@pytest.mark.parametrize(
    ("kind", "hip", "why"),
    [
        ("mps", None, ""),
        ("cuda", "7.1", "NVIDIA GPUs only"),
        ("cuda", None, "graph by graph, which is slower"),
    ],
)
def test_without_whole_frames_it_says_why(
    monkeypatch: pytest.MonkeyPatch, backend: Any, kind: str, hip: str | None, why: str
) -> None:
    def missing() -> None:
        raise DiamondError("CUDA: cuda-python cannot be imported", "it", "pip install it")

    monkeypatch.setattr(torch_graph, "Cuda", missing)
    monkeypatch.setattr(Device, "is_rocm", property(lambda self: hip is not None))
    backend._device.kind = kind
    cuda, told = backend._frames()
    assert cuda is None
    assert why in told
    assert bool(why) == bool(told)


# Choosing it.


def opener(opened: list[str], name: str, missing: bool = False, last_resort: str = "") -> Any:
    """Opens a backend in numpy by another's name, and notes it."""

    def open_(threads: int | None) -> Backend:
        opened.append(name)
        if missing:
            raise DiamondError(f"backend {name}: not installed", "", f"pip install {name}")
        backend = NumpyBackend()
        backend.name, backend.last_resort = name, last_resort  # type: ignore[misc]
        return backend

    return open_


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """On a made-up machine trt is missing, torch and ort work, and no GPU is found. Gives what was opened."""
    opened: list[str] = []
    openers = {"trt": opener(opened, "trt", missing=True)}
    openers |= {name: opener(opened, name) for name in ("torch", "ort")}
    monkeypatch.setattr(backends, "_OPENERS", openers)
    monkeypatch.setattr(backends, "found_accelerator", lambda: False)
    return opened


def on_the_cpu(opened: list[str]) -> Any:
    return opener(opened, "torch", last_resort="it would run on the CPU, where others are faster")


def test_auto_does_not_even_open_it_where_there_is_no_gpu(opened: list[str]) -> None:
    picked = open_backend("auto")
    assert (picked.name, opened) == ("ort", ["trt", "ort"])
    assert picked.why == "picked by auto: not trt: not installed; torch: no GPU that PyTorch could use"


def test_auto_takes_it_on_a_gpu(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "found_accelerator", lambda: True)
    picked = open_backend("auto")
    assert (picked.name, opened) == ("torch", ["trt", "torch"])
    assert picked.why == "picked by auto: not trt: not installed"


def test_auto_leaves_it_where_its_pytorch_has_no_use_for_the_gpu(
    opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "found_accelerator", lambda: True)
    monkeypatch.setitem(backends._OPENERS, "torch", on_the_cpu(opened))
    picked = open_backend("auto")
    assert (picked.name, opened) == ("ort", ["trt", "torch", "ort"])
    assert "torch: it would run on the CPU, where others are faster" in picked.why


@pytest.mark.parametrize("accelerator", [False, True])
def test_auto_takes_it_on_the_cpu_where_nothing_else_works(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, accelerator: bool
) -> None:
    monkeypatch.setattr(backends, "found_accelerator", lambda: accelerator)
    monkeypatch.setitem(backends._OPENERS, "torch", on_the_cpu(opened))
    monkeypatch.setitem(backends._OPENERS, "ort", opener(opened, "ort", missing=True))
    picked = open_backend("auto")
    assert picked.name == "torch"
    assert picked.why.startswith("picked by auto: the first that runs here; trt: not installed; ")
    assert "ort: not installed" in picked.why


def test_auto_on_a_machine_without_a_gpu_imports_no_pytorch(tmp_path: Path) -> None:
    code = """
import sys
from engine import backends
backends.found_accelerator = lambda: False
assert backends.open_backend("auto").name == "ort"
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("package", "names"), [("torch", "PyTorch"), ("onnx", "ONNX")])
def test_without_a_package_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, package: str, names: str
) -> None:
    real_import: Callable[..., ModuleType] = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> ModuleType:
        if name.split(".")[0] == package and args and args[0].get("__name__") == bindings.__name__:
            raise ImportError(f"No module named {package!r}")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        DiamondError, match=rf"backend torch: {names} cannot be imported \(No module"
    ) as failure:
        open_backend("torch")
    assert failure.value.fix == 'pip install "diamond-engine[torch]"'
