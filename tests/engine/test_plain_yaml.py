"""YAML as plain data: what is read, and what is refused before it can do harm."""

import math
from pathlib import Path
from typing import Any

import pytest

from engine.errors import DiamondError
from engine.plain_yaml import MAX_BYTES, MAX_DEPTH, read_yaml


def read(tmp_path: Path, text: str | bytes) -> dict[str, Any]:
    path = tmp_path / "file.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("+5", 5),
        ("0.5", 0.5),
        ("5.", 5.0),
        (".5", 0.5),
        ("2e-3", 0.002),
        ("1E6", 1e6),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-11-23", "2026-11-23"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("${eval:'1'}", "${eval:'1'}"),
        ("[1, a, [null]]", [1, "a", [None]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("\n- 1\n- 2", [1, 2]),
        ("5 # five", 5),
    ],
)
def test_words_mean_what_the_core_schema_says(tmp_path: Path, text: str, value: object) -> None:
    read_value = read(tmp_path, f"key: {text}\n")["key"]
    assert read_value == value
    assert type(read_value) is type(value)


def test_not_a_number_is_one(tmp_path: Path) -> None:
    assert math.isnan(read(tmp_path, "key: .nan")["key"])


def bomb(levels: int) -> str:
    """Lists of nine references to the list before: 9^levels items in a few lines."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (bomb(12), r"line 1: the anchor or alias 'a0'"),
        ("a: &x {b: *x}", "the anchor or alias 'x'"),
        ("a: 1\nb: *x", "line 2: the anchor or alias 'x'"),
        ("a: !!python/object/apply:os.system ['touch pwned']", "the tag"),
        ("a: !!binary aGk=", "the tag"),
        ("a: !custom 1", "the tag '!custom'"),
        ("a: " + "[" * 10_000, f"more than {MAX_DEPTH} levels"),
        ("a: " + "{a: " * 10_000, f"more than {MAX_DEPTH} levels"),
        ("a: 1\nb: 2\na: 3", "line 3: 'a' a second time"),
        ("a: {b: 1, b: 1}", "'b' a second time"),
        ("1: a", "the key 1"),
        ("? [a]\n: b", "the key"),
        ("null: a", "the key None"),
        ("a: 1\n---\nb: 2", "more than one YAML document"),
        ("- 1\n- 2", "is a YAML list"),
        ("hello", "is a YAML str"),
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("a: [1, 2", "line 1: is not YAML"),
        ("a: 1\n\tb: 2", "line 2: is not YAML"),
        ("a: " + "9" * 5000, "a number of 5000 digits"),
        (b"a: \xff", "is not text in UTF-8"),
        (b"a: \x00", "is not YAML"),
        ("a: " + "x" * MAX_BYTES, f"longer than {MAX_BYTES} bytes"),
    ],
)
def test_what_could_surprise_is_refused_with_file_and_line(
    tmp_path: Path, text: str | bytes, complaint: str
) -> None:
    with pytest.raises(DiamondError, match=complaint) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "file.yaml") in caught.value.what


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(DiamondError, match="cannot be read"):
            read_yaml(path)
