"""A scripted player who sees nothing: walks, turns, strafes, backs off, looks back, looks up, fires, changes guns.

Who recorded a game may steer by its depth buffer; an imagined world has none. So what is played here depends on a seed
alone, and every world is asked the same. Intents come from a deck that is shuffled whenever it is used up: no stretch
of play lacks one of them. Walks are short, and as many turns are dealt: the same script in the real game would not stay
at one wall.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.actions import Action, ActionSpace, Vector

STEADY_UNITS = (20, 30, 60, 60, 100)  # mouse units a frame; in the world `freedoom` 20 are one degree
LOOK_BACK_UNITS = 200
PITCH_UNITS, PITCH_FRAMES = 20, 4  # looked up or down, and undone by as much
FIRE, CHANGE_GUNS, LOOK_UP = 0.015, 0.005, 0.01  # chances in a frame


@dataclass(frozen=True)
class Intent:
    """What the next second or so is about.

    Attributes:
        count: in the deck.
        shortest, longest: frames that it is held.
    """

    count: int
    shortest: int
    longest: int


INTENTS = {
    "walk": Intent(4, 12, 30),
    "turn": Intent(4, 8, 24),
    "strafe": Intent(2, 10, 25),
    "back off": Intent(2, 10, 25),
    "look back": Intent(1, 16, 18),
    "rest": Intent(1, 4, 8),
}


def wander(space: ActionSpace, seed: int) -> Iterator[Vector]:
    """Action vectors, float32 (A,), without end; equal seeds give equal play. Keys that `space` lacks are left out."""
    random = np.random.default_rng(seed)
    deck: list[str] = []
    firing, pitch, gun = 0, 0, {"1", "2", "3"} & set(space.keys)
    while True:
        if not deck:
            deck = [name for name, intent in INTENTS.items() for _ in range(intent.count)]
            random.shuffle(deck)
        intent = deck.pop()
        keys, units = _plan(intent, random)
        for _ in range(random.integers(INTENTS[intent].shortest, INTENTS[intent].longest + 1)):
            held = set(keys)
            firing = int(random.integers(2, 12)) if random.random() < FIRE else max(0, firing - 1)
            if random.random() < CHANGE_GUNS and gun:
                held.add(str(random.choice(sorted(gun))))
            if pitch == 0 and random.random() < LOOK_UP:
                pitch = 2 * PITCH_FRAMES * int(random.choice([-1, 1]))
            yield space.encode(
                Action(
                    held & set(space.keys),
                    units,
                    _pitch_units(pitch),
                    firing > 0 and "left click" in space.buttons,
                )
            )
            pitch -= int(np.sign(pitch))


def _plan(intent: str, random: np.random.Generator) -> tuple[set[str], float]:
    """Keys held and mouse units a frame of one intent."""
    side = int(random.choice([-1, 1]))
    units = float(side * random.choice(STEADY_UNITS))
    if intent == "walk":
        running = {"left shift"} if random.random() < 0.2 else set()
        return {"w"} | running, units / 5 if random.random() < 0.5 else 0.0  # half of them in a bow
    if intent == "turn":
        return ({"w"} if random.random() < 0.25 else set()), units
    if intent == "strafe":
        circling = units / 3 if random.random() < 0.5 else 0.0
        return {"a" if side > 0 else "d"}, circling  # to the left while turning right keeps a centre
    if intent == "back off":
        return {"s"}, units / 3 if random.random() < 0.5 else 0.0
    if intent == "look back":
        return set(), float(side * LOOK_BACK_UNITS)
    return set(), 0.0


def _pitch_units(left: int) -> float:
    """Motion downwards in the first and, undoing it, in the second half of the `2 * PITCH_FRAMES` frames of a look."""
    half = 1 if abs(left) > PITCH_FRAMES else -1
    return float(np.sign(left)) * half * PITCH_UNITS
