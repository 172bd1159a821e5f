"""A world on the backend trt plays as whole frames: TensorRT's double inside the frame of a CPU in disguise.

Frame by frame, called directly: the double computes when it is asked to, and a capture would only write it down.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.backends import tensorrt
from engine.backends.tensorrt import TensorRtBackend
from engine.bundle import Bundle, write_bundle
from engine.cuda.gpu import Gpu
from engine.program.program_runner import ProgramRunner
from engine.world import World
from tests.engine.cuda.fake_cuda import FakeCuda
from tests.engine.playing import WALK, play
from tests.engine.tensorrt.doubles import FakeApi, fake_flavour
from tests.engine.tiny_world import world_files, world_json


@pytest.fixture
def world(tmp_path: Path) -> Bundle:
    """A tiny world whose graphs are those of TensorRT's double."""
    manifest = world_json()
    files = world_files(tmp_path, manifest)
    for graph in manifest["graphs"]["fp32"].values():
        sides = {
            side: {name: [tensor["dtype"], tensor["shape"]] for name, tensor in graph[side].items()}
            for side in ("inputs", "outputs")
        }
        files[graph["file"]] = json.dumps({**sides, "layers": [["MATRIX_MULTIPLY", "FLOAT"]]}).encode()
    return Bundle.open(write_bundle(tmp_path / "world", manifest, files))


@pytest.fixture
def backend(
    fake: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[FakeApi], TensorRtBackend]:
    gpu = Gpu("a CPU in disguise", (8, 9), 10**9, "CUDA 13.0", "13.0")
    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tensorrt, "describe_gpu", lambda cuda: gpu)
    monkeypatch.setattr(tensorrt, "free_bytes", lambda: 10**9)
    monkeypatch.setattr(tensorrt, "installed", lambda: ("tensorrt_rtx_bindings",))

    def make(api: FakeApi) -> TensorRtBackend:
        monkeypatch.setattr(tensorrt, "load_flavour", lambda: fake_flavour(api))
        return TensorRtBackend(say=lambda line: None)

    return make


def test_a_world_plays_whole_frames_and_gives_everything_back(
    fake: FakeCuda, world: Bundle, backend: Callable[[FakeApi], TensorRtBackend]
) -> None:
    api = FakeApi()
    with World(world, backend(api), seed=3, cuda_graph=False) as played:
        assert isinstance(played._runner, ProgramRunner)
        frames = play(played, WALK)
        played.set_preset("quality")  # another number of evaluations: the free axes are fixed anew
        frames += play(played, WALK)
        assert played.describe().startswith("tiny: fp32 on TensorRT-RTX 1.7.1, ")
    assert len(api.built) == 4
    assert all(np.isfinite(frame.rgb).all() for frame in frames)
    assert not {name: left for name, left in fake.left.items() if name != "libraries"}
    with World(world, backend(api), seed=3, cuda_graph=False) as again:
        for ours, theirs in zip(play(again, WALK), frames, strict=False):
            np.testing.assert_array_equal(ours.rgb, theirs.rgb)
    assert len(api.built) == 4, "the plans were kept"
    assert api.kernels == [b"compiled "] * 4
