"""YAML that people edit or download, read as plain data and nothing more.

PyYAML parses; what its events may build is narrower than what YAML allows, because a file may come from anywhere:
one document of bounded size and depth, whose mappings have text keys, each given once. Anchors, aliases and tags
are refused: ten short lines of aliases can stand for gigabytes, and tags name types to construct. Words mean what
YAML 1.2's core schema says: `2e-3` is a number and `on` a word. Knows nothing of what the values are for.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from engine.errors import DiamondError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16

_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NANS = {".nan", ".NaN", ".NAN"}


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads one mapping.

    Args:
        path: the file.

    Returns:
        Text keys with None, bool, int, float, str, lists and mappings of these.

    Raises:
        DiamondError: naming the file, and the line where there is one: it cannot be read, is too large, is not
            YAML, is not a mapping, or uses what is refused.
    """
    events = _events(path, _read_text(path))
    reader = _Reader(path, events)
    first = next(events)
    if isinstance(first, yaml.StreamEndEvent):
        raise DiamondError(f"{path}: is empty", "a YAML mapping")
    value = reader.value(next(events), depth=1)
    next(events)  # the document's end
    if not isinstance(next(events), yaml.StreamEndEvent):
        raise DiamondError(f"{path}: holds more than one YAML document", "one")
    if not isinstance(value, dict):
        raise DiamondError(f"{path}: is a YAML {type(value).__name__}", "a mapping: lines of `name: value`")
    return value


class _Reader:
    """Builds values from parser events, refusing what could surprise."""

    def __init__(self, path: Path, events: Iterator[Any]) -> None:
        self.path = path
        self.events = events

    def value(self, event: Any, depth: int) -> Any:
        """The value that starts with `event`."""
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self.refuse(event, f"the anchor or alias {event.anchor!r}", "every value written out")
        if event.tag is not None:
            self.refuse(event, f"the tag {event.tag!r}", "plain values without tags")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if depth > MAX_DEPTH:
            self.refuse(event, f"more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH}")
        return self.sequence(depth) if isinstance(event, yaml.SequenceStartEvent) else self.mapping(depth)

    def sequence(self, depth: int) -> list[Any]:
        """A list, up to and with its end."""
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.value(event, depth + 1))
        return items

    def mapping(self, depth: int) -> dict[str, Any]:
        """A mapping, up to and with its end."""
        fields: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.value(event, depth + 1)
            if not isinstance(key, str):
                self.refuse(event, f"the key {key!r:.40}", "keys that are words")
            if key in fields:
                self.refuse(event, f"{key!r} a second time", "each name once")
            fields[key] = self.value(next(self.events), depth + 1)
        return fields

    def scalar(self, event: Any) -> bool | int | float | str | None:
        """One value: text in quotes stays text, other words are read by the core schema."""
        text = str(event.value)
        if event.style is not None:
            return text
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _INTEGER.fullmatch(text):
            try:
                return int(text)
            except ValueError:  # Python's limit on digits
                self.refuse(event, f"a number of {len(text)} digits", "a number in the usual range")
        if _FLOAT.fullmatch(text):
            return float(text)
        if _INFINITY.fullmatch(text):
            return float(text.replace(".", ""))
        return float("nan") if text in _NANS else text

    def refuse(self, event: Any, what: str, expected: str) -> NoReturn:
        """Raises the error that names file and line."""
        raise DiamondError(f"{self.path}, line {event.start_mark.line + 1}: {what}", expected)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise DiamondError(f"{path}: is longer than {MAX_BYTES} bytes", "a short YAML file of settings")
        return data.decode("utf-8")
    except OSError as error:
        raise DiamondError(f"{path}: cannot be read: {error.strerror}", "a YAML file") from error
    except UnicodeDecodeError as error:
        raise DiamondError(f"{path}: is not text in UTF-8: {error.reason}", "a YAML file") from error


def _events(path: Path, text: str) -> Iterator[Any]:
    """The parser's events after the start of the stream; its complaints become DiamondErrors."""
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if not isinstance(event, yaml.StreamStartEvent):
                yield event
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DiamondError(f"{where}: is not YAML: {problem}", "a YAML file") from error
