"""Choosing a backend: by name without falling back, or by auto with the reasons."""

import pytest

from engine import backends
from engine.backends import open_backend
from engine.backends.base import Backend
from engine.errors import DiamondError
from tests.engine.doubles import NumpyBackend


def missing(threads: int | None) -> Backend:
    raise DiamondError("backend ort: not installed", "onnxruntime", "pip install it")


def present(threads: int | None) -> Backend:
    return NumpyBackend()


def in_bf16(threads: int | None) -> Backend:
    backend = NumpyBackend()
    backend.precisions = ("bf16", "fp32")
    return backend


@pytest.mark.parametrize("name", ["nope", "ORT", ""])
def test_a_backend_that_does_not_exist_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(
        DiamondError, match=rf"backend '{name}'.*\n.*\['auto', 'trt', 'torch', 'ort', 'openvino'\]"
    ):
        open_backend(name)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_threads_must_be_a_positive_integer(threads: int) -> None:
    with pytest.raises(DiamondError, match="threads: "):
        open_backend("auto", threads)


def test_a_backend_asked_for_by_name_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_OPENERS", {"ort": missing, "numpy": present})
    with pytest.raises(DiamondError, match="not installed"):
        open_backend("ort")
    assert open_backend("numpy").why == "asked for by name"


def test_auto_takes_the_first_that_opens_and_says_why_not_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_OPENERS", {"ort": missing, "numpy": present})
    assert open_backend().why == "picked by auto: not ort: not installed"
    monkeypatch.setattr(backends, "_OPENERS", {"numpy": present, "ort": missing})
    assert open_backend().why == "picked by auto: the first that runs here"


def test_auto_takes_the_first_that_runs_the_precision_asked_for_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_OPENERS", {"numpy": present, "low": in_bf16})
    for precision in (None, "fp32"):
        assert open_backend(precision=precision).why == "picked by auto: the first that runs here"
    picked = open_backend(precision="bf16")
    assert picked.precisions == ("bf16", "fp32")
    assert picked.why == "picked by auto: not numpy: runs fp32 well, not bf16"


def test_auto_takes_the_first_that_opens_where_none_runs_the_precision_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends, "_OPENERS", {"ort": missing, "numpy": present, "low": in_bf16})
    picked = open_backend(precision="fp16")
    assert picked.precisions == ("fp32",)
    assert picked.why == (
        "picked by auto: the first that runs here; ort: not installed; "
        "numpy: runs fp32 well, not fp16; low: runs bf16 and fp32 well, not fp16"
    )


def test_auto_gives_every_reason_when_none_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_OPENERS", {"ort": missing, "other": missing})
    with pytest.raises(DiamondError, match=r"none runs here: ort: .*; other: (.|\n)*pip install it"):
        open_backend("auto")
