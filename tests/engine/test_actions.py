"""The action codec against the published encodings, and what it refuses."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.actions import KEYBOARD_MOUSE_51, Action, ActionSpace
from engine.errors import DiamondError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "actions.json").read_text())
CASES: list[dict[str, Any]] = GOLDEN["cases"]


def action_of(case: dict[str, Any]) -> Action:
    return Action(case["keys"], case["mouse_x"], case["mouse_y"], case["left"], case["right"])


def test_there_are_159_published_cases() -> None:
    assert len(CASES) == 159


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_encoding_equals_the_published_one(case: dict[str, Any]) -> None:
    vector = KEYBOARD_MOUSE_51.encode(action_of(case))
    assert vector.dtype == np.float32
    assert vector.shape == (51,)
    assert np.flatnonzero(vector).tolist() == case["vector_ones"]
    assert list(KEYBOARD_MOUSE_51.kept(action_of(case))) == case["kept"]
    decoded = KEYBOARD_MOUSE_51.decode(vector)
    assert [decoded.mouse_dx, decoded.mouse_dy] == case["binned"]
    np.testing.assert_array_equal(KEYBOARD_MOUSE_51.encode(decoded), vector)


def test_layout_and_bins_are_the_published_ones() -> None:
    space = KEYBOARD_MOUSE_51
    assert list(space.keys + space.buttons) == GOLDEN["layout"][:13]
    assert [list(space.mouse_x), list(space.mouse_y)] == [GOLDEN["mouse_x_bins"], GOLDEN["mouse_y_bins"]]
    assert space.size == 51


def test_the_later_of_two_opposite_keys_is_dropped_and_a_set_follows_the_layout() -> None:
    assert KEYBOARD_MOUSE_51.kept(Action(["s", "w"])) == ("s",)
    assert KEYBOARD_MOUSE_51.kept(Action({"s", "w"})) == ("w",)


def test_between_two_equally_near_bins_the_lower_wins() -> None:
    snapped = KEYBOARD_MOUSE_51.decode(KEYBOARD_MOUSE_51.encode(Action(mouse_dx=15, mouse_dy=-15)))
    assert (snapped.mouse_dx, snapped.mouse_dy) == (10, -20)


def test_actions_with_the_same_keys_are_equal_whatever_the_order() -> None:
    assert Action(["w", "space"]) == Action({"space", "w"})
    assert Action(["w", "space"]).keys == frozenset({"w", "space"})


def test_encoding_a_vector_returns_a_copy() -> None:
    vector = KEYBOARD_MOUSE_51.idle()
    encoded = KEYBOARD_MOUSE_51.encode(vector)
    encoded[:] = 0
    assert vector.sum() == 2  # the zero-motion bins of both axes


def test_json_round_trip_is_exact() -> None:
    data = json.loads(json.dumps(KEYBOARD_MOUSE_51.to_json()))
    assert ActionSpace.from_json(data) == KEYBOARD_MOUSE_51


def test_a_space_without_mouse_has_only_keys() -> None:
    space = ActionSpace(keys=("left", "right"), mouse_x=(), mouse_y=(), buttons=())
    assert space.encode(Action({"right"}, mouse_dx=5)).tolist() == [0, 1]
    assert space.decode([1, 0]) == Action({"left"})


def vector_with(index: int, value: float) -> list[float]:
    vector: list[float] = KEYBOARD_MOUSE_51.idle().tolist()
    vector[index] = value
    return vector


@pytest.mark.parametrize(
    ("vector", "complaint"),
    [
        ([0.0] * 50, r"shape \(50,\)"),
        (np.zeros((1, 51)), r"shape \(1, 51\)"),
        ("w", "got str"),
        (None, "got NoneType"),
        (vector_with(3, float("nan")), "entry 3 is nan"),
        (vector_with(3, 0.5), "entry 3 is 0.5"),
        (vector_with(13, 1), "2 mouse_x bins"),
        (vector_with(50, 1), "2 mouse_y bins"),
    ],
)
def test_a_wrong_vector_is_refused(vector: Any, complaint: str) -> None:
    with pytest.raises(DiamondError, match=complaint):
        KEYBOARD_MOUSE_51.validate(vector)
    with pytest.raises(DiamondError, match=complaint):
        KEYBOARD_MOUSE_51.encode(vector)


def test_an_axis_without_a_bin_is_valid_and_no_motion() -> None:
    unknown = np.zeros(51, np.float32)
    np.testing.assert_array_equal(KEYBOARD_MOUSE_51.validate(unknown), unknown)
    np.testing.assert_array_equal(KEYBOARD_MOUSE_51.encode(unknown), unknown)
    assert KEYBOARD_MOUSE_51.decode(unknown) == Action()
    half = KEYBOARD_MOUSE_51.encode(Action({"w"}, mouse_dx=-1000, mouse_dy=20))
    half[13:36] = 0
    assert KEYBOARD_MOUSE_51.decode(half) == Action({"w"}, mouse_dy=20)


def test_an_action_always_sets_one_bin_an_axis() -> None:
    vector = KEYBOARD_MOUSE_51.encode(KEYBOARD_MOUSE_51.decode(np.zeros(51)))
    np.testing.assert_array_equal(vector, KEYBOARD_MOUSE_51.idle())
    assert vector[13:36].sum() == vector[36:].sum() == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"keys": "space"}, "string 'space'"),
        ({"keys": {7}}, "key 7 is a int"),
        ({"mouse_dx": float("inf")}, "mouse_dx is inf"),
        ({"mouse_dy": "3"}, "mouse_dy is '3'"),
    ],
)
def test_a_wrong_action_is_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DiamondError, match=complaint):
        Action(**arguments)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"keys": ["w", "w"]}, "repeat"),
        ({"keys": "w"}, "list"),
        ({"buttons": ["thumb"]}, "unknown buttons"),
        ({"mouse_x": [0, -1]}, "ascending"),
        ({"mouse_y": [1, 2]}, "contain 0"),
        ({"mouse_x": [0.5]}, "integers"),
        ({"forbidden": [["w", "nothing"]]}, "forbidden pair"),
        ({"forbidden": [["w", "a", "s"]]}, "pairs"),
        ({"forbidden": [], "camera_keys": {"left": ["x", -61]}}, "camera key 'left'"),
        ({"camera_keys": {"left": -60}}, "motion"),
        ({"labels": {"nothing": "x"}}, "unknown keys"),
        ({"labels": {"w": 3}}, "strings"),
        ({"surprise": 1}, "unknown fields"),
    ],
)
def test_a_contradictory_space_is_refused(change: dict[str, Any], complaint: str) -> None:
    data = copy.deepcopy(KEYBOARD_MOUSE_51.to_json()) | change
    with pytest.raises(DiamondError, match=complaint):
        ActionSpace.from_json(data)


def test_a_space_with_a_field_missing_is_refused() -> None:
    data = KEYBOARD_MOUSE_51.to_json()
    del data["labels"]
    with pytest.raises(DiamondError, match=r"lacks \['labels'\]"):
        ActionSpace.from_json(data)
