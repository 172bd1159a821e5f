"""Named arrays and strings in one file: the safetensors container, written whole or not at all, read without
copying.

Layout: the header's length as eight bytes (little-endian), the header as JSON, then the arrays' bytes. The
header maps each name to its dtype, shape and [begin, end) behind the header, and `__metadata__` to strings.
Only the two dtypes that episodes use are known here. Equal arguments give equal bytes, which the safetensors
package does not promise.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.whole_file import WholeFile, cannot_write

DTYPES: dict[str, np.dtype[Any]] = {"U8": np.dtype("u1"), "I64": np.dtype("<i8")}


def read_container(data: mmap.mmap | bytes) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """The strings, and every array as a read-only view into `data`.

    Raises ValueError, KeyError, TypeError or AttributeError where `data` is no complete container: the caller
    knows the file's name, and turns them into one error.
    """
    if len(data) < 8:
        raise ValueError(f"only {len(data)} bytes")
    payload = 8 + int.from_bytes(data[:8], "little")
    if payload > len(data):
        raise ValueError(f"truncated: a header of {payload - 8} bytes in a file of {len(data)}")
    header = json.loads(data[8:payload])
    strings = dict(header.pop("__metadata__", {}))
    arrays, described = {}, payload
    for name, entry in header.items():
        begin, end = (payload + int(offset) for offset in entry["data_offsets"])
        if not payload <= begin <= end <= len(data):
            raise ValueError(f"truncated: {len(data)} bytes, {name} lies at {begin} to {end}")
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name} is {entry['dtype']}, known are {' and '.join(DTYPES)}")
        dtype, shape = DTYPES[entry["dtype"]], tuple(int(length) for length in entry["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        if count * dtype.itemsize != end - begin:
            raise ValueError(f"{name} has {end - begin} bytes for the shape {shape}")
        arrays[name] = np.frombuffer(data, dtype, count, begin).reshape(shape)
        described = max(described, end)
    if described != len(data):
        raise ValueError(f"{len(data)} bytes, the header describes {described}")
    return strings, arrays


def write_container(path: Path, strings: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]) -> int:
    """Write atomically; the size in bytes. int64 arrays go first, to lie aligned. DiamondError: disk full."""
    header: dict[str, Any] = {"__metadata__": dict(strings)}
    ordered = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)
    position = 0
    for name, array in ordered:
        dtype = next(name for name, known in DTYPES.items() if known == array.dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [position, position + array.nbytes],
        }
        position += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return write_atomically(
        path, [len(text).to_bytes(8, "little"), text, *(array.tobytes() for _, array in ordered)]
    )


def write_atomically(path: Path, chunks: Sequence[bytes]) -> int:
    """Write the chunks as one file, whole or not at all, making its folder; the size in bytes.

    Raises DiamondError, leaving no partial file, when the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    with WholeFile(path) as whole:
        for chunk in chunks:
            whole.file.write(chunk)
    return sum(map(len, chunks))
