"""int8 on ONNX Runtime's CPU: where the processor multiplies bytes, native operators compute it from fp32 graphs."""

import numpy as np
import pytest

from engine import native
from engine.backends.ort import OrtBackend
from engine.bundle import Bundle
from engine.catalog import resolve
from engine.loading import load_world
from tests.engine.native.cases import has_int8

pytest.importorskip("onnxruntime", reason="no ONNX Runtime to test")

FRAMES = 16


def frames(precision: str, spawn: int = 0, threads: int = 1) -> np.ndarray:
    """The world in the package under the recorded actions of a spawn: uint8 (FRAMES, H, W, 3)."""
    with load_world("freedoom", "ort", precision, threads=threads, verify=False) as world:
        world.reset(spawn)
        actions = world.next_actions
        return np.stack([world.step(actions[index]).rgb for index in range(FRAMES)])


@has_int8
def test_the_embedded_world_plays_in_int8_from_its_fp32_graphs_and_says_so() -> None:
    with load_world("freedoom", "ort", "int8", threads=1, verify=False) as world:
        assert world.bundle.precisions == ("fp32",)
        assert (world.precision, world.graphs_precision) == ("int8", "fp32")
        assert f" native operators ({native.kernels('int8')})" in world.describe()


@has_int8
@pytest.mark.parametrize("spawn", [0, 5, 9])
def test_every_frame_is_near_the_one_that_fp32_paints_from_the_same_state(spawn: int) -> None:
    """From the same state each time: what a rollout adds is the world's own doing, in bf16 as in int8."""
    found = []
    with (
        load_world("freedoom", "ort", "fp32", threads=1, verify=False) as exact,
        load_world("freedoom", "ort", "int8", threads=1, verify=False) as rounded,
    ):
        exact.reset(spawn)
        rounded.reset(spawn)
        for action in exact.next_actions[:FRAMES]:
            rounded.restore(exact.snapshot())
            error = rounded.step(action).rgb.astype(float) - exact.step(action).rgb
            found.append(10 * np.log10(255**2 / np.square(error).mean()))
    assert len(found) == FRAMES
    assert max(found) < 60, "nothing was rounded"
    assert min(found) >= 40, f"{found} dB"
    assert np.mean(found) >= 45, f"{found} dB"


@has_int8
def test_a_rollout_parts_from_fp32_slowly() -> None:
    """From a start that amplifies little: from others, 0 and 9, rollouts part sooner, from 0 in bf16 as well."""
    error = (frames("int8", 5).astype(float) - frames("fp32", 5)) ** 2
    found = [10 * np.log10(255**2 / error[:count].mean()) for count in (1, 8, FRAMES)]
    for psnr, least in zip(found, (40, 32, 25), strict=True):
        assert psnr >= least, f"{found} dB"


@has_int8
def test_its_frames_are_the_same_again_and_on_two_threads() -> None:
    once = frames("int8")
    np.testing.assert_array_equal(frames("int8"), once)
    np.testing.assert_array_equal(frames("int8", threads=2), once)


@pytest.mark.parametrize("kernels", ["off", "avx2"])
def test_without_the_kernels_int8_is_of_exported_graphs(
    kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.SWITCH, kernels)
    backend, bundle = OrtBackend(), Bundle.open(resolve("freedoom"), verify=False)
    assert "int8" in backend.precisions
    assert not backend.computes_from
    with pytest.raises(Exception, match="has no graphs in precision 'int8'"):
        backend.spec(bundle, "int8", "denoiser")
