"""The spawns of a published release: folders of four arrays, from which play starts.

    spawn/N/low_res.npy    uint8 (frames, 3, h, w), oldest first        spawn/N/act.npy       (frames, actions)
    spawn/N/full_res.npy   uint8 (frames, 3, H, W)                      spawn/N/next_act.npy  (any number, actions)

The files hold as many frames as the longer of the two histories; each network takes the last ones it reads. Play
cycles through the folders in the order of their names as text, 0, 1, 10, 2, because the original does. Arrays are
mapped and checked before anything is copied, and never unpickled.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.actions import ActionSpace
from engine.errors import DiamondError
from engine.graphs import CHANNELS, Sizes
from engine.spawn import Pixels, Spawn, Vectors

_FIX = "download the release again"


def spawn_folders(release: Path) -> tuple[Path, ...]:
    """The folders in the order of play.

    Raises:
        DiamondError: there is none.
    """
    root = release / "spawn"
    found = (
        sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if root.is_dir()
        else []
    )
    if not found:
        raise DiamondError(f"{root}: holds no spawn", "a folder for each place to start from", _FIX)
    return tuple(found)


def low_res_size(folder: Path) -> tuple[int, int]:
    """(h, w) of the low-resolution frames of a spawn.

    Raises:
        DiamondError: not an array of RGB frames.
    """
    shape = _frames(folder / "low_res.npy", None, 1).shape
    return int(shape[2]), int(shape[3])


def read_release_spawn(folder: Path, sizes: Sizes, action_space: ActionSpace) -> Spawn:
    """Reads one spawn.

    Args:
        folder: one of `spawn_folders`.
        sizes, action_space: the release's.

    Raises:
        DiamondError: naming the file that is missing, is not an npy without pickles, holds too few frames, other
            sizes, or actions that the action space does not have.
    """
    full_res = None
    if sizes.full_res is not None and sizes.upsampler_history is not None:
        full_res = _frames(folder / "full_res.npy", sizes.full_res, sizes.upsampler_history)
    return Spawn(
        low_res=_frames(folder / "low_res.npy", sizes.low_res, sizes.denoiser_history),
        full_res=full_res,
        actions=_actions(folder / "act.npy", action_space, sizes.denoiser_history),
        next_actions=_actions(folder / "next_act.npy", action_space, None),
    )


def _frames(path: Path, size: tuple[int, int] | None, last: int) -> Pixels:
    """The last frames of a file, uint8 (last, 3, *size)."""
    array = _map_npy(path)
    wanted = f"uint8 (at least {last}, {CHANNELS}, " + (
        "height, width)" if size is None else f"{size[0]}, {size[1]})"
    )
    fits = array.dtype == np.uint8 and array.ndim == 4 and array.shape[1] == CHANNELS and min(array.shape) > 0
    if not fits or len(array) < last or (size is not None and array.shape[2:] != size):
        raise DiamondError(f"{path}: is {array.dtype} {array.shape}", wanted, _FIX)
    return np.array(array[-last:])


def _actions(path: Path, action_space: ActionSpace, last: int | None) -> Vectors:
    """The last action vectors of a file, or all, float32 (last, A)."""
    array = _map_npy(path)
    if array.ndim != 2 or array.shape[1] != action_space.size or len(array) < (last or 0):
        many = "any number of" if last is None else f"at least {last}"
        raise DiamondError(
            f"{path}: shape {array.shape}", f"{many} vectors of {action_space.size} entries", _FIX
        )
    vectors = array if last is None else array[-last:]
    for index, vector in enumerate(vectors, start=len(array) - len(vectors)):
        try:
            action_space.validate(vector)
        except DiamondError as error:
            raise DiamondError(f"{path}: [{index}]: {error.what}", error.expected, _FIX) from error
    return np.array(vectors, dtype=np.float32)


def _map_npy(path: Path) -> npt.NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise DiamondError(f"{path}: is missing", "a file of every spawn", _FIX) from None
    except (OSError, EOFError, ValueError, OverflowError) as error:
        why = str(error).split(". ")[0]
        raise DiamondError(f"{path}: cannot be read: {why}", "an npy array without pickles", _FIX) from error
