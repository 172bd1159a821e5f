"""What the window shows besides the frame, and who gets its events. Knows no window library.

The window says what happened in plain words; this decides: a command for the window, a command for the
game, or input for the world. The mouse counts only while it is captured, by a click, and Escape gives it
back before it quits.
"""

import time
from collections import deque
from typing import Protocol

import numpy as np

from engine.player.controller import Controller
from engine.player.hud import hud_lines
from engine.player.keymap import Command, KeyMap
from engine.player.picture import Enlargement
from engine.player.stepper import News, Stepper

LATENCIES = 60  # over which the p50 is taken


class Screen(Protocol):
    """What a window can do."""

    def redraw(self) -> None:
        """Shows the newest frame and text."""

    def capture_mouse(self, captured: bool) -> None:
        """Hides the pointer and reports every motion, or stops doing so."""

    def resize(self, by: int) -> None:
        """Makes the window larger by so many times the frame's size."""

    def toggle_fullscreen(self) -> None:
        """Covers the whole screen, or no longer."""

    def screenshot(self) -> str:
        """Saves what is shown; returns what to tell about it."""

    def quit(self) -> None:
        """Ends the event loop."""


class View:
    """State and policy of one window.

    Attributes:
        enlargement: how to enlarge the frame. inset: whether the low-resolution frame is shown too.
    """

    def __init__(
        self,
        screen: Screen,
        stepper: Stepper,
        controller: Controller,
        keymap: KeyMap,
        enlargement: Enlargement = Enlargement.SMOOTH,
    ) -> None:
        self._screen, self._stepper, self._controller, self._keymap = screen, stepper, controller, keymap
        self.enlargement = enlargement
        self.inset = False
        self._hud = True
        self._captured = False
        self._note = ""
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES)

    def lines(self) -> list[str]:
        """The text over the picture."""
        news = self._stepper.news
        if news is None:
            return ["warming up: the first frames are slow"]
        if not self._hud:
            return []
        latency_ms = float(np.median(self._latencies_ms)) if self._latencies_ms else None
        return hud_lines(news.status, latency_ms) + [self._note] * bool(self._note)

    def shown(self, news: News) -> None:
        """A new frame has just been put on the screen."""
        if news.played.since_s is not None:
            self._latencies_ms.append((time.perf_counter() - news.played.since_s) * 1e3)

    # Events.

    def key_down(self, name: str) -> None:
        """A command is obeyed; every other key goes to the world."""
        command = self._keymap.commands.get(name)
        if command is None:
            self._controller.press(name)
        else:
            self._note = ""
            self._obey(command)

    def key_up(self, name: str) -> None:
        """The end of `key_down`."""
        self._controller.release(name)

    def button_down(self, name: str) -> None:
        """The first click captures the mouse, and is no shot."""
        if self._captured:
            self._controller.press(name)
        else:
            self._capture(True)

    def button_up(self, name: str) -> None:
        """The end of `button_down`."""
        self._controller.release(name)

    def mouse_moved(self, dx: float, dy: float) -> None:
        """Motion in pixels: right and down are positive."""
        if self._captured:
            self._controller.move(dx, dy)

    def focus_lost(self) -> None:
        """The releases of whatever is down will go to another window."""
        self._controller.let_go()
        self._capture(False)

    def _obey(self, command: Command) -> None:
        match command:
            case Command.LEAVE:
                if not self._captured:
                    self._screen.quit()
                self._capture(False)
            case Command.HUD:
                self._hud = not self._hud
            case Command.INSET:
                self.inset = not self.inset
            case Command.FILTER:
                self.enlargement = self.enlargement.other
            case Command.SMALLER:
                self._screen.resize(-1)
            case Command.LARGER:
                self._screen.resize(+1)
            case Command.FULLSCREEN:
                self._screen.toggle_fullscreen()
            case Command.MOUSE_SLOWER | Command.MOUSE_FASTER:
                self._controller.scale_mouse(-1 if command is Command.MOUSE_SLOWER else 1)
                self._note = f"mouse x{self._controller.mouse_multiplier:.3g}"
            case Command.SCREENSHOT:
                self._note = self._screen.screenshot()
            case _:
                self._stepper.send(command)
        self._screen.redraw()

    def _capture(self, captured: bool) -> None:
        self._captured = captured
        self._screen.capture_mouse(captured)
