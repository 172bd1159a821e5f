"""Work that takes a while, in a thread of its own: how long it has been at it is said, and Ctrl-C ends it in order.

TensorRT builds in one call that comes back seconds or minutes later. It lets other threads run meanwhile, and asks a
monitor between its steps whether to go on.
"""

import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from engine.errors import DiamondError

Say = Callable[[str], None]
"""Takes one line at a time."""

Result = TypeVar("Result")
EVERY_S = 5.0
_POLL_S = 0.1


class Progress:
    """Where a piece of work has got to, and whether it shall stop."""

    def __init__(self) -> None:
        self.phase = ""
        self.stop = False

    def monitor(self, api: ModuleType) -> Any:
        """As TensorRT wants it."""
        progress = self

        class Monitor(api.IProgressMonitor):  # type: ignore[misc, name-defined]  # exists only once it is imported
            def __init__(self) -> None:
                api.IProgressMonitor.__init__(self)

            def phase_start(self, name: str, parent: str | None, steps: int) -> None:
                if parent is not None:  # the outermost one is the whole build
                    progress.phase = name

            def step_complete(self, name: str, step: int) -> bool:
                return not progress.stop

            def phase_finish(self, name: str) -> None:
                pass

        return Monitor()


def watched(
    work: Callable[[], Result], progress: Progress, label: str, say: Say, every_s: float = EVERY_S
) -> Result:
    """Runs `work` in a thread, and says every `every_s` seconds how long it has taken and in which phase it is.

    Raises:
        KeyboardInterrupt: Ctrl-C, once the work has stopped.
        Exception: what the work raised.
    """
    results: list[Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    began = time.perf_counter()
    next_s = every_s
    thread = threading.Thread(target=run, name=label, daemon=True)
    try:
        thread.start()
        while thread.is_alive():
            thread.join(_POLL_S)
            if (elapsed_s := time.perf_counter() - began) >= next_s:
                say(f"{label}: {elapsed_s:.0f} s" + (f", {progress.phase}" if progress.phase else ""))
                next_s += every_s
    except KeyboardInterrupt:
        progress.stop = True
        say(f"{label}: stopping")
        thread.join()
        raise
    if failures:
        raise failures[0]
    if not results:
        raise DiamondError(f"{label}: ended without a result")
    return results[0]
