"""What is made of a graph and kept, plans and programs, as far as they agree: which graph, and what has changed since.

What was made fits one graph and the circumstances that it was made for. These are written beside it, and held against
those of today before it is opened.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import DiamondError
from engine.graphs import GraphSpec

Say = Callable[[str], None]
"""Takes one line of progress at a time."""


class Unfit(Exception):
    """Why something that was kept is not used; `str` is for people, and empty where nothing was kept."""


def difference(made_for: Any, here: Any) -> str | None:
    """The first field in which two dataclasses of one kind differ, in words; None where there is none."""
    for field in dataclasses.fields(here):
        then, now = getattr(made_for, field.name), getattr(here, field.name)
        if then != now:
            return f"{field.name} was {then}, is {now}"
    return None


def graph_files(path: Path) -> list[Path]:
    """A graph's file and, where there is one, that of its weights."""
    data = path.with_name(path.name + ".data")
    return [path, data] if data.is_file() else [path]


def graph_sha256(spec: GraphSpec) -> str:
    """Of the graph's file, and of the weights beside it where there are some."""
    digest = hashlib.sha256()
    for path in graph_files(spec.path):
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DiamondError(f"{path}: cannot be read: {error.strerror}", "a readable file") from error
    return digest.hexdigest()


def kept_stem(spec: GraphSpec, onnx_sha256: str) -> str:
    """What the names of a graph's kept files begin with."""
    return f"{spec.role}-{spec.precision}-{onnx_sha256[:12]}"


def tensors_text(spec: GraphSpec) -> str:
    """Inputs and outputs in words: "x float32 (1, 3, 30, 56), ... -> denoised float32 (...)"."""
    inputs, outputs = (
        ", ".join(f"{name} {tensor}" for name, tensor in sorted(side.items()))
        for side in (spec.inputs, spec.outputs)
    )
    return f"{inputs} -> {outputs}"
