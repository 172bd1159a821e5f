"""A made-up world twice: on a device (made_up.cu), and in numpy, operation by operation the same."""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from engine.backends.base import Arrays, Backend, Graph
from engine.bundle import Bundle
from engine.cuda.compile import compile_kernels
from engine.cuda.device_runner import device_runner
from engine.cuda.runtime import Cuda
from engine.frame import Floats
from engine.graphs import GraphSpec
from engine.noise import NoiseSource
from engine.runner import FrameRunner, Samplers

SOURCE = Path(__file__).with_name("made_up.cu").read_text()


class DeviceMadeUp:
    """A `DeviceGraph`. `prepared` and `closed` say what has happened to it."""

    def __init__(self, cuda: Cuda, kernels: Mapping[str, int], spec: GraphSpec) -> None:
        self._cuda, self._kernels, self.spec = cuda, kernels, spec
        self.prepared: list[int] = []
        self.closed = False
        self._kept: list[Any] = []

    def prepare(self, evaluations: int) -> None:
        self.prepared.append(evaluations)

    def enqueue(self, stream: int, addresses: Mapping[str, int]) -> None:
        assert addresses.keys() == self.spec.inputs.keys() | self.spec.outputs.keys()
        assert not [name for name, address in addresses.items() if address % 256], "not aligned"
        at = {name: ctypes.c_void_p(address) for name, address in addresses.items()}
        none, number = ctypes.c_void_p(None), ctypes.c_uint32
        inputs = self.spec.inputs
        if self.spec.role.endswith("conditioner"):
            (_, M), E = self.spec.outputs["modulation"].shape, self.prepared[-1]
            T_A = np.prod(inputs["action"].shape) if "action" in inputs else 0
            values = [at[name] for name in ("modulation", "c_noise", "c_noise_cond")]
            values += [at.get("action", none), number(T_A), number(M), number(E * M)]
            self._launch("conditioner", values, E * M, stream)
            return
        _, channels, H, W = inputs["history"].shape
        factor = W // inputs["low_res"].shape[3] if "low_res" in inputs else 0
        values = [at[name] for name in ("denoised", "x", "history", "modulation", "coefficients")]
        values += [at.get("low_res", none), at.get("enlarged_noise", none)]
        sizes = (channels, inputs["modulation"].shape[1], W, factor, H * W)
        self._launch("network", [*values, *map(number, sizes)], H * W, stream)

    def _launch(self, name: str, values: list[Any], threads: int, stream: int) -> None:
        places = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        self._kept += [values, places]
        self._cuda.launch(self._kernels[name], -(-threads // 128), 128, ctypes.addressof(places), stream)

    def close(self) -> None:
        self.closed = True


class HostMadeUp(Graph):
    """The same in numpy."""

    def _run(self, inputs: Arrays) -> Arrays:
        f = np.float32
        if self.spec.role.endswith("conditioner"):
            M = self.spec.outputs["modulation"].shape[1]
            assert M is not None
            total = f(0)
            if "action" in inputs:
                action = inputs["action"].ravel()
                total = np.cumsum(action * (np.arange(action.size) % 7).astype(f), dtype=f)[-1]
            rows = inputs["c_noise"] + inputs["c_noise_cond"] * f(0.5) + total * f(0.125)
            return {"modulation": rows[:, None] + np.arange(M, dtype=f) * f(0.25)}
        x, history, modulation = inputs["x"], inputs["history"], inputs["modulation"][0]
        c_in, c_skip, c_out = inputs["coefficients"]
        raw = history[:, -3:] * modulation[0] + history[:, :3] * f(0.25)
        raw = raw + x * c_in + modulation[-1] * f(0.0625)
        if "low_res" in inputs:
            factor = x.shape[3] // inputs["low_res"].shape[3]
            raw = (
                raw
                + inputs["low_res"].repeat(factor, axis=2).repeat(factor, axis=3)
                + inputs["enlarged_noise"]
            )
        d = np.clip(x * c_skip + raw * c_out, f(-1), f(1))
        denoised: Floats = np.floor((d + f(1)) / f(2) * f(255)) / f(255) * f(2) - f(1)
        return {"denoised": denoised}

    def _close(self) -> None: ...


class MadeUpBackend(Backend):
    """Graphs in numpy; with a device, whole frames there. `loaded` holds the graphs on it."""

    name: ClassVar[str] = "made up"
    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self, cuda: Cuda | None = None) -> None:
        super().__init__()
        self.cuda = cuda
        self.loaded: list[DeviceMadeUp] = []
        if cuda is not None:
            cubin, _ = compile_kernels(SOURCE, cuda.capability)
            self._kernels = cuda.load_kernels(cubin, ["conditioner", "network"])

    def describe(self) -> str:
        return "made up"

    def frame_runner(
        self, bundle: Bundle, precision: str, samplers: Samplers, noise: NoiseSource, cuda_graph: bool
    ) -> FrameRunner | None:
        if self.cuda is None:
            return None
        return device_runner(self.cuda, self._device, bundle, precision, samplers, noise, cuda_graph)

    def _device(self, spec: GraphSpec) -> DeviceMadeUp:
        assert self.cuda is not None
        self.loaded.append(DeviceMadeUp(self.cuda, self._kernels, spec))
        return self.loaded[-1]

    def _load(self, spec: GraphSpec) -> Graph:
        return HostMadeUp(spec)
