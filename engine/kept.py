"""What is made of a graph and kept, plans and programs, as far as they agree: which graph, and what has changed since.

What was made fits one graph and the circumstances that it was made for. These are written beside it, and held against
those of today before it is opened.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import DiamondError
from engine.fields import Fields
from engine.graphs import GraphSpec

_MadeFor = TypeVar("_MadeFor")

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


def read_sidecar(
    text: bytes, where: str, kind: type[Any], made_for: type[_MadeFor]
) -> tuple[Fields, _MadeFor]:
    """Reads what was written beside something kept, and in it what it was made for.

    Args:
        text: the file's. where: its name, for errors.
        kind: the dataclass whose fields it has, `made_for` one of them. made_for: that one's, all texts.

    Raises:
        DiamondError: not such a file.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise DiamondError(
            f"{where}: not valid JSON: {error}", "what was written beside a kept file"
        ) from error
    fields = Fields(data, where, [field.name for field in dataclasses.fields(kind)])
    names = [field.name for field in dataclasses.fields(made_for)]  # type: ignore[arg-type]
    texts = Fields(fields.data["made_for"], f"{where}: made_for", names)
    return fields, made_for(**{name: texts.text(name) for name in names})


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
