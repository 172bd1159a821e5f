"""A scripted player whose recordings teach a world model what every key does.

It explores by the depth buffer, fights what it sees, backs out of corners, and now and then looks around,
strafes, flicks, jumps, crouches, zooms and changes guns. A blind one does the same without looking where it goes: it
walks on against walls, slides along them and turns away from them, as people do who try a world out.

What it does is chosen for learning rather than for winning: an intent is held for a natural while, turns keep a steady
moderate speed, the view returns to the horizon, every mouse bin occurs, and standing idle is rare. All of it is drawn
from one seeded generator.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.actions import Action, ActionSpace
from train.data.doom import DEGREES_PER_MOUSE_UNIT, View

BANDS = 15  # columns of the depth buffer that steering compares
FIELD_OF_VIEW = 90.0  # degrees across the screen
HORIZON_ROWS = slice(70, 110)
NEAR, TOUCHING = 14.0, 3.0  # depth-buffer units: a wall to turn away from, and one not to walk into
STUCK_FRAMES, STUCK_DISTANCE = 8, 12.0  # map units
STEADY_SPEEDS = (20, 30, 60, 60, 100, 100, 200)  # mouse units a frame: 1 to 10 degrees
FLICK_SPEEDS = (200, 300, 300, 500, 500, 1000)
WEAPON_KEYS = ("1", "2", "3")

INTENTS = {"explore": 0.28, "turn": 0.16, "retreat": 0.16, "strafe": 0.23, "flick": 0.15, "idle": 0.02}
INTENT_FRAMES = {
    "explore": (20, 60),
    "turn": (8, 30),
    "retreat": (10, 30),
    "strafe": (10, 35),
    "flick": (1, 4),
    "idle": (4, 10),
    "escape": (8, 16),
    "fight": (15, 40),
}


@dataclass
class Policy:
    """One episode's player. `act(view)` returns the action for the frame just seen.

    Attributes:
        space: whose keys and mouse bins it uses.
        rng: all that it decides.
        blind: whether it walks without regard for what is in the way.
    """

    space: ActionSpace
    rng: np.random.Generator
    blind: bool = False
    intent: str = "explore"
    frames_left: int = 0
    turn: int = 0  # mouse units a frame, this intent's steady turn
    steer: float = 0.0  # mouse units a frame, smoothed
    strafe_key: str = "a"
    running: bool = False
    diagonal: bool = False
    pitch_goal: float = 0.0  # degrees above the horizon
    held: dict[str, int] = field(default_factory=dict)  # key or button -> frames it stays down
    trail: list[tuple[float, float]] = field(default_factory=list)

    def act(self, view: View) -> Action:
        """The action for the frame just seen; its mouse motions are bins of the action space."""
        self._choose_intent(view)
        keys, dx = self._move(view)
        dy = self._pitch(view)
        self._overlay()
        down = set(self.held)
        self.held = {key: frames - 1 for key, frames in self.held.items() if frames > 1}
        self.frames_left -= 1
        moving = bool(keys & {"w", "a", "s", "d"})
        self.trail = [*self.trail, view.position[:2]][-STUCK_FRAMES:] if moving else []
        return Action(
            keys | (down & set(self.space.keys)), dx, dy, "left click" in down, "right click" in down
        )

    # Intents: what the next second or so is about.

    def _choose_intent(self, view: View) -> None:
        if self.intent != "escape" and not self.blind and self._stuck():
            self._begin("escape")
            self.turn = self._sign() * int(self.rng.choice([100, 200]))
        elif view.targets and self.intent not in ("fight", "escape") and self.rng.random() < 0.15:
            self._begin("fight")
        elif self.frames_left <= 0:
            self._begin(str(self.rng.choice(list(INTENTS), p=list(INTENTS.values()))))

    def _begin(self, intent: str) -> None:
        rng = self.rng
        self.intent = intent
        self.frames_left = int(rng.integers(*INTENT_FRAMES[intent]))
        self.turn = self._sign() * int(rng.choice(FLICK_SPEEDS if intent == "flick" else STEADY_SPEEDS))
        self.strafe_key = "a" if rng.random() < 0.5 else "d"
        self.running = rng.random() < (0.3 if intent in ("explore", "retreat", "strafe") else 0.0)
        self.diagonal = rng.random() < 0.35
        self.trail = []
        if rng.random() < 0.4:
            self.pitch_goal = float(rng.normal(0, 5)) if rng.random() < 0.4 else 0.0

    def _stuck(self) -> bool:
        if len(self.trail) < STUCK_FRAMES:
            return False
        (x0, y0), (x1, y1) = self.trail[0], self.trail[-1]
        return bool(np.hypot(x1 - x0, y1 - y0) < STUCK_DISTANCE)

    # Moving: keys, and the mouse across.

    def _move(self, view: View) -> tuple[set[str], int]:
        rng = self.rng
        keys = {"left shift"} if self.running else set()
        if self.intent == "explore" and self.blind:
            return keys | {"w"}, self._bin_x(
                self.turn / 5 if self.turn % 3 else 0
            )  # straight on, or in a bow
        if self.intent == "explore":
            turn = self._steer(view)
            walking = band_clearance(view.depth)[BANDS // 2 - 1 : BANDS // 2 + 2].min() > TOUCHING
            return keys | ({"w"} if walking else set()), self._bin_x(turn)
        if self.intent == "turn":
            return keys | ({"w"} if self.turn % 20 and self._free(view) else set()), self._bin_x(self.turn)
        if self.intent == "retreat":
            drift = self.turn / 4 if self.turn % 3 else 0
            return keys | {"s"}, self._bin_x(drift)
        if self.intent == "strafe":
            circling = (
                self.turn / 3 if abs(self.turn) <= 60 else 0
            )  # strafing left while turning right keeps a centre
            ahead = {"w"} if self.diagonal and self._free(view) else set()
            sign = 1 if self.strafe_key == "a" else -1
            return keys | ahead | {self.strafe_key}, self._bin_x(sign * abs(circling))
        if self.intent == "flick":
            return keys | ({"w"} if rng.random() < 0.3 else set()), self._bin_x(self.turn)
        if self.intent == "escape":
            back = self.frames_left > INTENT_FRAMES["escape"][0] // 2
            return ({"s"}, 0) if back else ({self.strafe_key}, self._bin_x(self.turn))
        if self.intent == "fight":
            return self._fight(view)
        return keys, 0

    def _free(self, view: View) -> bool:
        """Whether it walks ahead as far as it knows."""
        return self.blind or view_is_open(view)

    def _steer(self, view: View) -> float:
        """Mouse units a frame towards the most open direction ahead, smoothed, with a hand's jitter."""
        clearance = band_clearance(view.depth)
        offsets = (np.arange(BANDS) - BANDS // 2) / BANDS * FIELD_OF_VIEW  # degrees to the right
        centre = BANDS // 2
        wanted = float(offsets[np.argmax(clearance - 0.06 * np.abs(offsets))])
        blocked = clearance[centre - 2 : centre + 3].min() < NEAR
        if blocked and clearance.max() < 2 * NEAR:  # a corner: keep turning one way until it opens
            wanted = 40.0 if self.turn > 0 else -40.0
        gain = 0.16 if blocked else 0.05
        self.steer += 0.35 * (wanted * gain / DEGREES_PER_MOUSE_UNIT - self.steer)
        jitter = float(self.rng.choice([-10, -4, -2, 2, 4, 10])) if self.rng.random() < 0.3 else 0.0
        return float(np.clip(self.steer, -200, 200)) * (abs(self.steer) > 6) + jitter

    def _fight(self, view: View) -> tuple[set[str], int]:
        if not view.targets:
            self.frames_left = min(self.frames_left, 3)
            return set(), self._bin_x(self.turn / 2)
        x, y, width = view.targets[0]
        error = (x - view.screen.shape[1] / 2) / view.screen.shape[1] * FIELD_OF_VIEW
        if abs(error) < max(2.5, width / 320 * 45):
            self.held["left click"] = 2
        self.pitch_goal = view.pitch - (y - 90) / 320 * FIELD_OF_VIEW * 0.5 if abs(y - 90) > 12 else 0.0
        self.pitch_goal = float(np.clip(self.pitch_goal, -6, 6))
        keys = {self.strafe_key} if self.frames_left % 24 > 8 else ({"w"} if width < 60 else {"s"})
        return keys, self._bin_x(float(np.clip(0.4 * error / DEGREES_PER_MOUSE_UNIT, -200, 200)))

    # The mouse up and down: negative is up, as on a screen.

    def _pitch(self, view: View) -> int:
        if self.intent == "idle":
            return 0
        if self.rng.random() < 0.006:
            self.pitch_goal = self._sign() * float(self.rng.uniform(5, 14))
        elif self.rng.random() < 0.03:
            self.pitch_goal = 0.0
        if self.rng.random() < 0.004:  # a flick, undone by the frames after it
            flick = int(self.rng.choice([100, 100, 200]))
            return flick if view.pitch > 3 or (view.pitch > -3 and self._sign() > 0) else -flick
        error = self.pitch_goal - view.pitch  # degrees still to look up
        step = float(np.clip(0.4 * error, -10, 10)) / DEGREES_PER_MOUSE_UNIT
        if abs(error) < 0.5:
            step = float(self.rng.choice([-2, 2])) if self.rng.random() < 0.1 else 0.0
        return self._nearest(self.space.mouse_y, -step)

    # Keys that ride on top of whatever the intent is.

    def _overlay(self) -> None:
        rng = self.rng
        if self.intent != "idle":
            self._press("space", 0.010, 2, 4)
            self._press("left ctrl", 0.005, 8, 24)
            self._press("r", 0.006, 1, 4)
            self._press("left click", 0.012, 2, 18)
            self._press("right click", 0.003, 12, 35)
            if rng.random() < 0.012 and not set(WEAPON_KEYS) & set(self.held):
                self.held[str(rng.choice(WEAPON_KEYS, p=[0.2, 0.4, 0.4]))] = int(rng.integers(2, 5))

    def _press(self, key: str, chance: float, shortest: int, longest: int) -> None:
        if key not in self.held and self.rng.random() < chance:
            self.held[key] = int(self.rng.integers(shortest, longest + 1))

    def _sign(self) -> int:
        return 1 if self.rng.random() < 0.5 else -1

    def _bin_x(self, units: float) -> int:
        return self._nearest(self.space.mouse_x, units)

    @staticmethod
    def _nearest(bins: tuple[int, ...], units: float) -> int:
        return min(bins, key=lambda centre: (abs(centre - units), abs(centre)))


def band_clearance(depth: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How far one can see in each of BANDS directions, left to right, in depth-buffer units, 0-255."""
    rows = depth[HORIZON_ROWS].astype(np.float32).min(axis=0)  # (320,): what stands highest in the way
    return np.array([band.min() for band in np.array_split(rows, BANDS)], np.float32)


def view_is_open(view: View) -> bool:
    """True where nothing stands close straight ahead."""
    centre = BANDS // 2
    return bool(band_clearance(view.depth)[centre - 2 : centre + 3].min() > 1.3 * NEAR)
