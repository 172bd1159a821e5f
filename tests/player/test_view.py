"""What events mean: the mouse counts while captured, Escape gives it back first, commands go where they belong."""

import time

import pytest

from engine.actions import KEYBOARD_MOUSE_51 as SPACE
from engine.actions import Action
from engine.player.controller import Controller
from engine.player.hud import action_text, hud_lines
from engine.player.keymap import Command, KeyMap
from engine.player.picture import Enlargement, fit
from engine.player.session import Played
from engine.player.stepper import News
from engine.player.view import View
from tests.player.test_session import Game


class FakeScreen:
    """Notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def redraw(self) -> None: ...

    def capture_mouse(self, captured: bool) -> None:
        self.asked.append(captured)

    def resize(self, by: int) -> None:
        self.asked.append(by)

    def toggle_fullscreen(self) -> None:
        self.asked.append("fullscreen")

    def screenshot(self) -> str:
        return "saved it"

    def quit(self) -> None:
        self.asked.append("quit")


class FakeStepper:
    def __init__(self) -> None:
        game = Game()
        self.news: News | None = News(Played(game.first), game.session.status(), 1)
        self.sent: list[Command] = []

    def send(self, command: Command) -> None:
        self.sent.append(command)


class Desk:
    """A view and everything around it."""

    def __init__(self) -> None:
        self.screen, self.stepper, self.controller = FakeScreen(), FakeStepper(), Controller(1.0)
        self.view = View(self.screen, self.stepper, self.controller, KeyMap.around(SPACE))  # type: ignore[arg-type]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_keys_go_to_the_world_and_commands_do_not(desk: Desk) -> None:
    for name in ("w", ".", "e", "return", "m", "p", "f9"):
        desk.view.key_down(name)
    assert desk.controller.take().action.keys == {"w"}
    commands = [Command.PAUSE, Command.STEP, Command.RESET, Command.CONTROL, Command.PRESET, Command.RECORD]
    assert desk.stepper.sent == commands


def test_the_first_click_captures_and_is_no_shot(desk: Desk) -> None:
    desk.view.mouse_moved(5, 5)
    desk.view.button_down("left click")
    desk.view.button_up("left click")
    action = desk.controller.take().action
    assert (action.left_click, action.mouse_dx) == (False, 0)
    desk.view.mouse_moved(5, -3)
    desk.view.button_down("left click")
    action = desk.controller.take().action
    assert (action.left_click, action.mouse_dx, action.mouse_dy) == (True, 5, -3)


def test_escape_releases_the_mouse_first_and_quits_then(desk: Desk) -> None:
    desk.view.button_down("left click")
    desk.view.key_down("escape")
    assert desk.screen.asked == [True, False]
    desk.view.mouse_moved(9, 9)
    assert desk.controller.take().action.mouse_dx == 0
    desk.view.key_down("escape")
    assert "quit" in desk.screen.asked


def test_focus_loss_lets_go_of_keys_and_mouse(desk: Desk) -> None:
    desk.view.button_down("left click")
    desk.view.key_down("w")
    desk.view.focus_lost()
    assert desk.controller.take().action == Action()
    assert desk.screen.asked[-1] is False


def test_the_window_obeys_its_own_commands(desk: Desk) -> None:
    for name in ("=", "-", "f11", "l", "i"):
        desk.view.key_down(name)
    assert desk.screen.asked == [1, -1, "fullscreen"]
    assert desk.view.inset
    assert desk.view.enlargement is Enlargement.SQUARES
    desk.view.key_down("]")
    assert desk.controller.mouse_multiplier == 1.25
    assert desk.view.lines()[-1] == "mouse x1.25"
    desk.view.key_down("f12")
    assert desk.view.lines()[-1] == "saved it"
    desk.view.key_down("h")
    assert desk.view.lines() == []


def test_the_text_says_what_matters() -> None:
    game = Game(spawn=1)
    game.controller.press("w")
    game.controller.press("left click")
    game.controller.move(31, 0)
    game.play(5)
    game.session.obey(Command.RECORD)
    game.session.obey(Command.PAUSE)
    text = "\n".join(hud_lines(game.session.status(), 42.4))
    assert "42 ms from input to picture" in text
    assert "fake   fast (1 + 1 steps)   spawn 1   frame 5 of 1000" in text
    assert "you: w" in text
    assert "recording fake-" in text
    assert "paused" in text


def test_in_a_replay_the_text_counts_up_to_its_last_frame() -> None:
    game = Game(spawn=1, replay=1)
    game.play(2)
    text = "\n".join(hud_lines(game.session.status(), None))
    assert "spawn 1   frame 2 of 3" in text
    assert "recording: d   mouse +30 +0" in text


def test_actions_in_words() -> None:
    action = Action(keys=["w", "space"], mouse_dx=30, mouse_dy=-4, left_click=True)
    assert action_text(action) == "space + w   mouse +30 -4   left click"
    assert action_text(Action()) == ""


def test_before_the_first_frame_the_text_says_why(desk: Desk) -> None:
    desk.stepper.news = None
    assert "warming up" in desk.view.lines()[0]


def test_latency_is_the_median_from_event_to_picture(desk: Desk) -> None:
    news = desk.stepper.news
    assert news is not None
    for ms in (10, 20, 500):
        since_s = time.perf_counter() - ms / 1e3
        desk.view.shown(News(Played(news.played.frame, 0.0, since_s), news.status, 2))
    assert "20 ms from input to picture" in desk.view.lines()[0]


@pytest.mark.parametrize(
    ("room", "place"),
    [((450, 840), (0, 0, 840, 450)), ((450, 1000), (80, 0, 840, 450)), ((1000, 840), (0, 275, 840, 450))],
)
def test_a_picture_keeps_its_shape_in_the_middle(room: tuple[int, int], place: tuple[int, ...]) -> None:
    assert fit((150, 280), room) == place
