"""bf16 on ONNX Runtime's CPU: the native operators compute it from a world's fp32 graphs, where the processor can."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from engine import backends, native
from engine.backends import open_backend
from engine.backends.base import Backend
from engine.backends.ort import OrtBackend
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.loading import load_world
from engine.world import World
from tests.engine.backends.typed_world import rollout, worst_db, write_typed_bundle
from tests.engine.doubles import NumpyBackend

pytest.importorskip("onnxruntime", reason="no ONNX Runtime to test")

has_bf16 = pytest.mark.skipif(
    not native.kernels("bf16"),
    reason=f"no native operators for bf16: {native.missing() or 'this processor does not multiply in it'}",
)


def frames(precision: str, threads: int = 1) -> list[npt.NDArray[np.uint8]]:
    """Three frames of the world in the package."""
    return rollout(load_world("freedoom", "ort", precision, threads=threads, verify=False), 3)


@has_bf16
def test_the_embedded_world_plays_in_bf16_from_its_fp32_graphs_and_says_so() -> None:
    with load_world("freedoom", "ort", "bf16", threads=1, verify=False) as world:
        assert world.bundle.precisions == ("fp32",)
        assert (world.precision, world.graphs_precision) == ("bf16", "fp32")
        described = world.describe()
    assert described.startswith("freedoom: bf16 on ONNX Runtime")
    assert f" native operators ({native.kernels('bf16')})" in described


@has_bf16
def test_its_frames_are_close_to_those_in_fp32() -> None:
    worst = worst_db(frames("bf16"), frames("fp32"))
    assert 40 <= worst < np.inf, f"{worst:.1f} dB"


@has_bf16
def test_its_frames_are_the_same_again_and_on_two_threads() -> None:
    once = frames("bf16")
    np.testing.assert_array_equal(frames("bf16"), once)
    np.testing.assert_array_equal(frames("bf16", threads=2), once)


def test_unasked_a_world_plays_in_fp32_and_runs_the_files_that_it_names() -> None:
    with load_world("freedoom", "ort", threads=1, verify=False) as world:
        assert (world.precision, world.graphs_precision) == ("fp32", "fp32")


@pytest.mark.parametrize("kernels", ["off", "avx2"])
def test_without_the_kernels_bf16_is_one_clear_error(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.SWITCH, kernels)
    assert OrtBackend().precisions == ("fp32", "int8")
    with pytest.raises(DiamondError, match=r"world 'freedoom': has no graphs in precision 'bf16'") as failure:
        load_world("freedoom", "ort", "bf16", verify=False)
    assert failure.value.expected == "one of ['fp32']"
    assert failure.value.fix == "make them: diamond-export freedoom --precision bf16"


@has_bf16
def test_auto_takes_it_for_bf16_only_where_it_has_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_bf16(threads: int | None) -> Backend:
        backend = NumpyBackend()
        backend.precisions = ("bf16",)
        return backend

    monkeypatch.setattr(backends, "_OPENERS", {"ort": backends._open_ort, "numpy": in_bf16})
    assert open_backend("auto", precision="bf16").name == "ort"
    monkeypatch.setenv(native.SWITCH, "avx2")
    picked = open_backend("auto", precision="bf16")
    assert picked.name == "numpy"
    assert picked.why == "picked by auto: not ort: runs fp32 and int8 well, not bf16"


# Worlds that have bf16 graphs as well.


@pytest.fixture(scope="module")
def typed_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="the bf16 graphs are made with onnx")
    return write_typed_bundle(tiny_bundle, tmp_path_factory.mktemp("typed") / "tiny", ("bf16",))


@has_bf16
def test_a_world_with_bf16_graphs_plays_all_the_same_from_its_fp32_ones(
    typed_bundle: Path, tiny_bundle: Path
) -> None:
    worlds = [load_world(path, "ort", "bf16", threads=1) for path in (typed_bundle, tiny_bundle)]
    assert [world.graphs_precision for world in worlds] == ["fp32", "fp32"]
    with_graphs, without = (rollout(world, 3) for world in worlds)
    np.testing.assert_array_equal(with_graphs, without)


def test_without_the_kernels_its_bf16_graphs_are_one_clear_error(
    typed_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.SWITCH, "off")
    with pytest.raises(DiamondError, match=r"ONNX Runtime's CPU can't compute in bf16"):
        load_world(typed_bundle, "ort", "bf16")


def test_an_export_is_verified_by_its_own_graphs(typed_bundle: Path) -> None:
    """Not by what the native operators make of the fp32 ones: others run the files."""
    pytest.importorskip("torch", reason="the exporter needs PyTorch")
    from export.playing import open_ort

    bundle, backend = Bundle.open(typed_bundle), open_ort()
    for role in bundle.manifest.graphs["bf16"]:
        spec = backend.spec(bundle, "bf16", role)
        assert (spec, spec.computed_from) == (bundle.graph("bf16", role), "")
        assert spec.path == typed_bundle / "bf16" / f"{role}.onnx"
    backend.close()


# What is behind it, on any machine.


def test_a_graph_that_is_computed_in_another_precision_keeps_its_file_and_says_which(
    make_world: Callable[..., Path],
) -> None:
    backend, bundle = NumpyBackend(), Bundle.open(make_world())
    backend.computes_from = {"bf16": "fp32"}
    spec, file = backend.spec(bundle, "bf16", "denoiser"), bundle.graph("fp32", "denoiser")
    assert (spec.precision, spec.computed_from, spec.path) == ("bf16", "fp32", file.path)
    assert (spec.inputs, spec.outputs) == (file.inputs, file.outputs)
    assert backend.spec(bundle, "fp32", "denoiser") == file
    with pytest.raises(DiamondError, match="has no graphs in precision 'fp16'"):
        backend.spec(bundle, "fp16", "denoiser")
    with World(bundle, backend, "bf16") as world:
        assert (world.precision, world.graphs_precision) == ("bf16", "fp32")
        assert {graph.spec.computed_from for graph in backend.loaded} == {"fp32"}
