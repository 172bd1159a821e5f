"""What may be asked of diamond-export, without the libraries that do it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import DiamondError

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
TARGETS = ("onnx", "trt", "torch")

Say = Callable[[str], None]
"""Takes one line of progress at a time."""


@dataclass(frozen=True)
class RunOptions:
    """Choices about the world of a training run.

    Attributes:
        spawns: places to start from, picked from held-out episodes.
        first_spawn: which of them comes first and gives the demonstration.
        data: the recordings; None for those the run was trained on.
        notice: licence or notice of the game, put into the world.
    """

    spawns: int = 8
    first_spawn: int = 0
    data: Path | None = None
    notice: Path | None = None

    def __post_init__(self) -> None:
        if self.spawns < 1:
            raise DiamondError(f"--spawns {self.spawns}", expected="at least 1")
        if not 0 <= self.first_spawn < self.spawns:
            raise DiamondError(f"--first-spawn {self.first_spawn}", expected=f"0 to {self.spawns - 1}")
