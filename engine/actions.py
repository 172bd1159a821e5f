"""What a player does in one frame, and the vector that a world's networks read.

An `ActionSpace` lists a world's keys, buttons and mouse bins and converts both ways. It travels inside the
bundle, so nothing here is tied to one game; `KEYBOARD_MOUSE_51` is the layout of the published CS:GO world.
Key names are plain words ("w", "left shift"): this module knows no window library.

Vector layout: one entry per key, one per button, then a one-hot of the mouse-x bin and one of the mouse-y
bin. An axis without a bin says that no motion is known: the published networks were trained with such vectors
before the start of an episode.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from engine.errors import DiamondError
from engine.fields import Fields

Vector = npt.NDArray[np.float32]
Axis = Literal["x", "y"]
BUTTONS = ("left click", "right click")


@dataclass(frozen=True)
class Action:
    """What is held and moved during one frame.

    Attributes:
        keys: names of the keys held; any collection of names is accepted. An ordered one (list, tuple) also
            records the order of pressing in `pressed`, which decides between keys that exclude each other:
            the later is dropped.
        mouse_dx: mouse motion to the right during the frame, in mouse units; snapped to the nearest bin.
        mouse_dy: mouse motion downwards, in mouse units.
        left_click, right_click: whether the button is down.

    Raises:
        DiamondError: a key that is not a string, or a motion that is not a finite number.
    """

    keys: Collection[str] = frozenset()
    mouse_dx: float = 0.0
    mouse_dy: float = 0.0
    left_click: bool = False
    right_click: bool = False
    pressed: tuple[str, ...] = field(init=False, compare=False, repr=False, default=())

    def __post_init__(self) -> None:
        if isinstance(self.keys, str):
            raise DiamondError(
                f"Action: keys is the string {self.keys!r}",
                "a collection of key names",
                f"keys={{{self.keys!r}}}",
            )
        ordered = not isinstance(self.keys, (set, frozenset))
        keys = tuple(self.keys)
        for key in keys:
            if not isinstance(key, str):
                raise DiamondError(f"Action: key {key!r} is a {type(key).__name__}", "key names, such as 'w'")
        object.__setattr__(self, "keys", frozenset(keys))
        object.__setattr__(self, "pressed", tuple(dict.fromkeys(keys)) if ordered else ())
        for name in ("mouse_dx", "mouse_dy"):
            value = getattr(self, name)
            if not isinstance(value, (int, float, np.integer, np.floating)) or not math.isfinite(value):
                raise DiamondError(f"Action: {name} is {value!r}", "a finite number of mouse units")


@dataclass(frozen=True)
class ActionSpace:
    """A world's keys, buttons and mouse bins, and the coding of actions as vectors.

    Attributes:
        keys: key names in vector order.
        mouse_x, mouse_y: allowed mouse motions per frame, in mouse units, ascending; empty where there is no
            such axis.
        buttons: mouse buttons in vector order, out of "left click" and "right click".
        forbidden: pairs of key names that exclude each other; the one pressed later is dropped.
        camera_keys: keys that override the mouse, as name -> (axis, motion); the motion must be one of the
            bins.
        labels: what each key or button does, for the help screen.

    Raises:
        DiamondError: a space that contradicts itself.
    """

    keys: tuple[str, ...]
    mouse_x: tuple[int, ...]
    mouse_y: tuple[int, ...]
    buttons: tuple[str, ...] = BUTTONS
    forbidden: tuple[tuple[str, str], ...] = ()
    camera_keys: Mapping[str, tuple[Axis, int]] = field(default_factory=dict, hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        known = self.keys + tuple(self.camera_keys)
        for name, names in (("keys and camera_keys", known), ("buttons", self.buttons)):
            if len(set(names)) != len(names):
                raise DiamondError(f"action space: {name} repeat a name: {list(names)}", "each name once")
        if unknown := sorted(set(self.buttons) - set(BUTTONS)):
            raise DiamondError(f"action space: unknown buttons {unknown}", f"buttons out of {list(BUTTONS)}")
        for axis, bins in (("mouse_x", self.mouse_x), ("mouse_y", self.mouse_y)):
            if list(bins) != sorted(set(bins)) or (bins and 0 not in bins):
                raise DiamondError(
                    f"action space: {axis} bins are {list(bins)}", "ascending motions that contain 0"
                )
        for pair in self.forbidden:
            if len(pair) != 2 or not set(pair) <= set(known):
                raise DiamondError(
                    f"action space: forbidden pair {list(pair)}", f"two keys out of {list(known)}"
                )
        for key, (axis, motion) in self.camera_keys.items():
            if axis not in ("x", "y") or motion not in (self.mouse_x if axis == "x" else self.mouse_y):
                raise DiamondError(
                    f"action space: camera key {key!r} moves mouse {axis!r} by {motion}",
                    "a bin of mouse_x or mouse_y",
                )
        if unknown := sorted(set(self.labels) - set(known) - set(self.buttons)):
            raise DiamondError(
                f"action space: labels for unknown keys {unknown}", f"labels for {list(known)}"
            )

    @property
    def size(self) -> int:
        """Length A of an action vector."""
        return len(self.keys) + len(self.buttons) + len(self.mouse_x) + len(self.mouse_y)

    def kept(self, action: Action) -> tuple[str, ...]:
        """The keys of `action` that count: known to this world, the later of a forbidden pair dropped.

        Args:
            action: order of pressing is `action.pressed`; where it was given as a set, the order of the
                layout.

        Returns:
            Key names, camera keys included, in order of pressing.
        """
        layout = self.keys + tuple(self.camera_keys)
        pressed: Sequence[str] = action.pressed or [key for key in layout if key in frozenset(action.keys)]
        kept: list[str] = []
        for key in pressed:
            excluded = any(key in pair and (set(pair) - {key}) <= set(kept) for pair in self.forbidden)
            if key in layout and not excluded:
                kept.append(key)
        return tuple(kept)

    def encode(self, action: "Action | npt.ArrayLike") -> Vector:
        """The vector the networks read; a vector is checked and copied.

        Args:
            action: an `Action`, or a vector as `validate` accepts. Keys that this world does not know are
                ignored: a player's keyboard has more keys than a world.

        Returns:
            float32 (A,), zeros and ones.

        Raises:
            DiamondError: neither an `Action` nor a valid vector.
        """
        if not isinstance(action, Action):
            return self.validate(action).copy()
        kept = self.kept(action)
        motion = {"x": _snap(action.mouse_dx, self.mouse_x), "y": _snap(action.mouse_dy, self.mouse_y)}
        for key in kept:  # keys that steer the camera override the mouse, the last one wins
            if key in self.camera_keys:
                axis, value = self.camera_keys[key]
                motion[axis] = value
        buttons = {"left click": action.left_click, "right click": action.right_click}
        return np.array(
            [key in kept for key in self.keys]
            + [buttons[name] for name in self.buttons]
            + [motion["x"] == value for value in self.mouse_x]
            + [motion["y"] == value for value in self.mouse_y],
            dtype=np.float32,
        )

    def decode(self, vector: npt.ArrayLike) -> Action:
        """The action a vector stands for; its keys are in the order of the layout, camera keys become mouse
        motion, and an axis without a bin is motion 0.

        Args:
            vector: as `validate` accepts.
        """
        keys, buttons, x, y = self._split(self.validate(vector))
        down = {name: bool(value) for name, value in zip(self.buttons, buttons, strict=True)}
        return Action(
            keys=[key for key, value in zip(self.keys, keys, strict=True) if value],
            mouse_dx=self.mouse_x[int(x.argmax())] if x.any() else 0,
            mouse_dy=self.mouse_y[int(y.argmax())] if y.any() else 0,
            left_click=down.get("left click", False),
            right_click=down.get("right click", False),
        )

    def validate(self, vector: npt.ArrayLike) -> Vector:
        """Checks an action vector: (A,) numbers, each 0 or 1, at most one bin set on each mouse axis.

        Returns:
            float32 (A,), the same values (the same array where it already was float32).

        Raises:
            DiamondError: what is wrong with it.
        """
        array = np.asarray(vector)
        expected = f"an engine.Action, or a vector of {self.size} zeros and ones"
        if array.dtype.kind not in "fiub":
            raise DiamondError(f"action: got {type(vector).__name__}", expected)
        if array.shape != (self.size,):
            raise DiamondError(f"action vector: shape {array.shape}", f"({self.size},): {expected}")
        valid = (array == 0) | (array == 1)
        if not valid.all():
            bad = int(np.flatnonzero(~valid)[0])
            raise DiamondError(f"action vector: entry {bad} is {array[bad]}", expected)
        for axis, bins in zip(("mouse_x", "mouse_y"), self._split(array)[2:], strict=True):
            if np.count_nonzero(bins) > 1:
                raise DiamondError(
                    f"action vector: {np.count_nonzero(bins)} {axis} bins are set",
                    "at most one; standing still is the bin of motion 0",
                    "start from ActionSpace.idle()",
                )
        return array.astype(np.float32, copy=False)

    def idle(self) -> Vector:
        """The vector of doing nothing, float32 (A,)."""
        return self.encode(Action())

    def to_json(self) -> dict[str, Any]:
        """Plain data, for world.json."""
        return {
            "keys": list(self.keys),
            "buttons": list(self.buttons),
            "mouse_x": list(self.mouse_x),
            "mouse_y": list(self.mouse_y),
            "forbidden": [list(pair) for pair in self.forbidden],
            "camera_keys": {key: list(value) for key, value in self.camera_keys.items()},
            "labels": dict(self.labels),
        }

    @classmethod
    def from_json(cls, data: Any) -> "ActionSpace":
        """The inverse of `to_json`.

        Raises:
            DiamondError: a missing, unknown or ill-typed field.
        """
        fields = Fields(data, "action space", [field.name for field in dataclasses.fields(cls)])
        pairs = fields.items("forbidden")
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise fields.fail("forbidden", "a list of pairs of key names")
        cameras = fields.mapping("camera_keys")
        if not all(isinstance(camera, list) and len(camera) == 2 for camera in cameras.values()):
            raise fields.fail("camera_keys", 'key names with ["x" or "y", motion]')
        labels = fields.mapping("labels")
        if not all(isinstance(label, str) for label in labels.values()):
            raise fields.fail("labels", "key names with strings")
        return cls(
            keys=fields.texts("keys"),
            mouse_x=fields.integers("mouse_x"),
            mouse_y=fields.integers("mouse_y"),
            buttons=fields.texts("buttons"),
            forbidden=tuple((first, second) for first, second in pairs),
            camera_keys={key: (axis, motion) for key, (axis, motion) in cameras.items()},
            labels=dict(labels),
        )

    def _split(self, array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
        ends = np.cumsum([len(self.keys), len(self.buttons), len(self.mouse_x)])
        return tuple(np.split(array, ends))


def _snap(motion: float, bins: Sequence[int]) -> int:
    """The nearest bin; between two equally near ones, the lower (the first in order), as published."""
    return min(bins, key=lambda value: abs(value - motion)) if bins else 0


KEYBOARD_MOUSE_51 = ActionSpace(
    keys=("w", "a", "s", "d", "space", "left ctrl", "left shift", "1", "2", "3", "r"),
    mouse_x=(
        *(-1000, -500, -300, -200, -100, -60, -30, -20, -10, -4, -2),
        *(0, 2, 4, 10, 20, 30, 60, 100, 200, 300, 500, 1000),
    ),
    mouse_y=(-200, -100, -50, -20, -10, -4, -2, 0, 2, 4, 10, 20, 50, 100, 200),
    forbidden=(("w", "s"), ("a", "d"), ("1", "2"), ("1", "3"), ("2", "3"), ("up", "down"), ("left", "right")),
    camera_keys={"left": ("x", -60), "right": ("x", 60), "up": ("y", -50), "down": ("y", 50)},
    labels={
        "w": "forward",
        "a": "left",
        "s": "back",
        "d": "right",
        "space": "jump",
        "left ctrl": "crouch",
        "left shift": "walk",
        "1": "weapon 1",
        "2": "weapon 2",
        "3": "weapon 3",
        "r": "reload",
        "left": "look left",
        "right": "look right",
        "up": "look up",
        "down": "look down",
        "left click": "fire",
        "right click": "zoom",
    },
)
