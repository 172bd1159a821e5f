"""A program in somebody else's stream and buffers: on a CPU in disguise, frame by frame, what ONNX Runtime paints.

The disguise calls the program directly: PyTorch computes on the CPU when it is asked to, and a capture would write down
nothing. What a real capture makes of it: test_torch_graph_gpu.py.
"""

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
pytest.importorskip("onnx", reason="the extra `torch` is not installed")

from engine.backends import torch_graph  # noqa: E402
from engine.backends.torch_graph import TorchBackend, TorchGraph  # noqa: E402
from engine.bundle import Bundle  # noqa: E402
from engine.cuda.runtime import Cuda  # noqa: E402
from engine.graphs import TensorSpec  # noqa: E402
from engine.loading import load_world  # noqa: E402
from engine.program.program_runner import ProgramRunner  # noqa: E402
from engine.torch_graph import enqueued  # noqa: E402
from engine.torch_graph.enqueued import CudaWork, Enqueued, tensor_at  # noqa: E402
from engine.world import World  # noqa: E402
from tests.engine.cuda.conftest import fake as fake_fixture  # noqa: E402
from tests.engine.cuda.fake_cuda import FakeCuda  # noqa: E402
from tests.engine.doubles import assert_same_picture  # noqa: E402
from tests.engine.playing import WALK, play  # noqa: E402
from tests.engine.torch_graph.small_graphs import product  # noqa: E402

fake = fake_fixture  # pytest finds it by this name


def host_tensor(address: int, spec: TensorSpec, shape: tuple[int, ...]) -> Any:
    """A tensor over host memory, which the disguise calls device memory."""
    count = int(np.prod(shape))
    return torch.from_numpy(np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))).view(shape)


class HostWork(CudaWork):
    """Notes the streams."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[int] = []

    @contextmanager
    def within(self, stream: int) -> Iterator[None]:
        self.streams.append(stream)
        yield


def test_an_evaluation_reads_and_writes_the_callers_memory(tmp_path: Path) -> None:
    graph = TorchBackend(threads=1, say=lambda line: None).load(product(tmp_path / "graph.onnx"))
    assert isinstance(graph, TorchGraph)
    assert graph._program is not None
    work = HostWork()
    inside = Enqueued(graph.spec, graph._program.run, work, host_tensor)
    for rows in (2, 1, 4):
        levels = (ctypes.c_float * rows)(*range(1, rows + 1))
        output = (ctypes.c_float * (6 * rows + 1))(*[7.0] * (6 * rows + 1))
        address = ctypes.addressof(levels)
        inside.prepare(rows)
        with torch.inference_mode():
            inside.enqueue(
                5, {"c_noise": address, "c_noise_cond": address, "modulation": ctypes.addressof(output)}
            )
        column = np.arange(1, rows + 1)[:, None]
        weight = (np.arange(12).reshape(2, 6) - 4) * 2.0
        np.testing.assert_array_equal(np.array(output[:-1]).reshape(rows, 6), column * weight.sum(0))
        assert output[-1] == 7.0
    assert work.streams == [5, 5, 5]


def test_device_memory_is_handed_over_as_the_array_interface_asks() -> None:
    handed: list[Mapping[str, Any]] = []

    class Library:
        device = staticmethod(torch.device)

        @staticmethod
        def as_tensor(memory: Any, device: Any) -> str:
            handed.append(memory.__cuda_array_interface__)
            return f"on {device}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enqueued, "torch_library", lambda: Library)
        assert tensor_at(4096, TensorSpec("float32", (None, 3)), (2, 3)) == "on cuda:0"
    assert handed == [
        {"shape": (2, 3), "typestr": "<f4", "data": (4096, False), "strides": None, "version": 3}
    ]


def test_work_goes_to_the_stream_and_memory_comes_from_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    made: list[str] = []

    @contextmanager
    def within(text: str) -> Iterator[None]:
        told.append(f"into {text}")
        yield
        told.append(f"out of {text}")

    class Made:
        device = staticmethod(torch.device)

        class cuda:
            ExternalStream = staticmethod(lambda stream, device: f"stream {stream} of {device}")
            stream = staticmethod(within)
            MemPool = staticmethod(lambda: made.append("pool") or f"pool {len(made)}")
            use_mem_pool = staticmethod(within)

    monkeypatch.setattr(enqueued, "torch_library", lambda: Made)
    work = CudaWork()
    for _ in range(2):
        with work.within(9):
            told.append("work")
    evaluation = [
        "into stream 9 of cuda:0",
        "into pool 1",
        "work",
        "out of pool 1",
        "out of stream 9 of cuda:0",
    ]
    assert told == evaluation * 2
    work.close()
    with work.within(9):
        assert made == ["pool", "pool"], "the pool was given back"


@pytest.fixture
def disguised(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """The CPU plays an NVIDIA GPU, for the frame and for PyTorch."""
    monkeypatch.setattr(torch_graph.TorchBackend, "_frames", lambda self: (Cuda(), ""))
    monkeypatch.setattr(
        torch_graph, "Enqueued", lambda spec, run: Enqueued(spec, run, HostWork(), host_tensor)
    )
    return fake


def test_a_world_plays_whole_frames_and_gives_everything_back(disguised: FakeCuda, tiny_bundle: Path) -> None:
    backend = TorchBackend(threads=1, say=lambda line: None)
    with (
        World(Bundle.open(tiny_bundle), backend, seed=3, cuda_graph=False) as world,
        load_world(tiny_bundle, "ort", seed=3, threads=1) as reference,
    ):
        assert isinstance(world._runner, ProgramRunner)
        for preset in ("fast", "quality"):  # another number of evaluations: the free axes are fixed anew
            world.set_preset(preset)
            reference.set_preset(preset)
            for ours, theirs in zip(play(world, WALK[:2]), play(reference, WALK[:2]), strict=True):
                for one, other in ((ours.rgb, theirs.rgb), (ours.low_res, theirs.low_res)):
                    assert_same_picture(one / 127.5 - 1, other / 127.5 - 1)
    assert not {name: left for name, left in disguised.left.items() if name != "libraries"}
