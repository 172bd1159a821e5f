"""PyTorch on a real NVIDIA GPU: the frames that `ort` paints, captured and called directly, exported and compiled.

Bounds as in test_torch_graph.py, set without a GPU: a first run on one may have to move them, in the open. The embedded
world, captured against direct and against ONNX Runtime: tests/engine/cuda/test_gpu_backends.py.
"""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.backends import open_backend
from engine.errors import DiamondError
from engine.loading import load_world
from engine.program.program_runner import ProgramRunner
from tests.engine.backends.typed_world import evaluate, rollout, worst_db, write_typed_bundle
from tests.engine.doubles import assert_same_picture
from tests.engine.playing import WALK, assert_same_frames, play

pytestmark = pytest.mark.gpu
LOW = ("fp16", "bf16")


@pytest.fixture(scope="session")
def works() -> None:
    """Skips where PyTorch has no NVIDIA GPU, before anything is exported for these tests."""
    try:
        backend = open_backend("torch")
    except DiamondError as error:
        pytest.skip(error.what)
    if getattr(backend, "_cuda", None) is None:
        pytest.skip(f"no whole frames here: {backend.describe()}")
    backend.close()


@pytest.fixture(scope="module", autouse=True)
def home(works: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Programs of these tests, made once."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("DIAMOND_ENGINE_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def typed_bundle(works: None, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with graphs in fp16 and bf16 as well."""
    pytest.importorskip("onnx", reason="typed graphs are made with onnx")
    return write_typed_bundle(tiny_bundle, tmp_path_factory.mktemp("typed") / "tiny", LOW)


def test_the_probe_computes() -> None:
    backend = open_backend("torch")
    backend.probe()
    backend.close()


@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_an_fp32_evaluation_is_that_of_onnx_runtime(typed_bundle: Path, role: str) -> None:
    """TF32 would show here."""
    assert_same_picture(
        evaluate(open_backend("torch"), typed_bundle, "fp32", role),
        evaluate(open_backend("ort"), typed_bundle, "fp32", role),
    )


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_a_low_evaluation_is_within_half_a_grey_level_of_fp32(
    typed_bundle: Path, precision: str, role: str
) -> None:
    low = evaluate(open_backend("torch"), typed_bundle, precision, role)
    levels = np.abs(low - evaluate(open_backend("ort"), typed_bundle, "fp32", role)) * 127.5
    assert 0 < levels.mean() < 0.5, f"max {levels.max():.1f}, mean {levels.mean():.3f} grey levels"


@pytest.mark.parametrize("precision", ["fp32", *LOW])
def test_a_replayed_frame_equals_the_same_calls_made_directly(typed_bundle: Path, precision: str) -> None:
    """Over a change of settings, which captures anew, and with memory taken and given back in between."""
    import torch

    rollouts = []
    for cuda_graph in (True, False):
        with load_world(typed_bundle, "torch", precision, seed=5, cuda_graph=cuda_graph) as world:
            assert isinstance(world._runner, ProgramRunner)
            frames = play(world, WALK)
            world.set_preset("quality")
            for action in WALK:
                frames.append(world.step(action))
                # What others allocate and fill must not be what the capture uses.
                others = [torch.full((1 << 20,), float("nan"), device="cuda") for _ in range(8)]
                del others
                gc.collect()
                torch.cuda.empty_cache()
            rollouts.append(frames)
    assert_same_frames(*rollouts)


@pytest.mark.parametrize("precision", ["fp32", *LOW])
def test_a_rollout_stays_close_to_that_of_onnx_runtime(typed_bundle: Path, precision: str) -> None:
    ours = rollout(load_world(typed_bundle, "torch", precision, seed=5), 16)
    theirs = rollout(load_world(typed_bundle, "ort", "fp32", seed=5), 16)
    assert worst_db(ours, theirs) > 35


def test_two_worlds_play_side_by_side_and_one_outlives_the_other(typed_bundle: Path) -> None:
    first, second = (load_world(typed_bundle, "torch", "fp32", seed=5) for _ in range(2))
    ours, theirs = play(first, WALK), play(second, WALK)
    assert_same_frames(ours, theirs)
    first.close()
    assert_same_frames(play(second, WALK), theirs)
    second.close()


def test_what_a_world_took_of_the_gpu_is_given_back(typed_bundle: Path) -> None:
    import torch

    def used_bytes() -> int:
        gc.collect()
        torch.cuda.empty_cache()
        return int(torch.cuda.memory_reserved())

    load_world(typed_bundle, "torch", "fp32").close()
    before = used_bytes()
    for _ in range(3):
        load_world(typed_bundle, "torch", "fp32").close()
    assert used_bytes() <= before + (32 << 20), "cuBLAS keeps a workspace, and no more"


def test_compiled_programs_are_taken_and_captured(typed_bundle: Path) -> None:
    from export.programs import make_programs

    make_programs(typed_bundle, ["fp16"], False, print)
    rollouts = []
    for cuda_graph in (True, False):
        with load_world(typed_bundle, "torch", "fp16", seed=5, cuda_graph=cuda_graph) as world:
            assert "4 compiled" in world.describe()
            rollouts.append(play(world, WALK))
    assert_same_frames(*rollouts)
