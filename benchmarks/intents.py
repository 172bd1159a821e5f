"""What a player wants, read off action vectors: turn, move, strafe, fire. The classes that the probe is asked about.

An intent shows in the picture only where it is held: who lets go of a key glides on for some frames, and a shot's flash
comes late. So a frame gets a class only where its head's intent has been the same for `Head.settle` frames, itself
included; all others are `UNSURE`, in real and in imagined play alike. Knows no pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.actions import Action, ActionSpace

Labels = npt.NDArray[np.int64]
UNSURE = -1
TURN_UNITS, STILL_UNITS = (
    20,
    4,
)  # mouse units in a frame: from here on a turn, up to here none; between them unsure
SCRIPTED_UNITS = 60


@dataclass(frozen=True)
class Head:
    """One question.

    Attributes:
        name: of the question.
        classes: the answers; a label is an index into them.
        settle: frames that an intent has to be held before a frame counts.
    """

    name: str
    classes: tuple[str, ...]
    settle: int


TURN = Head("turn", ("left", "none", "right"), 1)
MOVE = Head("move", ("forward", "none", "back"), 4)
STRAFE = Head("strafe", ("left", "none", "right"), 4)
FIRE = Head("fire", ("no", "yes"), 3)

INTENTS: dict[str, tuple[Head | None, Action]] = {
    "turn left": (TURN, Action(mouse_dx=-SCRIPTED_UNITS)),
    "turn right": (TURN, Action(mouse_dx=SCRIPTED_UNITS)),
    "forward": (MOVE, Action({"w"})),
    "back": (MOVE, Action({"s"})),
    "strafe left": (STRAFE, Action({"a"})),
    "strafe right": (STRAFE, Action({"d"})),
    "fire": (FIRE, Action(left_click=True)),
    "rest": (None, Action()),
}
HELD_FRAMES = 6


def heads_of(space: ActionSpace) -> tuple[Head, ...]:
    """The questions that make sense in a world: those whose keys it has."""
    wanted = {
        TURN: bool(space.mouse_x),
        MOVE: {"w", "s"} <= set(space.keys),
        STRAFE: {"a", "d"} <= set(space.keys),
        FIRE: "left click" in space.buttons,
    }
    return tuple(head for head, there in wanted.items() if there)


def labels(space: ActionSpace, actions: npt.NDArray[np.number], head: Head) -> Labels:
    """The class of every frame.

    Args:
        space: of the actions.
        actions: (T, A) vectors of consecutive frames; entry t leads from frame t to frame t + 1.
        head: the question.

    Returns:
        int64 (T,): indices into `head.classes`, or `UNSURE`; the first `head.settle` - 1 are unsure.
    """
    wanted = _READ[head.name](space, np.asarray(actions, np.float32))
    held = np.full(len(wanted), UNSURE)
    for t in range(head.settle - 1, len(wanted)):
        window = wanted[t - head.settle + 1 : t + 1]
        if (window == wanted[t]).all():
            held[t] = wanted[t]
    return held


def script(space: ActionSpace, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Every intent of the world once, in an order that is drawn, each for `HELD_FRAMES` frames: float32 (T, A)."""
    heads = heads_of(space)
    there = [action for head, action in INTENTS.values() if head is None or head in heads]
    order = random.permutation(len(there))
    return np.concatenate([np.tile(space.encode(there[index]), (HELD_FRAMES, 1)) for index in order])


def _turn(space: ActionSpace, actions: npt.NDArray[np.float32]) -> Labels:
    first = len(space.keys) + len(space.buttons)
    bins = actions[:, first : first + len(space.mouse_x)]
    units = bins @ np.array(space.mouse_x, np.float32)
    size = np.abs(units)
    known = (bins.sum(axis=1) > 0) & ((size >= TURN_UNITS) | (size <= STILL_UNITS))
    return np.where(known, 1 + np.sign(units) * (size >= TURN_UNITS), UNSURE).astype(np.int64)


def _opposed(space: ActionSpace, actions: npt.NDArray[np.float32], low: str, high: str) -> Labels:
    """0 where `low` is held, 2 where `high` is, 1 where neither is, unsure where both are."""
    one, other = (actions[:, space.keys.index(key)] > 0 for key in (low, high))
    return np.where(one & other, UNSURE, 1 + other.astype(np.int64) - one.astype(np.int64))


def _fire(space: ActionSpace, actions: npt.NDArray[np.float32]) -> Labels:
    column = len(space.keys) + space.buttons.index("left click")
    return (actions[:, column] > 0).astype(np.int64)


_READ: dict[str, Callable[[ActionSpace, npt.NDArray[np.float32]], Labels]] = {
    "turn": _turn,
    "move": lambda space, actions: _opposed(space, actions, "w", "s"),
    "strafe": lambda space, actions: _opposed(space, actions, "a", "d"),
    "fire": _fire,
}
