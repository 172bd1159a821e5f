"""Playing a world in a test, and comparing what came out."""

import numpy as np

from engine.actions import Action
from engine.frame import Frame
from engine.world import World

WALK = [
    Action({"w"}, mouse_dx=30),
    Action({"w", "space"}),
    Action(left_click=True),
    Action({"s"}, mouse_dy=-10),
]


def play(world: World, actions: list[Action], spawn: int | None = 0) -> list[Frame]:
    return [world.reset(spawn), *(world.step(action) for action in actions)]


def assert_same_frames(ours: list[Frame], theirs: list[Frame]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.index == other.index
        np.testing.assert_array_equal(one.low_res, other.low_res, err_msg=f"low_res of frame {one.index}")
        np.testing.assert_array_equal(one.rgb, other.rgb, err_msg=f"rgb of frame {one.index}")
