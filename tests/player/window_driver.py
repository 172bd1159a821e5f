"""Runs the real window on a fake world and plays it with real X events; prints what it saw as JSON.

A program of its own, because a dying X server takes the process down with it: `python window_driver.py SCENE`,
with DISPLAY set, in an empty directory. `test_window.py` judges what it prints.
"""

import json
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyglet
from PIL import ImageGrab

from engine.actions import KEYBOARD_MOUSE_51 as SPACE
from engine.errors import run_cli
from engine.player.controller import Controller
from engine.player.keymap import KeyMap
from engine.player.playable import Pixels
from engine.player.recorder import Recorder
from engine.player.session import Session
from engine.player.stepper import News, Stepper
from engine.player.view import View
from engine.player.window import PlayWindow, play_in_window
from tests.player.fake_world import FakeWorld, H, W

FPS, SCALE, TITLE = 20.0, 3, "fake world"
seen: dict[str, object] = {}


class Hand:
    """Types and moves the mouse, and looks at the screen."""

    def __init__(self, world: FakeWorld, session: Session, recorder: Recorder) -> None:
        self.world, self.session, self.recorder = world, session, recorder

        self.player: PlayWindow | None = None  # until it opens
        self.motions: list[tuple[float, float]] = []  # what reached the controller

    @property
    def window(self) -> pyglet.window.Window:
        return self.player.window

    @property
    def news(self) -> News:
        news = self.player._stepper.news
        assert news is not None
        return news

    def xdotool(self, *words: object) -> str:
        command = ["xdotool", *map(str, words)]
        return subprocess.run(command, check=True, timeout=10, capture_output=True, text=True).stdout

    def focus(self) -> None:
        """Gives the window the keyboard. Whatever talks to X is another program: pyglet is not thread-safe."""
        self.xdotool("search", "--sync", "--name", TITLE, "windowfocus", "--sync")
        place = self.xdotool("search", "--name", TITLE, "getwindowgeometry", "--shell")
        where = dict(line.split("=") for line in place.splitlines())
        self.corner = int(where["X"]), int(where["Y"])
        self.until(lambda: self.player._stepper.news is not None)

    def until(self, condition: Callable[[], object], timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("the window did not do what was expected")
            time.sleep(0.005)

    def frames(self, count: int) -> None:
        """Waits for so many frames."""
        until = self.news.serial + count
        self.until(lambda: self.news.serial >= until)

    def screen(self) -> Pixels:
        time.sleep(0.3)  # for the frame to be drawn, and the X server to show it
        x, y = self.corner
        box = (x, y, x + self.window.width, y + self.window.height)
        return np.asarray(ImageGrab.grab(bbox=box, xdisplay="").convert("RGB"))

    def shows_the_newest_frame(self) -> bool:
        """Whether the screen holds exactly the newest frame, enlarged in squares."""
        rgb = self.news.played.frame.rgb
        return np.array_equal(self.screen(), rgb.repeat(SCALE, axis=0).repeat(SCALE, axis=1))

    def actions_with(self, name: str) -> int:
        """How many frames so far had a key or button down."""
        column = (SPACE.keys + SPACE.buttons).index(name)
        return int(self.recorder.recording().actions[:, column].sum())


def play(hand: Hand) -> None:
    """Everything a player does in one sitting."""
    hand.focus()
    hand.frames(2)
    size = [hand.window.width, hand.window.height]
    seen["at first"] = [size, hand.window.fullscreen, hand.window._mouse_exclusive]
    hand.screen()
    ImageGrab.grab(xdisplay="").save("running.png")

    # Keys: one held for a while, one tapped within a frame, one written as "!" because shift is down.
    hand.xdotool("keydown", "w")
    hand.frames(6)
    hand.xdotool("keyup", "w")
    hand.frames(2)
    held = hand.actions_with("w")
    seen["held"] = held
    hand.xdotool("key", "--delay", 0, "r")
    hand.frames(3)
    seen["tapped"] = hand.actions_with("r")
    seen["not held for ever"] = hand.actions_with("w") == held
    for word in ("keydown shift", "key --delay 0 1", "keyup shift"):
        hand.xdotool(*word.split())
    hand.frames(2)
    seen["digit under shift"] = hand.actions_with("1")

    # Pause, single step: without text and in squares, the screen is the newest frame, pixel by pixel.
    for key in ("h", "period"):  # in squares: under Xvfb, OpenGL runs in software
        hand.xdotool("key", key)
    hand.until(lambda: hand.news.status.paused)
    serial = hand.news.serial
    seen["paused shows the newest"] = hand.shows_the_newest_frame()
    seen["paused"] = hand.news.serial == serial
    hand.xdotool("key", "e")
    hand.until(lambda: hand.news.serial > serial)
    seen["step shows the newest"] = hand.shows_the_newest_frame()
    seen["stepped"] = hand.news.serial == serial + 1

    # The low-resolution frame, in the corner.
    hand.xdotool("key", "l")
    low_res = hand.news.played.frame.low_res
    inset = hand.screen()[-H * SCALE // 5 :, -W * SCALE // 5 :]
    seen["inset"] = np.array_equal(inset, low_res.repeat(3, axis=0).repeat(3, axis=1))
    hand.xdotool("key", "l")

    # Reset, still paused: at once the frame of the next spawn.
    hand.xdotool("key", "Return")
    hand.until(lambda: hand.news.status.spawn == 1)
    seen["reset shows the spawn"] = hand.shows_the_newest_frame()
    seen["reset frame"] = hand.news.played.frame.index
    hand.xdotool("key", "period")
    hand.frames(2)

    # Mouse: nothing before the click; all motion of a frame afterwards; nothing after Escape.
    x, y = hand.corner
    hand.xdotool("mousemove", x + 100, y + 100)
    hand.frames(2)
    seen["mouse before the click"] = [len(hand.motions), hand.actions_with("left click")]
    hand.xdotool("click", 1)
    hand.until(lambda: hand.window._mouse_exclusive)
    hand.frames(2)
    seen["the click itself"] = hand.actions_with("left click")
    hand.xdotool("mousemove_relative", 6, 0)  # pyglet may report the first motion after capturing as (0, 0)
    hand.frames(2)
    hand.motions.clear()
    hand.xdotool(*["mousemove_relative", 6, 0] * 5)
    hand.xdotool("click", 1)
    hand.frames(3)
    seen["mouse after the click"] = [sum(dx for dx, _ in hand.motions), hand.actions_with("left click")]
    hand.xdotool("key", "Escape")
    hand.until(lambda: not hand.window._mouse_exclusive)
    hand.xdotool("mousemove_relative", 10, 10)
    hand.frames(2)
    seen["mouse after escape"] = sum(dx for dx, _ in hand.motions)

    # An arrow key turns the camera.
    hand.xdotool("keydown", "Left")
    hand.frames(3)
    seen["arrow key"] = hand.news.status.action.mouse_dx
    hand.xdotool("keyup", "Left")

    # The other control: the recorded actions of this spawn to their end, then those of the next.
    hand.world.step_s = 0.3  # slow enough to look at each spawn
    hand.xdotool("key", "m")
    hand.until(lambda: hand.news.status.spawn == 2)
    seen["replay"] = [hand.news.status.control, hand.news.status.horizon]
    hand.until(lambda: hand.news.status.spawn == 0)  # where nothing is recorded
    hand.world.step_s = 0.0
    seen["after the replay"] = [hand.news.status.control, hand.news.status.message]

    # A key that is down when the focus goes does not stay down.
    hand.xdotool("keydown", "d")
    hand.frames(2)
    pyglet.app.platform_event_loop.post_event(hand.window, "on_deactivate")
    hand.frames(2)
    seen["after focus loss"] = sorted(hand.news.status.action.keys)
    hand.xdotool("keyup", "d")

    # The window's own commands.
    hand.xdotool("key", "h")
    hand.xdotool("key", "i")
    hand.xdotool("key", "F12")
    hand.until(lambda: list(Path().glob("*.png")) != [Path("running.png")])
    hand.xdotool("key", "equal")
    hand.until(lambda: hand.window.width == W * (SCALE + 1))
    hand.frames(2)
    hand.screen()
    ImageGrab.grab(xdisplay="").save("larger.png")
    seen["latency"] = next(line for line in hand.player._view.lines() if "input" in line)
    hand.xdotool("key", "Escape")


def close(hand: Hand) -> None:
    """The window is closed in the middle of a long step."""
    hand.focus()
    hand.world.step_s = 0.5
    hand.frames(1)
    time.sleep(0.1)
    pyglet.app.platform_event_loop.post_event(hand.window, "on_close")
    seen["closed"] = time.perf_counter()


def slow(hand: Hand) -> None:
    """Drawing takes longer than a frame: input must have its turn all the same."""
    drawn = hand.player._draw

    def draw(view: View) -> None:
        time.sleep(2 / FPS)
        drawn(view)

    hand.player._draw = draw
    hand.focus()
    hand.frames(10)
    hand.xdotool("key", "period")
    hand.until(lambda: hand.news.status.paused)
    hand.until(lambda: hand.player._shown_serial == hand.news.serial)
    seen["last frame shown"] = True
    hand.xdotool("key", "Escape")


def fullscreen(hand: Hand) -> None:
    """Over the whole screen and back. Without a window manager, the focus must be given again."""
    for name in ("full", "back"):
        hand.focus()
        hand.frames(2)
        hand.xdotool("key", "F11")
        hand.frames(5)
        hand.screen()
        ImageGrab.grab(xdisplay="").save(f"{name}.png")
        seen[name] = [hand.window.width, hand.window.height]
    hand.focus()
    hand.xdotool("key", "Escape")


def broken(hand: Hand) -> None:
    """The world breaks while it is played."""
    hand.focus()
    hand.world.fail_at = hand.world.steps + 2


def main() -> None:
    scene = {"play": play, "slow": slow, "fullscreen": fullscreen, "close": close, "broken": broken}[
        sys.argv[1]
    ]
    world = FakeWorld()
    controller = Controller(mouse_multiplier=1.0)
    recorder = Recorder(world, world.fps)
    session = Session(world, controller, recorder)

    def act() -> None:
        try:
            hand.until(lambda: hand.player is not None and pyglet.app.event_loop.is_running)
            scene(hand)
        except BaseException as error:
            seen["error"] = traceback.format_exception(error)
            pyglet.app.exit()

    def attach(player: PlayWindow, stepper: Stepper, view: View) -> None:
        hand.player = player
        original_attach(player, stepper, view)

    def move(dx: float, dy: float) -> None:
        hand.motions.append((dx, dy))
        original_move(dx, dy)

    hand = Hand(world, session, recorder)
    original_move, controller.move = controller.move, move
    original_attach, PlayWindow.attach = PlayWindow.attach, attach  # the way to get hold of the window
    acting = threading.Thread(target=act, daemon=True)
    acting.start()
    try:
        play_in_window(session, controller, KeyMap.around(SPACE), ((H, W), (30, 56)), FPS, TITLE, SCALE)
    finally:
        if "closed" in seen:
            seen["closed"] = time.perf_counter() - float(str(seen["closed"]))
        if hand.player is not None:
            acting.join(5)
        print(json.dumps(seen))


if __name__ == "__main__":
    run_cli(main)
