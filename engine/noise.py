"""Named normals: the same numbers for the same (seed, frame, name), on every backend.

Draws are views into one table of 2^22 normals made once from the seed; a draw starts where its key's hash
says and wraps around at the end. That costs microseconds where a generator costs milliseconds, and on a GPU a
draw is one integer. Two draws of a frame may overlap; being shifted against each other, they are as good as
independent here.

The stream is frozen, so that recorded sessions replay: the table is
`numpy.random.RandomState(seed).standard_normal`, which numpy guarantees never to change (NEP 19), rounded to
float32; the offset is the first 8 bytes, little-endian, of BLAKE2b-64 of the text "seed/frame/name", modulo
2^22. test_noise.py pins both.
"""

import hashlib
import math
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from engine.errors import DiamondError

Normals = npt.NDArray[np.float32]
TABLE_SIZE = 2**22


class NoiseSource(Protocol):
    """Where a world's noise comes from; `SeededNoise`, or recorded draws in a test."""

    def normal(self, name: str, shape: tuple[int, ...], frame: int) -> Normals:
        """Standard normals, float32 of `shape`; the caller only reads them.

        Args:
            name: which draw of the frame, such as "denoiser/init" or "upsampler/step0/churn".
            shape: shape of the array.
            frame: number of steps since the reset.
        """
        ...


class SeededNoise:
    """A table of normals read at hashed offsets.

    Args:
        seed: 0 to 2^32 - 1.

    Raises:
        DiamondError: the seed is not such an integer.
    """

    def __init__(self, seed: int = 0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
            raise DiamondError(f"seed: is {seed!r}", "an integer from 0 to 4294967295")
        self.seed = int(seed)

    @property
    def table(self) -> Normals:
        """float32 (2^22,), read-only; made on first use (0.1 s, 16 MiB)."""
        return _table(self.seed)

    def offset(self, name: str, frame: int) -> int:
        """Index in the table at which a draw starts, 0 to 2^22 - 1."""
        key = f"{self.seed}/{frame}/{name}".encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") % TABLE_SIZE

    def normal(self, name: str, shape: tuple[int, ...], frame: int) -> Normals:
        """A draw, see `NoiseSource.normal`; read-only, and a view unless it wraps around.

        Raises:
            DiamondError: more numbers than the table holds.
        """
        count = math.prod(shape)
        if count > TABLE_SIZE:
            raise DiamondError(f"noise {name}: a draw of {count} numbers", f"at most {TABLE_SIZE}")
        start = self.offset(name, frame)
        end = start + count
        if end <= TABLE_SIZE:
            return self.table[start:end].reshape(shape)
        wrapped = np.concatenate([self.table[start:], self.table[: end - TABLE_SIZE]])
        wrapped.flags.writeable = False
        return wrapped.reshape(shape)


@lru_cache(maxsize=1)  # worlds of the same seed share it
def _table(seed: int) -> Normals:
    table = np.random.RandomState(seed).standard_normal(TABLE_SIZE).astype(np.float32)
    table.flags.writeable = False
    return table
