"""Several processes that train one network together: they share out the micro-batches of every step.

The sum of gradients, and so the run, is the same for any number of processes, up to the order of summation: a step has
`grad_accumulation` micro-batches, process r of n takes the micro-batches r, r + n, ... One process a GPU, or several on
a CPU. Knows nothing of networks, data or files.
"""

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from engine.errors import DiamondError


@dataclass(frozen=True)
class Group:
    """This process's place: `rank` of `size`. Alone, all of its methods do nothing but return what they got."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process reports and saves."""
        return self.rank == 0

    def micro_batches(self, count: int) -> range:
        """Which of a step's `count` micro-batches are this process's. DiamondError if they can't be shared out."""
        if count % self.size:
            raise DiamondError(
                f"grad_accumulation is {count}, which {self.size} processes can't share out evenly",
                expected=f"a multiple of {self.size}",
                fix=f"--set NETWORK.grad_accumulation={self.size}, with a batch_size {self.size} times smaller",
            )
        return range(self.rank, count, self.size)

    def sum_gradients(self, network: nn.Module, figures: Sequence[float]) -> list[float]:
        """Replaces every gradient by its sum over all processes; the sums of `figures`, which travel with them."""
        if self.size == 1:
            return list(figures)
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        tail = torch.tensor(figures, dtype=torch.float32, device=gradients[0].device)
        flat = torch.cat([g.reshape(-1) for g in gradients] + [tail])
        dist.all_reduce(flat)
        parts = flat.split([g.numel() for g in gradients] + [len(figures)])
        for gradient, part in zip(gradients, parts, strict=False):
            gradient.copy_(part.view_as(gradient))
        return [float(figure) for figure in parts[-1]]

    def gather(self, mine: dict[int, Any]) -> dict[int, Any]:
        """The union of every process's dictionary in the leading process; elsewhere only one's own."""
        if self.size == 1:
            return mine
        everyone: list[dict[int, Any] | None] = [None] * self.size
        dist.gather_object(mine, everyone if self.leads else None)
        return {key: value for one in everyone if one is not None for key, value in one.items()} or mine


ALONE = Group()


def device_of(group: Group, device: str) -> str:
    """This process's device: of several each has its own GPU, or all the CPU."""
    return f"cuda:{group.rank}" if group.size > 1 and device == "cuda" else device


def check_devices(size: int, device: str) -> None:
    """Raises DiamondError if `size` processes have no devices to run on."""
    if device.startswith("cuda"):
        if device != "cuda":
            raise DiamondError(
                f"--processes {size} with --device {device}", expected="--device cuda: a GPU each"
            )
        if torch.cuda.device_count() < size:
            raise DiamondError(
                f"--processes {size}: there are {torch.cuda.device_count()} GPUs",
                expected="a GPU for each process",
                fix=f"--processes {torch.cuda.device_count()}",
            )
    elif device != "cpu":
        raise DiamondError(f"--processes {size} with --device {device}", expected="cuda or cpu")


def run_together(work: Callable[[Group], None], size: int, device: str) -> None:
    """Has `size` new processes call `work`, which must be picklable, and waits for them.

    Ctrl-C and SIGTERM reach all of them as a request to stop. Raises the DiamondError that one of them raised, or one
    that says which process died.
    """
    context = mp.get_context("spawn")
    errors = context.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="diamond-train-") as folder:
        meeting = str(Path(folder) / "meeting")
        processes = mp.start_processes(
            _join, (work, size, device, meeting, errors), nprocs=size, join=False, start_method="spawn"
        )
        if processes is None:
            raise RuntimeError("start_processes waited for its processes")
        with _forwarding(processes.pids()):
            try:
                while not processes.join():
                    pass
            except (mp.ProcessExitedException, mp.ProcessRaisedException) as error:
                if not errors.empty():
                    raise errors.get() from error
                raise DiamondError(
                    f"training process {error.error_index} died: {str(error).strip().splitlines()[-1]}",
                    expected="all processes to run to the end",
                    fix="resume from the last checkpoint, with fewer processes if memory ran out",
                ) from error


def _join(
    rank: int,
    work: Callable[[Group], None],
    size: int,
    device: str,
    meeting: str,
    errors: "SimpleQueue[DiamondError]",
) -> None:
    """One process: meets the others, works, and hands over what went wrong."""
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=f"file://{meeting}", rank=rank, world_size=size
    )
    try:
        work(Group(rank, size))
        dist.barrier()  # the leader may still be saving
    except DiamondError as error:
        if errors.empty():
            errors.put(DiamondError(error.what, error.expected, error.fix))
        raise SystemExit(2) from error
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def _forwarding(pids: list[int]) -> Iterator[None]:
    """While open, Ctrl-C and SIGTERM are passed on instead of ending this process."""

    def pass_on(number: int, frame: object) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
