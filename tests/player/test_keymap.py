"""A world's own keys win, and every command has a key."""

import dataclasses
import importlib

import pytest

from engine.actions import KEYBOARD_MOUSE_51 as SPACE
from engine.player.keymap import CANDIDATES, Command, KeyMap, key_name


def test_every_command_has_one_key_that_the_world_does_not_use() -> None:
    keymap = KeyMap.around(SPACE)
    assert sorted(keymap.commands.values(), key=str) == sorted(Command, key=str)
    assert not set(keymap.commands) & set(keymap.world)


def test_a_command_moves_away_from_a_key_of_the_world() -> None:
    space = dataclasses.replace(SPACE, keys=(*SPACE.keys, "e", "m"))
    commands = KeyMap.around(space).commands
    assert "e" not in commands
    assert commands["f2"] is Command.STEP
    assert commands["f4"] is Command.CONTROL


def test_escape_always_leaves() -> None:
    space = dataclasses.replace(SPACE, keys=(*SPACE.keys, "escape"))
    assert KeyMap.around(space).commands["escape"] is Command.LEAVE


def test_candidates_do_not_collide() -> None:
    keys = [key for candidates in CANDIDATES.values() for key in candidates]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("W", "w"),
        ("_1", "1"),
        ("LCTRL", "left ctrl"),
        ("SPACE", "space"),
        ("ENTER", "return"),
        ("PERIOD", "."),
    ]
    + [("EXCLAMATION", "1"), ("UP", "up"), ("F11", "f11"), ("BRACKETLEFT", "[")],
)
def test_symbols_become_words(symbol: str, name: str) -> None:
    assert key_name(symbol) == name


def test_every_key_of_the_published_world_can_be_typed() -> None:
    pyglet = pytest.importorskip("pyglet")
    pyglet.options["shadow_window"] = False  # importing its keys would open a display otherwise
    key = importlib.import_module("pyglet.window.key")
    typed = {key_name(name) for name in vars(key) if name.isupper() or name.startswith("_")}
    assert set(SPACE.keys) | set(SPACE.camera_keys) <= typed
    assert {name for names in CANDIDATES.values() for name in names} <= typed


def test_the_text_names_every_key() -> None:
    keymap = KeyMap.around(SPACE)
    text = keymap.text("freedoom")
    assert "freedoom" in text
    for name in (*keymap.world, *keymap.commands):
        assert f"  {name} " in text
