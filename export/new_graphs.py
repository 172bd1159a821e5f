"""What the making of a precision hands over: its files, how to run them, and what to note about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class NewGraphs:
    """The graphs of one precision.

    Attributes:
        names: role -> name of its file inside the bundle; may be a file that is there already.
        files: name inside the bundle -> a new file.
        played: role -> the file that verification runs; roles left out are run from the bundle's fp32 file.
        arithmetic: what verification runs, for people.
        notes: what the parity report says besides the comparison, such as the layers' types.
    """

    names: Mapping[str, str]
    files: Mapping[str, Path]
    played: Mapping[str, Path]
    arithmetic: str
    notes: Mapping[str, Any]
