"""The device is CUDA, then MPS, then the CPU; and an evaluation leaves the process as it found it."""

from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

from engine.torch_graph import device as device_module  # noqa: E402
from engine.torch_graph.device import Device  # noqa: E402


def made_up(cuda: bool = False, mps: bool = False, hip: str | None = None, bf16: bool = True) -> Any:
    """A PyTorch on another machine."""
    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_available=lambda: cuda,
            get_device_capability=lambda index: (9, 0),
            get_device_name=lambda index: "A GPU",
            is_bf16_supported=lambda: bf16,
        ),
        backends=SimpleNamespace(
            mps=SimpleNamespace(is_available=lambda: mps),
            cpu=SimpleNamespace(get_cpu_capability=lambda: "AVX512"),
        ),
        cpu=SimpleNamespace(get_capabilities=lambda: {"cpu_name": "A CPU", "avx512_bf16": bf16, "l2": 3}),
        version=SimpleNamespace(hip=hip, cuda="13.0"),
        device=torch.device,
    )


@pytest.mark.parametrize(
    ("settings", "kind", "precisions"),
    [
        ({"cuda": True, "mps": True}, "cuda", ("fp16", "bf16", "fp32")),
        ({"cuda": True, "bf16": False}, "cuda", ("fp16", "fp32")),
        ({"mps": True}, "mps", ("fp16", "fp32")),
        ({}, "cpu", ("bf16", "fp32")),
        ({"bf16": False}, "cpu", ("fp32",)),
    ],
)
def test_the_best_device_is_taken_with_what_it_runs_well(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], kind: str, precisions: tuple[str, ...]
) -> None:
    monkeypatch.setattr(device_module, "torch_library", lambda: made_up(**settings))
    device = Device(threads=2)
    assert (device.kind, device.precisions, device.place.type) == (kind, precisions, kind)
    assert not device.is_rocm


def test_rocm_is_told_apart_from_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "torch_library", lambda: made_up(cuda=True, hip="7.1"))
    device = Device()
    assert (device.kind, device.is_rocm, device.hardware) == ("cuda", True, "A GPU, 9.0, ROCm 7.1")


def test_compiled_code_is_for_one_kind_of_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = set()
    for bf16 in (True, False):
        monkeypatch.setattr(device_module, "torch_library", lambda bf16=bf16: made_up(bf16=bf16))
        texts.add(Device().hardware)
        assert Device().hardware.startswith("A CPU, AVX512, features ")
    assert len(texts) == 2


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_threads_are_set_for_the_evaluation_only() -> None:
    before = torch.get_num_threads()
    seen = []

    def fail_within() -> None:
        with Device(threads=before + 1).computing():
            seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert seen == [(before + 1, True)]
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()
