"""Which key does what: the world's own keys, and the player's commands around them.

Keys are plain words ("w", "left shift", "return"), the same as in a world's action space; this module knows
no window library. A world says its own keymap and its keys win: a command whose first key the world uses
moves to its next one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from engine.actions import ActionSpace


class Command(Enum):
    """What a player asks of the player program, as opposed to of the world. The value says it in words."""

    PAUSE = "pause / go on"
    STEP = "pause, and advance one frame"
    RESET = "reset to the next spawn"
    CONTROL = "switch control: you / recorded actions"
    PRESET = "next preset"
    RECORD = "start / stop recording"
    MOUSE_SLOWER = "mouse slower"
    MOUSE_FASTER = "mouse faster"
    HUD = "show / hide the text"
    INSET = "show / hide the low-resolution frame"
    FILTER = "enlarge smoothly / in squares"
    SMALLER = "window smaller"
    LARGER = "window larger"
    FULLSCREEN = "full screen on / off"
    SCREENSHOT = "save a screenshot"
    LEAVE = "release the mouse; again: quit"


CANDIDATES: Mapping[Command, tuple[str, ...]] = {
    Command.PAUSE: (".", "f1"),
    Command.STEP: ("e", "f2"),
    Command.RESET: ("return", "f3"),
    Command.CONTROL: ("m", "f4"),
    Command.PRESET: ("p", "f5"),
    Command.RECORD: ("f9",),
    Command.MOUSE_SLOWER: ("[", "f6"),
    Command.MOUSE_FASTER: ("]", "f7"),
    Command.HUD: ("h", "f8"),
    Command.INSET: ("l", "f10"),
    Command.FILTER: ("i", "insert"),
    Command.SMALLER: ("-", "page down"),
    Command.LARGER: ("=", "page up"),
    Command.FULLSCREEN: ("f11",),
    Command.SCREENSHOT: ("f12",),
    Command.LEAVE: ("escape",),
}

# pyglet's symbol names that are not simply the lower-case word. X11 reports a key typed under shift as the
# shifted character, so "walk (shift) and switch weapon (1)" arrives as "!": on the US layout it means the
# digit.
_NAMES = {
    "lctrl": "left ctrl",
    "rctrl": "right ctrl",
    "lshift": "left shift",
    "rshift": "right shift",
    "lalt": "left alt",
    "ralt": "right alt",
    "enter": "return",
    "num_enter": "return",
    "pageup": "page up",
    "pagedown": "page down",
    **dict(zip(("period", "comma", "minus", "equal", "slash", "semicolon"), ".,-=/;", strict=True)),
    **dict(zip(("bracketleft", "bracketright", "apostrophe", "grave", "backslash"), "[]'`\\", strict=True)),
    **dict(zip(("exclamation", "at", "hash", "dollar", "percent"), "12345", strict=True)),
    **dict(zip(("asciicircum", "ampersand", "asterisk", "parenleft", "parenright"), "67890", strict=True)),
    **dict(zip(("greater", "less", "underscore", "plus", "braceleft", "braceright"), ".,-=[]", strict=True)),
}


def key_name(symbol: str) -> str:
    """The word for a key, from a window library's symbol name: "LSHIFT" -> "left shift", "_1" -> "1"."""
    word = symbol.lower()
    if len(word) == 2 and word[0] == "_":
        return word[1]
    return _NAMES.get(word, word)


@dataclass(frozen=True)
class KeyMap:
    """The player's commands, laid around the keys of one world.

    Attributes:
        commands: key name -> command.
        world: what moves the world (key, button, "mouse") -> what it does there.
    """

    commands: Mapping[str, Command]
    world: Mapping[str, str]

    @classmethod
    def around(cls, space: ActionSpace) -> "KeyMap":
        """The keymap for a world: its own keys, then each command on its first key that is still free."""
        taken = set(space.keys) | set(space.camera_keys)
        commands = {}
        for command, candidates in CANDIDATES.items():
            free = [key for key in candidates if key not in taken]
            if free:  # a world that claims every candidate has no such command, except escape: see below
                commands[free[0]] = command
                taken.add(free[0])
        commands["escape"] = Command.LEAVE  # whatever a world claims, there is always a way out
        names = (*space.keys, *space.camera_keys, *space.buttons)
        world = {name: space.labels.get(name) or _label(name, space) for name in names}
        if space.mouse_x or space.mouse_y:
            world["mouse"] = "look around (click the window to capture it)"
        return cls(commands, world)

    def text(self, world_name: str) -> str:
        """The controls as a table of plain text, for the terminal at start."""
        tables = {world_name: self.world, "player": {key: what.value for key, what in self.commands.items()}}
        width = max(len(key) for table in tables.values() for key in table)
        return "\n".join(
            f"{title}:" + "".join(f"\n  {key:<{width}}  {what}" for key, what in table.items())
            for title, table in tables.items()
        )


def _label(name: str, space: ActionSpace) -> str:
    """What a key without a label does, as far as the action space tells."""
    if name not in space.camera_keys:
        return "-"
    axis, motion = space.camera_keys[name]
    directions = ("left", "right") if axis == "x" else ("up", "down")
    return f"look {directions[motion > 0]}"
