"""What a world remembers: the last frames and actions, and where it is since which reset.

Buffers are allocated once and written in place; a snapshot is a copy of all of them. Where a runner keeps the frames
on a device, the buffers are what it was last loaded from or saved to. Knows no networks.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.errors import DiamondError
from engine.frame import Floats, Pixels, to_pixels, to_signed
from engine.graphs import CHANNELS, Sizes
from engine.spawn import Spawn


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The state of a world, in plain read-only arrays. Sampler settings and seed are not part of it.

    Attributes:
        low_res: float32 (1, T * 3, h, w) in [-1, 1], oldest frame first.
        full_res: float32 (1, Tu * 3, H, W) in [-1, 1]; None in a world without an upsampler.
        actions: float32 (1, T, A).
        index: number of steps since the reset.
        spawn: the number of what it was reset to; None for a start of the caller's own.
    """

    low_res: Floats
    full_res: Floats | None
    actions: Floats
    index: int
    spawn: int | None


class History:
    """The frames and actions that the networks read, see `Snapshot` for their layout.

    Attributes:
        low_res, full_res, actions: the buffers.
        index: number of steps since the reset.
        spawn: the number of what it was reset to; None before, or after a start of the caller's own.
        started: whether there has been a reset.
    """

    def __init__(self, sizes: Sizes) -> None:
        self.low_res: Floats = np.zeros((1, sizes.denoiser_history * CHANNELS, *sizes.low_res), np.float32)
        self.full_res: Floats | None = None
        if sizes.full_res is not None and sizes.upsampler_history is not None:
            self.full_res = np.zeros((1, sizes.upsampler_history * CHANNELS, *sizes.full_res), np.float32)
        self.actions: Floats = np.zeros((1, sizes.denoiser_history, sizes.action_size), np.float32)
        self.index = 0
        self.spawn: int | None = None
        self.started = False

    def begin(self, number: int | None, spawn: Spawn) -> None:
        """Fills the buffers from a spawn and remembers its number."""
        self.low_res[...] = to_signed(spawn.low_res).reshape(self.low_res.shape)
        if self.full_res is not None:
            assert spawn.full_res is not None, "read_spawn checks it against the world's sizes"
            self.full_res[...] = to_signed(spawn.full_res).reshape(self.full_res.shape)
        self.actions[0] = spawn.actions
        self.index, self.spawn, self.started = 0, number, True

    def act(self, vector: npt.NDArray[np.float32]) -> None:
        """Writes the player's action, (A,), into the newest slot."""
        self.actions[0, -1] = vector

    def push(self, low_res: Floats, full_res: Floats | None) -> None:
        """Rolls all buffers by one frame: the oldest falls out, the new frames (1, 3, H, W) come in.

        The newest action slot waits for the next `act`.
        """
        _roll(self.low_res, low_res)
        if self.full_res is not None:
            assert full_res is not None, "a world with an upsampler pushes both frames"
            _roll(self.full_res, full_res)
        self.actions[0, :-1] = self.actions[0, 1:]

    def pictures(self) -> tuple[Pixels, Pixels]:
        """The newest frames, uint8 (H, W, 3) and (h, w, 3): full-res and low-res, or two copies of the low-res one."""
        low_res = to_pixels(self.low_res[:, -CHANNELS:])
        if self.full_res is None:
            return low_res.copy(), low_res
        return to_pixels(self.full_res[:, -CHANNELS:]), low_res

    def snapshot(self) -> Snapshot:
        """A copy of the state.

        Raises:
            DiamondError: there has been no reset yet.
        """
        if not self.started:
            raise DiamondError(
                "snapshot: the world has no history yet", "a reset first", "call world.reset()"
            )
        full_res = None if self.full_res is None else read_only(self.full_res.copy())
        return Snapshot(
            low_res=read_only(self.low_res.copy()),
            full_res=full_res,
            actions=read_only(self.actions.copy()),
            index=self.index,
            spawn=self.spawn,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Takes over a snapshot.

        Raises:
            DiamondError: it has other sizes; the state is then as it was.
        """
        pairs = (
            ("low_res", self.low_res, snapshot.low_res),
            ("full_res", self.full_res, snapshot.full_res),
            ("actions", self.actions, snapshot.actions),
        )
        for name, mine, saved in pairs:
            got, expected = (None if array is None else array.shape for array in (saved, mine))
            if got != expected:
                raise DiamondError(
                    f"snapshot: {name} has shape {got}", f"{expected}: a snapshot of this world"
                )
        for _, mine, saved in pairs:
            if mine is not None and saved is not None:
                mine[...] = saved
        self.index, self.spawn, self.started = snapshot.index, snapshot.spawn, True


def _roll(history: Floats, newest: Floats) -> None:
    history[:, :-CHANNELS] = history[:, CHANNELS:]
    history[:, -CHANNELS:] = newest


def read_only(array: Floats) -> Floats:
    """The same array, which nobody can write to any more."""
    array.flags.writeable = False
    return array
