"""From window events to one action per frame, without a window library.

Events come faster than frames and from another thread. Between two frames this collects: mouse motion is
summed; a key or click tapped and released within one frame still counts for that frame; when the window
loses focus everything is let go, since no release will come. Excluding pairs and camera keys are the action
space's business, so keys are handed on in the order of pressing.
"""

import threading
import time
from dataclasses import dataclass

from engine.actions import Action

MULTIPLIER_STEP = 1.25
MULTIPLIER_RANGE = (0.1, 1000.0)


@dataclass(frozen=True)
class Input:
    """One frame's worth of play.

    Attributes:
        action: what is held, tapped and moved.
        since_s: `time.perf_counter()` of the oldest event that is new in this frame; None where nothing is
            new.
    """

    action: Action
    since_s: float | None


class Controller:
    """Collects events and gives them out as one action per frame. Every method may be called from any thread.

    Args:
        mouse_multiplier: mouse units of the world per pixel of motion.
    """

    def __init__(self, mouse_multiplier: float = 10.0) -> None:
        self._lock = threading.Lock()
        self._multiplier = mouse_multiplier
        self._held: dict[str, None] = {}  # ordered sets: names in the order of pressing
        self._tapped: dict[str, None] = {}  # pressed since the last frame, whether or not still held
        self._dx = self._dy = 0.0
        self._since_s: float | None = None

    @property
    def mouse_multiplier(self) -> float:
        """Mouse units of the world per pixel of motion."""
        return self._multiplier

    def scale_mouse(self, notches: int) -> None:
        """Makes the mouse faster (positive notches) or slower, within sane limits."""
        low, high = MULTIPLIER_RANGE
        self._multiplier = min(high, max(low, self._multiplier * MULTIPLIER_STEP**notches))

    def press(self, name: str) -> None:
        """A key or mouse button ("left click") goes down."""
        with self._lock:
            self._held.setdefault(name)
            self._tapped.setdefault(name)
            self._note()

    def release(self, name: str) -> None:
        """A key or mouse button goes up; one that is not down is ignored."""
        with self._lock:
            if name in self._held:
                del self._held[name]
                self._note()

    def move(self, dx: float, dy: float) -> None:
        """Mouse motion in pixels: right and down are positive. Motions within a frame add up."""
        with self._lock:
            self._dx += dx * self._multiplier
            self._dy += dy * self._multiplier
            self._note()

    def let_go(self) -> None:
        """Releases everything and forgets pending motion: the window lost focus, or a new life begins."""
        with self._lock:
            self._held.clear()
            self._forget()

    def forget_pending(self) -> None:
        """Drops motion and taps that were collected while nobody took them (a pause); held keys stay held."""
        with self._lock:
            self._forget()

    def take(self) -> Input:
        """The action of this frame; what it contained of motion and taps will not be given again."""
        with self._lock:
            before = [name for name in self._held if name not in self._tapped]
            names = [*before, *self._tapped]  # in the order of pressing
            action = Action(
                keys=[name for name in names if not name.endswith(" click")],
                mouse_dx=self._dx,
                mouse_dy=self._dy,
                left_click="left click" in names,
                right_click="right click" in names,
            )
            taken = Input(action, self._since_s)
            self._forget()
            return taken

    def _forget(self) -> None:
        self._tapped.clear()
        self._dx = self._dy = 0.0
        self._since_s = None

    def _note(self) -> None:
        if self._since_s is None:
            self._since_s = time.perf_counter()
