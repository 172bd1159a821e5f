"""The seam between a captured frame and whatever evaluates a graph on a GPU.

A backend's graph fulfils `DeviceGraph`; it then runs inside the frame's CUDA graph, with buffers that are not its own.
"""

from collections.abc import Mapping
from typing import Protocol

from engine.graphs import GraphSpec


class DeviceGraph(Protocol):
    """A loaded graph that only enqueues work.

    Attributes:
        spec: what was loaded.
    """

    @property
    def spec(self) -> GraphSpec: ...

    def prepare(self, evaluations: int) -> None:
        """Fixes every free axis of the graph at E and allocates whatever scratch the graph needs for it.

        Called outside a capture, before the first `enqueue` and again whenever E changes; what was captured
        before is not used any more. It may synchronise and allocate.

        Args:
            evaluations: E, the number of network evaluations of the schedule; 1 or more. A graph without a free axis
                (denoiser, upsampler) has nothing to fix.

        Raises:
            DiamondError: E out of the range that the graph was built for, or a graph that cannot be captured.
        """
        ...

    def enqueue(self, stream: int, addresses: Mapping[str, int]) -> None:
        """Puts one evaluation into a stream and returns at once.

        May run while the stream is being captured: no allocation, no synchronisation, no work in another stream.
        It is called once directly, after `prepare`, before it is captured: a runtime that defers work to the first call
        does it then. Between two calls the addresses may differ.

        Args:
            stream: a `cudaStream_t`.
            addresses: device addresses of every input and output of the spec, by name; C-contiguous, 256-byte aligned.

        Raises:
            DiamondError: the runtime refuses.
        """
        ...

    def close(self) -> None:
        """Frees what the graph holds; closing twice is harmless."""
        ...
