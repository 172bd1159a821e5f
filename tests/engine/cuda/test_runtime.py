"""What a machine lacks is said in words, and what the engine calls is what cuda-python has."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.cuda.runtime import Cuda
from engine.errors import DiamondError
from tests.engine.cuda.fake_cuda import Error, FakeCuda


def test_the_device_is_named(fake: FakeCuda) -> None:
    cuda = Cuda()
    assert (cuda.device, cuda.capability) == ("A CPU in disguise", (8, 9))


def test_no_driver_is_one_clear_message(fake: FakeCuda) -> None:
    fake.failures["cudaGetDeviceCount"] = Error.cudaErrorInsufficientDriver
    with pytest.raises(DiamondError, match="no NVIDIA driver here") as caught:
        Cuda()
    assert "--backend ort" in caught.value.fix


@pytest.mark.parametrize("error", [Error.cudaErrorNoDevice, None])
def test_no_gpu_is_one_clear_message(fake: FakeCuda, error: Error | None) -> None:
    fake.devices = 0
    if error is not None:
        fake.failures["cudaGetDeviceCount"] = error
    with pytest.raises(DiamondError, match="no NVIDIA GPU here"):
        Cuda()


def test_any_other_failure_names_the_call(fake: FakeCuda) -> None:
    fake.failures["cudaGetDeviceCount"] = Error.cudaErrorInvalidValue
    with pytest.raises(DiamondError, match="cudaGetDeviceCount failed: cudaErrorInvalidValue"):
        Cuda()


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(DiamondError, match="cuda-python cannot be imported") as caught:
        Cuda()
    assert "diamond-engine[trt]" in caught.value.fix


def test_a_host_array_is_zeroed_writable_and_freed(fake: FakeCuda) -> None:
    cuda = Cuda()
    array = cuda.allocate_host((2, 3), "float32")
    assert not array.any()
    array[...] = 5
    cuda.free_host(array)
    assert not fake.left


@pytest.fixture
def driverless() -> Cuda:
    """cuda-python itself, on a machine without a driver: it checks its arguments, then says that it can do nothing."""
    pytest.importorskip("cuda.bindings", reason="needs cuda-python")
    from cuda.bindings import driver, runtime

    error, _ = runtime.cudaGetDeviceCount()
    if error != runtime.cudaError_t.cudaErrorInsufficientDriver:
        pytest.skip("there is a driver: it would take these made-up handles seriously")
    cuda = Cuda.__new__(Cuda)
    cuda._runtime, cuda._driver = runtime, driver
    return cuda


CALLS: dict[str, Callable[[Cuda], object]] = {
    "cudaSetDevice": lambda cuda: cuda.activate(),
    "cudaMalloc": lambda cuda: cuda.allocate(8, 77),
    "cudaFree": lambda cuda: cuda.free(1024),
    "cudaHostAlloc": lambda cuda: cuda.allocate_host((2,), "float32"),
    "cudaFreeHost": lambda cuda: cuda.free_host(np.zeros(1)),
    "cudaMemcpyAsync": lambda cuda: cuda.copy(1024, 2048, 8, 77),
    "cudaMemsetAsync": lambda cuda: cuda.clear(1024, 8, 77),
    "cudaStreamCreateWithFlags": lambda cuda: cuda.create_stream(),
    "cudaStreamDestroy": lambda cuda: cuda.destroy_stream(77),
    "cudaStreamSynchronize": lambda cuda: cuda.wait(77),
    "cudaEventCreate": lambda cuda: cuda.create_event(),
    "cudaEventDestroy": lambda cuda: cuda.destroy_event(77),
    "cudaEventRecord": lambda cuda: cuda.record(77, 78),
    "cudaEventElapsedTime": lambda cuda: cuda.elapsed_ms(77, 78),
    "cudaStreamBeginCapture": lambda cuda: cuda.begin_capture(77),
    "cudaStreamEndCapture": lambda cuda: cuda.end_capture(77),
    "cudaGraphDestroy": lambda cuda: cuda.instantiate(77, 78),  # in the end, whatever came of it
    "cudaGraphLaunch": lambda cuda: cuda.launch_graph(77, 78),
    "cudaGraphExecDestroy": lambda cuda: cuda.destroy_graph(77),
    "cudaLibraryLoadData": lambda cuda: cuda.load_kernels(b"cubin", ["roll"]),
}


@pytest.mark.parametrize("name", CALLS)
def test_cuda_python_takes_our_arguments(driverless: Cuda, name: str) -> None:
    with pytest.raises(DiamondError, match=f"CUDA: {name} failed: cudaErrorInsufficientDriver"):
        CALLS[name](driverless)


def test_cuda_python_takes_our_arguments_to_the_rest(driverless: Cuda) -> None:
    runtime = driverless._runtime
    for call, arguments in (
        ("cudaGraphInstantiate", (77, 0)),
        ("cudaGraphUpload", (77, 78)),
        ("cudaLibraryGetKernel", (77, b"roll")),
        ("cudaGetDeviceProperties", (0,)),
        ("cudaDeviceGetAttribute", (runtime.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor, 0)),
    ):
        error, *_ = getattr(runtime, call)(*arguments)
        assert error == runtime.cudaError_t.cudaErrorInsufficientDriver, call
    driverless.abandon_capture(77)
    assert isinstance(runtime.cudaDeviceProp().name, bytes)


def test_the_disguise_has_no_call_that_cuda_python_lacks(fake: FakeCuda, driverless: Cuda) -> None:
    ours: dict[str, Any] = vars(fake.runtime)
    for name, value in ours.items():
        assert hasattr(driverless._runtime, name), name
        if isinstance(value, SimpleNamespace):
            for member in vars(value):
                assert hasattr(getattr(driverless._runtime, name), member), f"{name}.{member}"
    for error in Error:
        assert int(getattr(driverless._runtime.cudaError_t, error.name)) == error


def test_without_a_driver_the_real_thing_says_so(driverless: Cuda) -> None:
    with pytest.raises(DiamondError, match="no NVIDIA driver here"):
        Cuda()
