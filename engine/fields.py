"""Strict reading of plain JSON: the expected fields, each of the expected type, or an error that names it.

Everything that comes from a file passes here before it becomes a dataclass (action space, sampler settings,
world.json).
"""

from collections.abc import Collection
from typing import Any

from engine.errors import DiamondError


class Fields:
    """One JSON object whose fields are taken by name and type.

    Args:
        data: what the JSON parser returned.
        where: how errors call this object, such as "world.json: action_space".
        required: fields that must be there.
        more: whether there may be other fields, which nobody here reads; otherwise they are an error.

    Raises:
        DiamondError: not an object, a field missing, a field unknown; each getter: a value of the wrong type.
    """

    def __init__(self, data: object, where: str, required: Collection[str], more: bool = False) -> None:
        if not isinstance(data, dict):
            raise DiamondError(f"{where}: is {_kind(data)}", "an object")
        if missing := sorted(set(required) - set(data)):
            raise DiamondError(f"{where}: lacks {missing}", f"the fields {sorted(required)}")
        if not more and (unknown := sorted(set(data) - set(required))):
            raise DiamondError(
                f"{where}: unknown fields {unknown}",
                f"only {sorted(required)}",
                "it may come from a newer version of diamond-engine, or hold a misspelt name",
            )
        self.data: dict[str, Any] = data
        self.where = where

    def fail(self, name: str, expected: str) -> DiamondError:
        """The error for a field whose value is not what it should be."""
        return DiamondError(f"{self.where}: {name} is {self.data[name]!r:.100}", expected)

    def text(self, name: str) -> str:
        """A string."""
        value = self.data[name]
        if not isinstance(value, str):
            raise self.fail(name, "a string")
        return value

    def integer(self, name: str) -> int:
        """A whole number; true and false are not numbers."""
        value = self.data[name]
        if not _is_int(value):
            raise self.fail(name, "an integer")
        return int(value)

    def number(self, name: str) -> float:
        """A number; infinity, which JSON lacks, is the string "inf"."""
        value = self.data[name]
        if value == "inf":
            return float("inf")
        if not _is_int(value) and not isinstance(value, float):
            raise self.fail(name, "a number")
        try:
            return float(value)
        except OverflowError:
            raise self.fail(name, "a number that fits a double") from None

    def items(self, name: str) -> list[Any]:
        """A list."""
        value = self.data[name]
        if not isinstance(value, list):
            raise self.fail(name, "a list")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """An object."""
        value = self.data[name]
        if not isinstance(value, dict):
            raise self.fail(name, "an object")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        items = self.items(name)
        if not all(isinstance(item, str) for item in items):
            raise self.fail(name, "a list of strings")
        return tuple(items)

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        items = self.items(name)
        if not all(_is_int(item) for item in items):
            raise self.fail(name, "a list of integers")
        return tuple(items)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
