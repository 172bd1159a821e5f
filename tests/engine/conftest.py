"""Worlds for the tests of the engine; the doubles they are made of are in doubles.py."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.backends import open_backend
from engine.backends.base import Backend
from engine.bundle import Bundle, write_bundle
from engine.graphs import Sizes
from engine.world import World
from tests.engine.doubles import NumpyBackend, TorchBackend
from tests.engine.interpreter import NumpyProgramBackend, ProgramBackend
from tests.engine.tiny_world import TINY, world_files, world_json


@pytest.fixture
def make_world(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tiny world whose graphs are stand-ins; gives its directory."""

    def make(sizes: Sizes = TINY, precisions: tuple[str, ...] = ("fp32",)) -> Path:
        manifest = world_json(sizes, precisions)
        return write_bundle(tmp_path / "tiny", manifest, world_files(tmp_path, manifest, sizes))

    return make


@pytest.fixture(params=["graph by graph", "whole frames"])
def numpy_backend(request: pytest.FixtureRequest) -> NumpyBackend:
    """A backend in numpy: the engine walks through its frames, or it has a runner of its own that does."""
    return NumpyBackend() if request.param == "graph by graph" else NumpyProgramBackend()


@pytest.fixture
def world(make_world: Callable[..., Path], numpy_backend: NumpyBackend) -> Iterator[World]:
    with World(Bundle.open(make_world()), numpy_backend, seed=3) as world:
        yield world


@pytest.fixture(scope="session")
def stand_in_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny world for the PyTorch double, which brings its own weights."""
    scratch = tmp_path_factory.mktemp("stand_in")
    manifest = world_json()
    return Bundle.open(write_bundle(scratch / "tiny", manifest, world_files(scratch, manifest)))


@pytest.fixture(params=["torch", "ort", "ort in whole frames"])
def published(request: pytest.FixtureRequest) -> Iterator[tuple[Bundle, Backend]]:
    """The published tiny networks: run by PyTorch, and as exported, run by ONNX Runtime."""
    backend: Backend
    if request.param == "torch":
        pytest.importorskip("torch", reason="the reference networks need PyTorch")
        bundle, backend = request.getfixturevalue("stand_in_bundle"), TorchBackend()
    else:
        pytest.importorskip("onnxruntime", reason="the exported networks need ONNX Runtime")
        bundle, backend = Bundle.open(request.getfixturevalue("tiny_bundle")), open_backend("ort")
        if request.param == "ort in whole frames":
            backend = ProgramBackend(backend)
    yield bundle, backend
    backend.close()
