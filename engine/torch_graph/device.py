"""What PyTorch computes on here: CUDA, then Apple's MPS, then the CPU. AMD's ROCm presents itself as CUDA.

Also the surroundings of every evaluation: no gradients, no TF32 (it would give an fp32 graph's convolutions 10 bits of
mantissa without a word), and on the CPU the number of threads. That number belongs to the whole process; so it is set
for the time of an evaluation only, and what others have set is put back.
"""

import hashlib
import json
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from engine.backends.cores import physical_cores, threads_in_words
from engine.torch_graph.bindings import torch_library


class Device:
    """The device.

    Args:
        threads: CPU threads; None for one a physical core. A GPU has no use for it.

    Attributes:
        kind: "cuda", "mps" or "cpu", as in `torch.device`.
        name: for people.
        hardware: what compiled code depends on.
        precisions: those that run well here, best first.
        threads: on the CPU; None for PyTorch's own choice.

    Raises:
        DiamondError: PyTorch is missing.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._torch = torch_library()
        self.threads = physical_cores() if threads is None else threads
        self.precisions: tuple[str, ...]
        if self._torch.cuda.is_available():
            self._be_cuda()
        elif self._torch.backends.mps.is_available():
            self.kind, self.name = "mps", f"Apple GPU ({platform.machine()})"
            self.hardware = f"{self.name}, macOS {platform.mac_ver()[0]}"
            self.precisions = ("fp16", "fp32")
        else:
            self._be_cpu()

    def _be_cuda(self) -> None:
        cuda = self._torch.cuda
        major, minor = cuda.get_device_capability(0)
        self.kind, self.name = "cuda", str(cuda.get_device_name(0))
        runtime = f"ROCm {self._torch.version.hip}" if self.is_rocm else f"CUDA {self._torch.version.cuda}"
        self.hardware = f"{self.name}, {major}.{minor}, {runtime}"
        self.precisions = ("fp16", "bf16", "fp32") if cuda.is_bf16_supported() else ("fp16", "fp32")

    def _be_cpu(self) -> None:
        found = dict(self._torch.cpu.get_capabilities())
        flags = sorted(name for name, value in found.items() if value is True)
        digest = hashlib.sha256(json.dumps(flags).encode()).hexdigest()[:12]
        name = found.get("cpu_name") or platform.machine()
        self.kind, self.name = "cpu", f"CPU, {threads_in_words(self.threads)}"
        self.hardware = f"{name}, {self._torch.backends.cpu.get_cpu_capability()}, features {digest}"
        in_bf16 = {"avx512_bf16", "amx_bf16"} & set(flags)
        self.precisions = ("bf16", "fp32") if in_bf16 else ("fp32",)

    @property
    def is_rocm(self) -> bool:
        """Whether what calls itself CUDA is AMD's."""
        return self.kind == "cuda" and bool(self._torch.version.hip)

    @property
    def place(self) -> Any:
        """As `torch.device`; the first GPU, as everywhere in the engine."""
        return self._torch.device(self.kind, 0) if self.kind == "cuda" else self._torch.device(self.kind)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Around an evaluation."""
        torch = self._torch
        with ExitStack() as stack:
            if self.kind == "cpu" and self.threads is not None:
                before = torch.get_num_threads()
                if before != self.threads:
                    torch.set_num_threads(self.threads)
                    stack.callback(torch.set_num_threads, before)
            if self.kind == "cuda":
                stack.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
            stack.enter_context(torch.inference_mode())
            yield
