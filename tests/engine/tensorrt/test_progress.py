"""Long work: elapsed time is said, failures arrive, Ctrl-C stops it in order."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from engine.tensorrt.progress import Progress, watched
from tests.engine.tensorrt.doubles import FakeApi


def test_the_result_arrives_and_quick_work_says_nothing() -> None:
    said: list[str] = []
    assert watched(lambda: 42, Progress(), "building", said.append) == 42
    assert not said


def test_elapsed_time_and_phase_are_said() -> None:
    said: list[str] = []
    progress = Progress()
    monitor = progress.monitor(FakeApi())  # type: ignore[arg-type]
    monitor.phase_start("Building", None, 6)
    monitor.phase_start("Timing tactics", "Building", 3)
    assert monitor.step_complete("Timing tactics", 0)
    monitor.phase_finish("Timing tactics")
    watched(lambda: time.sleep(0.5) or 1, progress, "building", said.append, every_s=0.2)
    assert said
    assert all(line.startswith("building: ") and line.endswith(" s, Timing tactics") for line in said)


def test_a_failure_of_the_work_arrives() -> None:
    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        watched(fail, Progress(), "building", print)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own reaction to Ctrl-C, which a process started in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_asks_the_work_to_stop_and_waits_for_it() -> None:
    progress, ended = Progress(), threading.Event()
    monitor = progress.monitor(FakeApi())  # type: ignore[arg-type]

    def work() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(200):
            if not monitor.step_complete("timing", 0):
                ended.set()
                return 1
            time.sleep(0.05)
        return 2

    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        watched(work, progress, "building", said.append)
    assert ended.is_set()
    assert said == ["building: stopping"]
