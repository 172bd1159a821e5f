"""A folder of recordings: dataset.json, and episodes under train/ and test/.

dataset.json says once what every episode repeats: frame rate, sizes, action space, world, and how it was
recorded. Which episodes are held out depends only on their number, so a recording that is continued keeps its
split.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.errors import DiamondError
from train.data.container import write_atomically
from train.data.episode import FORMAT_VERSION

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
DATASET_FILE = "dataset.json"


@dataclass(frozen=True)
class DatasetInfo:
    """What dataset.json holds. Sizes are (height, width) in pixels; `action_space` is its plain JSON data."""

    world: str
    fps: float
    low_res_size: tuple[int, int]
    full_res_size: tuple[int, int] | None
    action_space: dict[str, Any]
    recorder: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def write_dataset_info(folder: Path, info: DatasetInfo) -> None:
    """Write DIR/dataset.json atomically. DiamondError where the folder cannot be written."""
    write_atomically(folder / DATASET_FILE, [json.dumps(asdict(info), indent=1).encode() + b"\n"])


def read_dataset_info(folder: Path) -> DatasetInfo:
    """Read DIR/dataset.json. DiamondError where it is missing, malformed or of another version."""
    path = folder / DATASET_FILE
    expected = "a folder of recordings, with a dataset.json of format version 1"
    try:
        fields = json.loads(path.read_text())
        full_res = fields.pop("full_res_size")
        height, width = fields.pop("low_res_size")
        info = DatasetInfo(
            low_res_size=(int(height), int(width)),
            full_res_size=None if full_res is None else (int(full_res[0]), int(full_res[1])),
            **fields,
        )
    except FileNotFoundError as error:
        raise DiamondError(
            f"{path}: not found",
            expected=expected,
            fix="Record one with diamond-data record, or write one as docs/episodes.md describes.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DiamondError(
            f"{path}: not readable: {error}", expected=expected, fix="Compare it with docs/episodes.md."
        ) from error
    if info.format_version != FORMAT_VERSION:
        raise DiamondError(
            f"{path}: format version {info.format_version}",
            expected=f"version {FORMAT_VERSION}",
            fix="Record again with this release, or use the release that wrote it.",
        )
    return info


def episode_path(folder: Path, index: int, split: Split) -> Path:
    """Where episode number `index` is kept."""
    return folder / split / f"episode_{index:06d}.safetensors"


def episode_paths(folder: Path, split: Split | None = None) -> list[Path]:
    """The episode files of one split, or of both, in order; partial and hidden files are not among them."""
    splits = SPLITS if split is None else (split,)
    return [
        path
        for name in splits
        for path in sorted((folder / name).glob("*.safetensors"))
        if not path.name.startswith(".")
    ]


def split_of(index: int, test_fraction: float) -> Split:
    """Whether episode `index` is held out: one in every 1/test_fraction, spread evenly."""
    return "test" if int((index + 1) * test_fraction + 1e-9) > int(index * test_fraction + 1e-9) else "train"
