"""How maps lie in memory between the native operators: in bf16, in the first half of what is a float32 array; and an
output whose memory held NaN before.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tests.engine.native.one_node import CONV_INPUTS, one_node, session

Array = npt.NDArray[Any]

SHORT_X, SHORT_MORE, SHORT_RESIDUAL, SHORT_OUTPUT = 1, 2, 4, 8  # in the attribute `short_maps`


def rounded(x: Array) -> npt.NDArray[np.float32]:
    """To the nearest numbers of bf16, ties to even, as float32. Not for numbers below 1.2e-38."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    nearest = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return np.where(np.isnan(x), np.float32(np.nan), nearest.astype(np.uint32).view(np.float32))


def shortened(x: Array) -> npt.NDArray[np.float32]:
    """Memory of a float32 array with the values in bf16 in its first half; the second is NaN, which nobody may read."""
    memory = np.full(x.shape, np.nan, np.float32)
    memory.reshape(-1).view(np.uint16)[: x.size] = rounded(x).reshape(-1).view(np.uint32) >> 16
    return memory


def lengthened(memory: Array) -> npt.NDArray[np.float32]:
    """The values in bf16 that such memory holds, as float32."""
    shorts = memory.reshape(-1).view(np.uint16)[: memory.size]
    return (shorts.astype(np.uint32) << 16).view(np.float32).reshape(memory.shape)


def second_half(memory: Array) -> npt.NDArray[np.uint16]:
    """The bits behind the values in bf16."""
    half: npt.NDArray[np.uint16] = memory.reshape(-1).view(np.uint16)[memory.size :]
    return half


def convolution_over_nan(
    shape: tuple[int, ...], operator: str, weights: Array, bias: Array | None = None, **rest: Any
) -> npt.NDArray[np.float32]:
    """What a convolution leaves in an output of this shape that held NaN; `rest`: other inputs, and attributes."""
    inputs = {name: rest.pop(name, None) for name in CONV_INPUTS if name not in ("weights", "bias")}
    constants = {"weights": weights} | ({} if bias is None else {"bias": bias})
    one = session(one_node(operator, inputs, constants, CONV_INPUTS, **rest))
    y = np.full(shape, np.nan, np.float32)
    binding = one.io_binding()
    for name, array in inputs.items():
        if array is not None:
            binding.bind_cpu_input(name, array)
    binding.bind_output("y0", "cpu", 0, np.float32, shape, y.ctypes.data)
    one.run_with_iobinding(binding)
    return y
