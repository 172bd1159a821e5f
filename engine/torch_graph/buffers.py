"""The static buffers of a graph that is called with numpy arrays: host memory, and the device's twin of it.

On CUDA the host's side is page-locked, so that copies need no detour; on the CPU both sides are the same memory. They
are made once, and again only when the length of a free axis changes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends.base import Arrays
from engine.graphs import GraphSpec, Tensors
from engine.torch_graph.bindings import torch_library
from engine.torch_graph.device import Device


class Buffers:
    """Buffers of one graph.

    Args:
        spec: which tensors.
        device: where the graph runs.
    """

    def __init__(self, spec: GraphSpec, device: Device) -> None:
        self._torch, self._spec, self._device = torch_library(), spec, device
        self._rows: int | None = None
        self._hosts: dict[str, Any] = {}  # tensors in host memory
        self._arrays: dict[str, npt.NDArray[Any]] = {}  # the same memory
        self._twins: dict[str, Any] = {}  # inputs on the device

    def take(self, inputs: Arrays) -> list[Any]:
        """Copies inputs to the device; gives them as tensors, in the spec's order."""
        rows = _rows(self._spec.inputs, inputs)
        if rows != self._rows:
            self._allocate(rows)
        for name in self._spec.inputs:
            np.copyto(self._arrays[name], inputs[name])
            if self._twins[name] is not self._hosts[name]:
                self._twins[name].copy_(self._hosts[name], non_blocking=True)
        return [self._twins[name] for name in self._spec.inputs]

    def give(self, outputs: Sequence[Any]) -> Arrays:
        """Copies outputs to the host and waits for them; C-contiguous arrays that the next call overwrites."""
        results: dict[str, npt.NDArray[Any]] = {}
        for (name, spec), output in zip(self._spec.outputs.items(), outputs, strict=True):
            dtype = str(output.dtype).removeprefix("torch.")
            if not spec.admits(dtype, tuple(output.shape)):
                # Not a buffer of this graph's: given as it is, for `Backend.load` to complain about.
                results[name] = output.float().cpu().numpy()
                continue
            self._hosts[name].copy_(output)
            results[name] = self._arrays[name]
        if self._device.kind == "cuda":
            self._torch.cuda.current_stream().synchronize()
        return results

    def _allocate(self, rows: int) -> None:
        on_cpu, is_cuda = self._device.kind == "cpu", self._device.kind == "cuda"
        for name, tensor in {**self._spec.inputs, **self._spec.outputs}.items():
            shape = [rows if axis is None else axis for axis in tensor.shape]
            dtype = getattr(self._torch, tensor.dtype)
            host = self._torch.zeros(shape, dtype=dtype, pin_memory=is_cuda)
            self._hosts[name], self._arrays[name] = host, host.numpy()
            if name in self._spec.inputs:
                self._twins[name] = (
                    host if on_cpu else self._torch.empty_like(host, device=self._device.place)
                )
        self._rows = rows


def _rows(tensors: Tensors, inputs: Mapping[str, npt.NDArray[Any]]) -> int:
    """The length of the free axes; 1 where there is none."""
    for name, tensor in tensors.items():
        for axis, length in zip(tensor.shape, inputs[name].shape, strict=True):
            if axis is None:
                return int(length)
    return 1
