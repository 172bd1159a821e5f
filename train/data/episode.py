"""One recorded episode, as one file: frames, actions, and what made them.

The container is safetensors, written whole or not at all, and read by memory mapping: opening a file parses a
small header, and a segment of frames costs a copy of just those bytes. Full-resolution frames, which are
optional, are JPEGs laid end to end with a table of offsets, so any frame decodes alone. This module knows the
container and nothing of games, folders or torch; the format is described for other writers in
docs/episodes.md.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import DiamondError
from train.data.container import read_container, write_container
from train.data.jpeg import decode_jpeg, encode_jpeg

FORMAT_VERSION = 1
JPEG_QUALITY = 92  # about 19 kB for a 280x150 frame
REQUIRED_KEYS = ("format_version", "fps", "seed", "world", "low_res_size", "action_space", "source")

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class EpisodeMeta:
    """What an episode says about itself. Sizes are (height, width) in pixels; `full_res_size` None means no
    full frames.

    `action_space` is the JSON text of the action space whose vectors fill `actions`; `source` says what
    recorded it.
    """

    fps: float
    seed: int
    world: str
    low_res_size: tuple[int, int]
    full_res_size: tuple[int, int] | None
    action_space: str
    source: str
    extra: dict[str, str] = field(default_factory=dict)

    def to_strings(self) -> dict[str, str]:
        strings = {
            "format_version": str(FORMAT_VERSION),
            "fps": repr(float(self.fps)),
            "seed": str(self.seed),
            "world": self.world,
            "low_res_size": json.dumps(list(self.low_res_size)),
            "action_space": self.action_space,
            "source": self.source,
            **self.extra,
        }
        if self.full_res_size is not None:
            strings["full_res_size"] = json.dumps(list(self.full_res_size))
        return strings

    @classmethod
    def from_strings(cls, strings: dict[str, str]) -> EpisodeMeta:
        """Raises ValueError or TypeError where these are no version-1 strings; `Episode` names the file."""
        missing = [key for key in REQUIRED_KEYS if key not in strings]
        if missing:
            raise ValueError(f"metadata lacks {', '.join(missing)}")
        if strings["format_version"] != str(FORMAT_VERSION):
            raise ValueError(
                f"format version {strings['format_version']}, this reader knows {FORMAT_VERSION}"
            )
        full_res = strings.get("full_res_size")
        known = {*REQUIRED_KEYS, "full_res_size"}
        return cls(
            fps=float(strings["fps"]),
            seed=int(strings["seed"]),
            world=strings["world"],
            low_res_size=_size(strings["low_res_size"]),
            full_res_size=None if full_res is None else _size(full_res),
            action_space=strings["action_space"],
            source=strings["source"],
            extra={key: value for key, value in strings.items() if key not in known},
        )


def _size(text: str) -> tuple[int, int]:
    height, width = json.loads(text)
    return int(height), int(width)


class Episode:
    """A recorded episode, opened lazily. Raises DiamondError, naming the file, for whatever is wrong with it.

    Frame t and action t belong together: action t was taken while frame t was the newest on screen, and led
    to frame t + 1. Ranges are half-open like slices, and must lie inside the episode.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise self._broken(str(error)) from error
        try:
            strings, arrays = read_container(self._map)
            self.meta = EpisodeMeta.from_strings(strings)
            self._low_res = arrays["low_res"]
            self._actions = arrays["actions"]
            self._jpeg = arrays.get("full_res_jpeg")
            self._offsets = arrays.get("full_res_offsets")
            self._check_shapes()
        except KeyError as error:
            raise self._broken(f"lacks {error}") from error
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise self._broken(str(error)) from error

    def __reduce__(self) -> tuple[type[Episode], tuple[Path]]:
        return Episode, (self.path,)  # a copy for another process maps the file itself

    def __len__(self) -> int:
        return int(self._low_res.shape[0])

    @property
    def has_full_res(self) -> bool:
        return self._jpeg is not None

    def low_res(self, start: int, stop: int) -> Bytes:
        """Frames start to stop, uint8 RGB (n, h, w, 3), 0-255; a copy."""
        self._check_range(start, stop)
        return np.array(self._low_res[start:stop])

    def actions(self, start: int, stop: int) -> Bytes:
        """Actions start to stop, uint8 (n, A), each entry 0 or 1; a copy."""
        self._check_range(start, stop)
        return np.array(self._actions[start:stop])

    def full_res(self, start: int, stop: int) -> Bytes:
        """Frames start to stop, uint8 RGB (n, H, W, 3), 0-255, decoded. DiamondError where there are none."""
        self._check_range(start, stop)
        if self._jpeg is None or self._offsets is None or self.meta.full_res_size is None:
            raise DiamondError(
                f"{self.path}: has no full-resolution frames",
                expected="an episode with the tensors full_res_jpeg and full_res_offsets",
                fix="Train the upsampler on recordings that keep full frames, or train the denoiser alone.",
            )
        frames = np.empty((stop - start, *self.meta.full_res_size, 3), np.uint8)
        for row, t in enumerate(range(start, stop)):
            try:
                frame = decode_jpeg(self._jpeg[self._offsets[t] : self._offsets[t + 1]].tobytes())
            except ValueError as error:
                raise self._broken(f"JPEG of frame {t} does not decode ({error})") from error
            if frame.shape != frames.shape[1:]:
                raise self._broken(
                    f"frame {t} is {frame.shape[:2]}, the metadata says {self.meta.full_res_size}"
                )
            frames[row] = frame
        return frames

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= len(self):
            raise DiamondError(
                f"{self.path}: asked for frames {start} to {stop}",
                expected=f"0 <= start <= stop <= {len(self)}",
                fix="Ask for a range inside the episode.",
            )

    def _check_shapes(self) -> None:
        frames, actions = self._low_res, self._actions
        if frames.dtype != np.uint8 or frames.shape[1:] != (*self.meta.low_res_size, 3) or len(frames) == 0:
            raise ValueError(
                f"low_res is {frames.dtype} {frames.shape}, metadata says {self.meta.low_res_size}"
            )
        if actions.dtype != np.uint8 or actions.ndim != 2 or len(actions) != len(frames):
            raise ValueError(f"actions are {actions.dtype} {actions.shape}, there are {len(frames)} frames")
        if (self._jpeg is None) != (self.meta.full_res_size is None) or (self._jpeg is None) != (
            self._offsets is None
        ):
            raise ValueError(
                "full_res_size, full_res_jpeg and full_res_offsets must be present together or not at all"
            )
        if self._jpeg is None or self._offsets is None:
            return
        offsets = self._offsets
        if self._jpeg.dtype != np.uint8 or offsets.dtype != np.int64 or offsets.shape != (len(frames) + 1,):
            raise ValueError(
                f"full_res_offsets are {offsets.dtype} {offsets.shape}, expected int64 ({len(frames) + 1},)"
            )
        if offsets[0] != 0 or offsets[-1] != len(self._jpeg) or (np.diff(offsets) <= 0).any():
            raise ValueError("full_res_offsets do not rise from 0 to the length of full_res_jpeg")

    def _broken(self, reason: str) -> DiamondError:
        return DiamondError(
            f"{self.path}: not a readable episode: {reason}",
            expected="a complete episode file as docs/episodes.md describes",
            fix="Delete it and run the same recording again, which keeps the good files; or copy it afresh",
        )


def write_episode(
    path: str | Path,
    meta: EpisodeMeta,
    low_res: Bytes,
    actions: Bytes,
    full_res: Sequence[Bytes | bytes] | Bytes | None = None,
    jpeg_quality: int = JPEG_QUALITY,
) -> int:
    """Write one episode atomically and return its size in bytes. Equal arguments give equal bytes.

    low_res uint8 (T, h, w, 3), actions uint8 (T, A); full_res: T frames, each uint8 (H, W, 3) or already a
    JPEG, or None. Raises DiamondError where the lengths disagree, and, leaving no partial file, where the
    disk is full.
    """
    T = len(low_res)
    arrays: dict[str, NDArray[Any]] = {
        "low_res": np.ascontiguousarray(low_res, np.uint8),  # (T, h, w, 3)
        "actions": np.ascontiguousarray(actions, np.uint8),  # (T, A)
    }
    if full_res is not None:
        jpegs = [
            frame if isinstance(frame, bytes) else encode_jpeg(frame, jpeg_quality) for frame in full_res
        ]
        arrays["full_res_offsets"] = np.cumsum([0, *map(len, jpegs)], dtype="<i8")  # (T + 1,)
        arrays["full_res_jpeg"] = np.frombuffer(b"".join(jpegs), np.uint8)
    lengths = {"low_res": T, "actions": len(actions), "full_res": T if full_res is None else len(jpegs)}
    if T == 0 or len(set(lengths.values())) != 1 or (full_res is None) != (meta.full_res_size is None):
        raise DiamondError(
            f"{path}: {lengths} frames, full_res_size {meta.full_res_size}",
            expected="equally many of each, at least one; full_res and full_res_size both or neither",
            fix="Row t of actions belongs to frame t: pad the last one with an idle action",
        )
    return write_container(Path(path), meta.to_strings(), arrays)
