"""The thread that plays: it owns the world, keeps the pace, and hands the newest frame to whoever shows it.

The window stays responsive however long a frame takes. Input is taken at the last moment, right before the
frame that uses it; a frame that comes late delays the next ones, which do not hurry to catch up.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.player.keymap import Command
from engine.player.session import Played, Session, Status


@dataclass(frozen=True)
class News:
    """The newest state of the game. `serial` counts frames: the same serial, the same picture."""

    played: Played
    status: Status
    serial: int


class Stepper:
    """Runs a session in a thread of its own.

    Args:
        session: from `start` on, only the thread touches it, and its world.
        fps: frames a second to aim at.
        on_news: called in the thread after each frame, each command, and at the end.
    """

    def __init__(self, session: Session, fps: float, on_news: Callable[[], None]) -> None:
        self._session, self._period_s, self._on_news = session, 1 / fps, on_news
        self._wake = threading.Condition()
        self._commands: deque[Command] = deque()
        self._stopping = False
        self._news: News | None = None
        self._error: BaseException | None = None
        self._saved: Path | None = None
        self._thread = threading.Thread(target=self._run, name="stepper", daemon=True)

    @property
    def news(self) -> News | None:
        """The newest frame and status; None while the world warms up."""
        return self._news

    @property
    def running(self) -> bool:
        """Whether the thread plays, or will; False once it has ended, in whatever way."""
        return not self._stopping and self._error is None

    def start(self) -> None:
        """Starts the thread: warm-up, then play."""
        self._thread.start()

    def send(self, command: Command) -> None:
        """Hands over a command for the session; before the game has begun it is dropped."""
        with self._wake:
            if self._news is not None:
                self._commands.append(command)
                self._wake.notify()

    def stop(self) -> Path | None:
        """Ends the game after the frame in progress; returns the recording that was saved, if there was one.

        Raises:
            Whatever ended the thread before its time.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self._saved

    def _run(self) -> None:
        try:
            try:
                self._play()
            finally:  # what was recorded up to a failure is worth keeping
                self._saved = self._session.finish()
        except BaseException as error:  # handed to the thread that calls stop()
            self._error = error
        finally:
            self._on_news()

    def _play(self) -> None:
        self._session.warm_up()
        self._publish(self._session.start())
        due_s = time.perf_counter()
        while True:
            # 1. Wait until the next frame is due, or something is asked.
            with self._wake:
                while not self._stopping and not self._commands:
                    left_s = due_s - time.perf_counter()
                    if self._session.idle:
                        self._wake.wait()
                    elif left_s <= 0 or not self._wake.wait(left_s):
                        break
                if self._stopping:
                    return
                command = self._commands.popleft() if self._commands else None

            # 2. Obey, at once: a reset shows its frame before the next one is due.
            if command is not None:
                self._publish(self._session.obey(command))
                continue

            # 3. Play a frame.
            now_s = time.perf_counter()
            late = now_s - due_s > self._period_s / 2  # a little lateness is made up for, much is not
            due_s = (now_s if late else due_s) + self._period_s
            self._publish(self._session.tick())

    def _publish(self, played: Played | None) -> None:
        serial = self._news.serial if self._news else 0
        if played is None:
            assert self._news is not None, "a session starts with a frame"
            played = self._news.played
        else:
            serial += 1
        self._news = News(played, self._session.status(), serial)
        self._on_news()
