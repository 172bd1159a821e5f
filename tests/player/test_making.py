"""Which graphs the published world is made with before it is played for the first time."""

import pytest

from engine import native
from engine.player import making
from engine.player.making import graphs_needed


@pytest.mark.parametrize(
    ("backend", "precision", "gpu", "needed"),
    [
        ("ort", "bf16", True, None),
        ("auto", "int8", False, None),
        ("auto", "bf16", True, "bf16"),  # the GPU's backend may be picked, and runs files
        ("openvino", "bf16", False, "bf16"),
        ("trt", "fp16", True, "fp16"),
        ("auto", "fp16", False, "fp16"),
        ("auto", None, False, None),
    ],
)
def test_graphs_that_native_operators_compute_from_fp32_are_not_made(
    monkeypatch: pytest.MonkeyPatch, backend: str, precision: str | None, gpu: bool, needed: str | None
) -> None:
    monkeypatch.setattr(making, "found_accelerator", lambda: gpu)
    monkeypatch.setattr(native, "kernels", lambda products: "some")
    assert graphs_needed(backend, precision) == needed


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_without_the_kernels_they_are(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr(making, "found_accelerator", lambda: False)
    monkeypatch.setattr(native, "kernels", lambda products: "")
    assert graphs_needed("auto", precision) == graphs_needed("ort", precision) == precision
