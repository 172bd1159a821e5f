"""Events between two frames become one action, and none is lost."""

import numpy as np
import pytest

from engine.actions import KEYBOARD_MOUSE_51 as SPACE
from engine.player.controller import Controller


@pytest.fixture
def controller() -> Controller:
    return Controller(mouse_multiplier=2.0)


def test_all_mouse_motion_of_a_frame_is_summed(controller: Controller) -> None:
    for dx, dy in ((3, -1), (4, 5), (-2, 0)):
        controller.move(dx, dy)
    action = controller.take().action
    assert (action.mouse_dx, action.mouse_dy) == (10, 8)


def test_motion_is_given_out_once(controller: Controller) -> None:
    controller.move(5, 5)
    controller.take()
    assert controller.take().action.mouse_dx == 0


@pytest.mark.parametrize("name", ["w", "space", "left click", "right click"])
def test_a_tap_shorter_than_a_frame_counts_for_exactly_one_frame(controller: Controller, name: str) -> None:
    controller.press(name)
    controller.release(name)
    first, second = (SPACE.encode(controller.take().action) for _ in range(2))
    assert first[(SPACE.keys + SPACE.buttons).index(name)] == 1
    np.testing.assert_array_equal(second, SPACE.idle())


def test_a_held_key_counts_until_it_is_released(controller: Controller) -> None:
    controller.press("w")
    assert [controller.take().action.keys for _ in range(3)] == [frozenset({"w"})] * 3
    controller.release("w")
    assert controller.take().action.keys == frozenset()


def test_focus_loss_lets_everything_go(controller: Controller) -> None:
    controller.press("w")
    controller.press("left click")
    controller.move(9, 9)
    controller.let_go()
    np.testing.assert_array_equal(SPACE.encode(controller.take().action), SPACE.idle())
    controller.release("w")  # the release that comes after all
    assert controller.take().action.keys == frozenset()


def test_forgetting_what_is_pending_keeps_held_keys(controller: Controller) -> None:
    controller.press("w")
    controller.move(9, 9)
    controller.press("r")
    controller.release("r")
    controller.forget_pending()
    action = controller.take().action
    assert (action.keys, action.mouse_dx) == (frozenset({"w"}), 0)


@pytest.mark.parametrize(("order", "kept"), [(("a", "d"), "a"), (("d", "a"), "d")])
def test_of_an_excluding_pair_the_later_key_is_dropped(
    controller: Controller, order: tuple[str, str], kept: str
) -> None:
    controller.press(order[0])
    controller.take()  # held from an earlier frame
    controller.press(order[1])
    assert SPACE.kept(controller.take().action) == (kept,)


def test_a_pair_pressed_in_one_frame_keeps_its_order(controller: Controller) -> None:
    controller.press("d")
    controller.press("a")
    controller.release("d")
    assert SPACE.kept(controller.take().action) == ("d",)


def test_arrow_keys_override_the_mouse(controller: Controller) -> None:
    controller.press("left")
    controller.move(500, 20)
    decoded = SPACE.decode(SPACE.encode(controller.take().action))
    assert (decoded.mouse_dx, decoded.mouse_dy) == (-60, 50)  # 20 px x2 = 40, nearest bin 50


def test_the_mouse_multiplier_changes_while_playing(controller: Controller) -> None:
    controller.scale_mouse(+2)
    controller.move(1, 0)
    assert controller.take().action.mouse_dx == pytest.approx(2 * 1.25**2)
    controller.scale_mouse(-100)
    assert controller.mouse_multiplier == 0.1


def test_the_oldest_new_event_is_timed(controller: Controller) -> None:
    assert controller.take().since_s is None
    controller.press("w")
    first = controller.take().since_s
    assert first is not None
    assert controller.take().since_s is None  # held, but nothing new
