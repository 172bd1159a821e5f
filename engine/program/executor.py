"""The seam between a program and what carries it out: a GPU in `engine.cuda.frame_graph`, numpy in the tests."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

from engine.program.launches import FrameProgram

Array = npt.NDArray[Any]


class Executor(Protocol):
    """Owns the buffers of a program, and runs it."""

    def install(self, program: FrameProgram) -> None:
        """Makes ready for a program: allocates its buffers, prepares its graphs, captures its frame.

        A buffer that the program before had as well, equal in shape, dtype and kind, keeps its content: histories and
        the noise table survive a change of settings. What the others hold is undefined.

        Raises:
            DiamondError: no memory, or a graph refuses; nothing but `install` and `close` may follow.
        """
        ...

    def write(self, buffer: str, values: Array) -> None:
        """Fills a buffer from an array of its shape and dtype."""
        ...

    def read(self, buffer: str) -> Array:
        """A copy of a buffer."""
        ...

    def host(self, buffer: str) -> Array:
        """The twin of an input, to be filled before `run`, or of an output, to be read after it; valid until the next
        `install`."""
        ...

    def set_up(self) -> None:
        """Runs `FrameProgram.setup` and waits for it."""
        ...

    def run(self) -> Mapping[str, float]:
        """Runs `FrameProgram.frame` and waits for it.

        Returns:
            Milliseconds by stage (`engine.program.launches.stage`); empty where they can't be told apart.
        """
        ...

    def close(self) -> None:
        """Frees everything; closing twice is harmless."""
        ...
