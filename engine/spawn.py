"""A place to start a world from: the last frames of a recording, the actions in them, and what its player did
next.

An npz without pickles, whose arrays must have exactly the dtypes and shapes that the world's sizes ask for.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.actions import ActionSpace
from engine.errors import DiamondError
from engine.graphs import CHANNELS, Sizes, TensorSpec

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]
_FIX = "copy the world again from where it came, or export it again with diamond-export"


@dataclass(frozen=True)
class Spawn:
    """What a world's histories are filled with.

    Attributes:
        low_res: uint8 RGB (T, 3, h, w), 0-255, oldest first.
        full_res: uint8 RGB (Tu, 3, H, W); None in a world without an upsampler.
        actions: float32 (T, A), the action taken in each of the low-res frames.
        next_actions: float32 (N, A), what was done after the last frame; N may be 0.
    """

    low_res: Pixels
    full_res: Pixels | None
    actions: Vectors
    next_actions: Vectors


def read_spawn(path: Path, sizes: Sizes, action_space: ActionSpace) -> Spawn:
    """Reads a spawn.

    Args:
        path: the npz.
        sizes, action_space: the world's.

    Raises:
        DiamondError: not an npz, pickles inside, or arrays other than this world's.
    """
    arrays = _read_npz(path)
    _check_arrays(f"{path}", arrays, _expected(sizes, action_space.size, "uint8"), _FIX)
    return Spawn(
        low_res=arrays["low_res"],
        full_res=arrays.get("full_res"),
        actions=_read_vectors(path, "actions", arrays, action_space),
        next_actions=_read_vectors(path, "next_actions", arrays, action_space),
    )


def check_spawn(spawn: Spawn, sizes: Sizes, action_space: ActionSpace) -> None:
    """Checks a spawn that did not come from the world's own files.

    Raises:
        DiamondError: arrays other than this world's, or action vectors that are not valid.
    """
    arrays = {name: value for name, value in vars(spawn).items() if value is not None}
    _check_arrays("spawn", arrays, _expected(sizes, action_space.size, "float32"), "")
    for vector in (*spawn.actions, *spawn.next_actions):
        action_space.validate(vector)


def _expected(sizes: Sizes, action_size: int, vectors: str) -> dict[str, TensorSpec]:
    expected = {
        "low_res": TensorSpec("uint8", (sizes.denoiser_history, CHANNELS, *sizes.low_res)),
        "actions": TensorSpec(vectors, (sizes.denoiser_history, action_size)),
        "next_actions": TensorSpec(vectors, (None, action_size)),
    }
    if sizes.full_res is not None:
        expected["full_res"] = TensorSpec("uint8", (sizes.upsampler_history, CHANNELS, *sizes.full_res))
    return expected


def _check_arrays(
    where: str, arrays: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, TensorSpec], fix: str
) -> None:
    if set(arrays) != set(expected):
        raise DiamondError(f"{where}: holds {sorted(arrays)}", f"{sorted(expected)}", fix)
    for name, spec in expected.items():
        actual = TensorSpec(str(arrays[name].dtype), arrays[name].shape)
        if not spec.admits(actual.dtype, actual.shape):
            raise DiamondError(f"{where}: {name} is {actual}", str(spec), fix)


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a bare array, not an npz archive")
        with archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise DiamondError(f"{path}: cannot be read: {error}", "an npz without pickles", _FIX) from error


def _read_vectors(
    path: Path, name: str, arrays: dict[str, npt.NDArray[Any]], action_space: ActionSpace
) -> Vectors:
    for index, vector in enumerate(arrays[name]):
        try:
            action_space.validate(vector)
        except DiamondError as error:
            raise DiamondError(f"{path}: {name}[{index}]: {error.what}", error.expected, _FIX) from error
    return arrays[name].astype(np.float32)
