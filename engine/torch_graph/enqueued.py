"""A program in somebody else's stream and buffers, as a captured frame wants it (`engine.cuda.enqueued`).

Three things that PyTorch does by itself have to be said here. The stream is not its own, so it is told which one is
current. Buffers are bare addresses, so tensors are laid over them. And what it allocates on the way must still be
there, at the same addresses, whenever the captured graph is replayed: so it comes from a pool of the graph's own,
which lives as long as the graph, and from which nothing else is served. Within the pool PyTorch reuses memory in the
stream's order, which is the order of every replay.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from engine.graphs import GraphSpec, TensorSpec
from engine.torch_graph.bindings import torch_library


class _Memory:
    """Memory at an address, as `torch.as_tensor` takes it: the CUDA array interface, version 3."""

    def __init__(self, address: int, shape: tuple[int, ...], typestr: str) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": typestr,
            "data": (address, False),
            "strides": None,
            "version": 3,
        }


_TYPESTR = {"float32": "<f4"}  # all that the tensors of a graph's seam are


def tensor_at(address: int, spec: TensorSpec, shape: tuple[int, ...]) -> Any:
    """A tensor over device memory that it does not own: C-contiguous."""
    torch = torch_library()
    return torch.as_tensor(_Memory(address, shape, _TYPESTR[spec.dtype]), device=torch.device("cuda", 0))


class CudaWork:
    """Where a graph's work goes: a stream, and a pool of the graph's own; made when it is first asked for."""

    def __init__(self) -> None:
        self._torch = torch_library()
        self._pool: Any = None

    def within(self, stream: int) -> AbstractContextManager[Any]:
        """Around an evaluation: work goes to the stream, memory comes from the pool."""
        cuda = self._torch.cuda
        if self._pool is None:
            self._pool = cuda.MemPool()
        stack = ExitStack()
        try:
            stack.enter_context(
                cuda.stream(cuda.ExternalStream(stream, device=self._torch.device("cuda", 0)))
            )
            stack.enter_context(cuda.use_mem_pool(self._pool))
        except BaseException:
            stack.close()
            raise
        return stack

    def close(self) -> None:
        """Gives the pool back, once no captured graph uses it any more."""
        self._pool = None


class Enqueued:
    """A program that only enqueues work.

    Args:
        spec: the graph. run: its program.
        work: where its work goes. at: lays a tensor over an address; tests give their own of both.
    """

    def __init__(
        self,
        spec: GraphSpec,
        run: Callable[..., Any],
        work: CudaWork | None = None,
        at: Callable[[int, TensorSpec, tuple[int, ...]], Any] = tensor_at,
    ) -> None:
        self._spec, self._run, self._at = spec, run, at
        self._work = CudaWork() if work is None else work
        self._rows = 1

    def prepare(self, evaluations: int) -> None:
        """Fixes every free axis, see `DeviceGraph`. PyTorch allocates when it first runs."""
        self._rows = evaluations

    def enqueue(self, stream: int, addresses: Mapping[str, int]) -> None:
        """Puts one evaluation into a stream, see `DeviceGraph`."""
        inputs, outputs = (
            [self._at(addresses[name], spec, self._shape(spec)) for name, spec in side.items()]
            for side in (self._spec.inputs, self._spec.outputs)
        )
        with self._work.within(stream):
            for target, result in zip(outputs, self._run(*inputs), strict=True):
                target.copy_(result)

    def close(self) -> None:
        """Lets go of the program and of its memory."""
        self._run = _closed
        self._work.close()

    def _shape(self, spec: TensorSpec) -> tuple[int, ...]:
        return tuple(self._rows if axis is None else axis for axis in spec.shape)


def _closed(*inputs: Any) -> Any:
    raise AssertionError("a closed graph was enqueued")
