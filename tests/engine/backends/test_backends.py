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


@pytest.mark.parametrize("name", ["trt", "torch", "openvino", "ORT", ""])
def test_a_backend_that_does_not_exist_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(DiamondError, match=rf"backend '{name}'.*\n.*\['auto', 'ort'\]"):
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
    assert open_backend().why == "picked by auto: not ort: backend ort: not installed"
    monkeypatch.setattr(backends, "_OPENERS", {"numpy": present, "ort": missing})
    assert open_backend().why == "picked by auto: the first that runs here"


def test_auto_gives_every_reason_when_none_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_OPENERS", {"ort": missing, "other": missing})
    with pytest.raises(DiamondError, match=r"none runs here: ort: .*; other: (.|\n)*pip install it"):
        open_backend("auto")
