"""The backend trt against doubles of TensorRT and CUDA; what it says on a machine without them."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from engine import backends
from engine.backends import open_backend, tensorrt
from engine.backends.tensorrt import TensorRtBackend, TensorRtGraph
from engine.cuda.gpu import Gpu
from engine.errors import DiamondError
from engine.graphs import TensorSpec
from tests.engine.tensorrt.doubles import FakeApi, FakeCuda, fake_flavour, write_graph

GPU = Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, "580.95.05, CUDA 13.0", "13.4")


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def cuda(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A machine with a GPU and TensorRT-RTX."""
    cuda = FakeCuda()
    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tensorrt, "Cuda", lambda: cuda)
    monkeypatch.setattr(tensorrt, "describe_gpu", lambda cuda: GPU)
    monkeypatch.setattr(tensorrt, "free_bytes", lambda: 10**9)
    monkeypatch.setattr(tensorrt, "installed", lambda: ("tensorrt_rtx_bindings",))
    monkeypatch.setattr(tensorrt, "load_flavour", lambda: fake_flavour(api))
    return cuda


def test_graphs_run_and_everything_is_given_back(cuda: FakeCuda, tmp_path: Path) -> None:
    said: list[str] = []
    backend = TensorRtBackend(say=said.append)
    graph = backend.load(write_graph(tmp_path / "graph.onnx", "fp16"))
    assert "building a plan" in said[0]
    for rows in (1, 3):
        levels = np.arange(rows, dtype=np.float32)
        modulation = graph.run({"c_noise": levels, "c_noise_cond": levels + 1})["modulation"]
        assert modulation.shape == (rows, 6)
        assert (modulation == 2 * levels.sum() + rows).all()
    assert backend.describe() == "TensorRT-RTX 1.7.1, NVIDIA GeForce RTX 4090, 2 fp16"
    assert cuda.left() == 4
    backend.close()
    assert cuda.left() == 0


def test_the_next_start_finds_plan_and_kernels(cuda: FakeCuda, api: FakeApi, tmp_path: Path) -> None:
    spec = write_graph(tmp_path / "graph.onnx", "fp16")
    for _ in range(2):
        backend = TensorRtBackend(say=lambda line: None)
        backend.load(spec)
        backend.close()
    assert (len(api.built), api.kernels) == (1, [b"compiled "])


def test_a_graph_runs_in_a_stream_and_buffers_of_the_callers(cuda: FakeCuda, tmp_path: Path) -> None:
    graph = TensorRtBackend(say=lambda line: None).load(write_graph(tmp_path / "graph.onnx", "fp16"))
    assert isinstance(graph, TensorRtGraph)
    inputs = (ctypes.c_float * 2)(1, 2)
    output = (ctypes.c_float * 12)()
    graph.prepare(2)
    address = ctypes.addressof(inputs)
    graph.enqueue(3, {"c_noise": address, "c_noise_cond": address, "modulation": ctypes.addressof(output)})
    assert list(output) == [6.0] * 12


def test_a_plan_that_does_not_tell_its_types_is_described_so(
    cuda: FakeCuda, api: FakeApi, tmp_path: Path
) -> None:
    api.plan_dtype = ""
    backend = TensorRtBackend(say=lambda line: None)
    backend.load(write_graph(tmp_path / "graph.onnx", "fp16"))
    assert backend.describe().endswith("types as in the graph; the plan does not tell them")


@pytest.mark.parametrize("call", ["create_execution_context", "set_tensor_address", "execute_async_v3"])
def test_a_failure_of_tensorrt_is_an_error_with_its_line_and_gives_all_back(
    cuda: FakeCuda, api: FakeApi, tmp_path: Path, call: str
) -> None:
    api.broken.add(call)
    backend = TensorRtBackend(say=lambda line: None)
    with pytest.raises(DiamondError, match=f"Error Code 9: {call} said no"):
        backend.load(write_graph(tmp_path / "graph.onnx", "fp16"))
    backend.close()
    assert cuda.left() == 0


def test_auto_takes_it_where_the_probe_computes(
    cuda: FakeCuda, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_OPENERS", {"trt": backends._open_trt, "ort": backends._open_ort})
    backend = open_backend("auto")
    assert (backend.name, backend.why) == ("trt", "picked by auto: the first that runs here")
    assert "fp32" not in backend.describe(), "the probe's product is not the world's"
    backend.close()
    api.broken.add("execute_async_v3")
    pytest.importorskip("onnxruntime")
    backend = open_backend("auto")
    assert backend.name == "ort"
    assert backend.why == (
        "picked by auto: not trt: probe (fp32): running it: "
        "TensorRT-RTX failed: Error Code 9: execute_async_v3 said no"
    )


def test_a_gpu_that_tensorrt_rtx_does_not_run_on_is_refused(cuda: FakeCuda) -> None:
    cuda.capability = (9, 0)
    with pytest.raises(DiamondError, match=r"compute capability 9\.0"):
        TensorRtBackend()


def test_without_tensorrt_the_extra_is_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.tensorrt import flavour

    monkeypatch.setattr(tensorrt, "installed", lambda: ())
    monkeypatch.setattr(flavour, "installed", lambda: ())
    flavour.load_flavour.cache_clear()
    with pytest.raises(DiamondError, match="backend trt: TensorRT is not installed") as failure:
        open_backend("trt")
    assert failure.value.fix == 'pip install "diamond-engine[trt]"'


def test_without_a_gpu_the_reason_names_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise DiamondError("CUDA: there is no NVIDIA driver here", "a driver", "install it")

    monkeypatch.setattr(tensorrt, "installed", lambda: ("tensorrt_rtx_bindings",))
    monkeypatch.setattr(tensorrt, "Cuda", no_driver)
    with pytest.raises(DiamondError, match="backend trt: CUDA: there is no NVIDIA driver here") as failure:
        open_backend("trt")
    assert (failure.value.expected, failure.value.fix) == ("a driver", "install it")


def test_a_tensor_of_the_largest_size_has_room() -> None:
    assert tensorrt._largest_bytes(TensorSpec("float32", (None, 6))) == 128 * 6 * 4
    assert tensorrt._largest_bytes(TensorSpec("float32", (1, 3, 30, 56))) == 3 * 30 * 56 * 4
