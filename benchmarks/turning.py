"""Whether a world does what it is told: which way the picture moves while the mouse turns."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.figures import grey
from benchmarks.held_out import Start
from engine import Action
from engine.world import World

Pixels = npt.NDArray[np.uint8]
TURN_UNITS = 60
TURN_FRAMES = 6


def horizontal_shift(before: Pixels, after: Pixels, reach: int = 12) -> float:
    """How many pixels the upper half of the picture moved to the right: the shift of least squared error."""
    rows = before.shape[0] // 2
    a, b = grey(before[:rows]), grey(after[:rows])
    width = a.shape[1]
    reach = min(reach, width // 2)  # of a narrower picture less than half would be compared
    errors = []
    for shift in range(-reach, reach + 1):
        left = a[:, max(0, -shift) : width - max(0, shift)]
        right = b[:, max(0, shift) : width - max(0, -shift)]
        errors.append(float(np.mean((left - right) ** 2)))
    return float(np.argmin(errors) - reach)


def turning(world: World, starts: Sequence[Start]) -> dict[str, float] | None:
    """Mean horizontal shift, low-res pixels a frame, while the mouse turns left or right, and how often they oppose.

    Returns:
        "mouse_units", "shift_turning_left", "shift_turning_right", "opposite_fraction"; None for a world without a
        mouse.
    """
    if not world.action_space.mouse_x:
        return None
    shifts: dict[str, list[float]] = {"left": [], "right": []}
    for start in starts:
        for name, units in (("left", -TURN_UNITS), ("right", TURN_UNITS)):
            frame = world.begin(start.spawn())
            moved = []
            for _ in range(TURN_FRAMES):
                before = frame.low_res
                frame = world.step(Action(mouse_dx=units))
                moved.append(horizontal_shift(before, frame.low_res))
            # The first frame still carries the recording's own turn.
            shifts[name].append(float(np.mean(moved[1:])))
    opposite = [left > 0 > right for left, right in zip(shifts["left"], shifts["right"], strict=True)]
    return {
        "mouse_units": TURN_UNITS,
        "shift_turning_left": float(np.mean(shifts["left"])),
        "shift_turning_right": float(np.mean(shifts["right"])),
        "opposite_fraction": float(np.mean(opposite)),
    }
