"""The thread that plays keeps the pace, obeys at once, and ends cleanly."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.player.keymap import Command
from engine.player.stepper import News, Stepper
from tests.player.test_session import Game, script

TIMEOUT_S = 10


class Watched:
    """A running stepper and everything it has published."""

    def __init__(self, game: Game, fps: float) -> None:
        self.seen: list[News] = []
        self._changed = threading.Condition()
        self.stepper = Stepper(game.session, fps, self._on_news)

    def _on_news(self) -> None:
        with self._changed:
            if self.stepper.news is not None:
                self.seen.append(self.stepper.news)
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        """Until so many frames have been published."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.seen and self.seen[-1].serial >= count, TIMEOUT_S)

    def wait_until_paused(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.seen and self.seen[-1].status.paused, TIMEOUT_S)


@contextmanager
def running(game: Game, fps: float = 1000) -> Iterator[Watched]:
    watched = Watched(game, fps)
    watched.stepper.start()
    try:
        yield watched
    finally:
        if watched.stepper.running:
            watched.stepper.stop()


def test_frames_come_at_the_asked_pace() -> None:
    with running(Game(), fps=50) as watched:
        watched.wait_for(1)
        began = time.perf_counter()
        watched.wait_for(26)
        fps = 25 / (time.perf_counter() - began)
    assert 35 < fps < 52.5  # a busy machine may be late, but never early


def test_frames_arrive_in_order_and_none_is_skipped() -> None:
    with running(Game(script(20))) as watched:
        watched.wait_for(20)
    assert [news.played.frame.index for news in watched.seen][:20] == list(range(20))


def test_a_command_is_obeyed_before_the_next_frame_is_due() -> None:
    with running(Game(), fps=1) as watched:
        watched.wait_for(1)
        began = time.perf_counter()
        watched.stepper.send(Command.RESET)
        watched.wait_for(watched.seen[-1].serial + 1)
        assert time.perf_counter() - began < 0.5


def test_a_pause_holds_until_the_single_step() -> None:
    with running(Game(), fps=200) as watched:
        watched.wait_for(3)
        watched.stepper.send(Command.PAUSE)
        watched.wait_until_paused()
        serial = watched.seen[-1].serial
        time.sleep(0.1)
        assert watched.seen[-1].serial == serial
        watched.stepper.send(Command.STEP)
        watched.wait_for(serial + 1)
        time.sleep(0.05)
        assert watched.seen[-1].serial == serial + 1


def test_commands_before_the_game_are_dropped() -> None:
    game = Game()
    stepper = Stepper(game.session, 10, lambda: None)
    stepper.send(Command.PAUSE)
    assert stepper.news is None
    assert not stepper.stop()  # never started: nothing to wait for


def test_stopping_waits_for_the_frame_in_progress() -> None:
    game = Game()
    with running(game) as watched:
        watched.wait_for(1)
        game.world.step_s = 0.3
        time.sleep(0.1)
        watched.stepper.stop()
        steps = game.world.steps
        time.sleep(0.4)
        assert game.world.steps == steps
        assert not watched.stepper.running


def test_what_breaks_the_world_reaches_the_one_who_stops() -> None:
    game = Game()
    game.world.fail_at = game.world.steps + 10
    with running(game) as watched:
        deadline = time.monotonic() + TIMEOUT_S
        while watched.stepper.running and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(RuntimeError, match="broke, as asked"):
            watched.stepper.stop()


def test_the_recording_is_saved_at_the_end_even_of_a_broken_game(tmp_path: Path) -> None:
    path = tmp_path / "play.npz"
    game = Game(target=path)
    game.world.fail_at = game.world.steps + 6
    with running(game) as watched:
        while watched.stepper.running:
            time.sleep(0.01)
        with pytest.raises(RuntimeError):
            watched.stepper.stop()
    assert path.is_file()
