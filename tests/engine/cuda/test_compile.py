"""The kernels, compiled by NVRTC for every generation of GPU, without one: they fit, and nothing spills."""

import re

import pytest

from engine.cuda.calls import KERNELS, THREADS
from engine.cuda.compile import compile_kernels, kernel_source
from engine.errors import DiamondError
from tests.engine.cuda.fake_cuda import FakeCuda
from tests.engine.cuda.made_up import SOURCE

REGISTERS_A_THREAD = 64  # a multiprocessor's 65,536 registers then hold 4 blocks of 256 threads


@pytest.fixture
def nvrtc() -> None:
    pytest.importorskip("cuda.bindings", reason="compiling kernels needs cuda-python and nvidia-cuda-nvrtc")


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)])
def test_every_kernel_fits_every_generation(nvrtc: None, capability: tuple[int, int]) -> None:
    cubin, report = compile_kernels(kernel_source(), capability)
    assert cubin.startswith(b"\x7fELF")
    entries = re.findall(r"entry function '(\w+)'", report)
    assert sorted(entries) == sorted(KERNELS)
    registers = [int(number) for number in re.findall(r"Used (\d+) registers", report)]
    print(dict(zip(entries, registers, strict=True)))
    assert max(registers) <= REGISTERS_A_THREAD
    assert THREADS * max(registers) <= 65_536
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert spills == [("0", "0", "0")] * len(KERNELS)
    assert "warning" not in report


def test_the_tests_own_kernels_compile_too(nvrtc: None) -> None:
    compile_kernels(SOURCE, (7, 5))


def test_a_gpu_that_nvrtc_does_not_know_is_refused_with_the_list(nvrtc: None) -> None:
    with pytest.raises(DiamondError, match=r"compute capability 5.2") as caught:
        compile_kernels(kernel_source(), (5, 2))
    assert "8.9" in caught.value.expected


def test_kernels_that_do_not_compile_are_our_mistake(nvrtc: None) -> None:
    with pytest.raises(AssertionError, match="undefined"):
        compile_kernels('extern "C" __global__ void k(float* x) { *x = nonsense; }', (8, 9))


def test_a_missing_nvrtc_is_named(fake: FakeCuda) -> None:
    def missing() -> None:
        raise RuntimeError("no libnvrtc")

    fake.nvrtc.nvrtcGetSupportedArchs = missing
    with pytest.raises(DiamondError, match="NVRTC cannot be loaded") as caught:
        compile_kernels(kernel_source(), (8, 9))
    assert "nvidia-cuda-nvrtc" in caught.value.expected
