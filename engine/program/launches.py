"""The vocabulary of a program: buffers, and what may be done with them.

Every launch names its buffers; scalars are indices into the buffer `COEFFICIENTS`. All arithmetic is float32, rounded
after every operation (no fused multiply-add), in the order in which each class writes it down. Knows no CUDA and no
numpy.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

COEFFICIENTS = "coefficients"  # float32: every scalar of every step
NOISE = "noise"  # float32: the table that draws are read from
OFFSETS = "offsets"  # uint32 (draws,): where in the table each draw of this frame starts
NOT_FINITE = "not_finite"  # int32 (networks,): 1 where a network painted NaN or infinity

BYTES = {"float32": 4, "int32": 4, "uint32": 4, "uint8": 1}

Kind = Literal["input", "output", "state", "constant", "scratch"]


@dataclass(frozen=True)
class Buffer:
    """A static array.

    Attributes:
        name, shape, dtype: "float32", "int32", "uint32" or "uint8"; C-contiguous.
        kind: "input" has a twin on the host, which the host fills and `Upload` copies; "output" has one that `Download`
            fills; "state" lives from frame to frame; "constant" is written by the host when settings change; "scratch"
            holds nothing from one frame to the next.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: Kind

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Number of bytes."""
        return self.count * BYTES[self.dtype]


@dataclass(frozen=True)
class View:
    """A contiguous part of a buffer, or all of it.

    Attributes:
        buffer: its name. start: first element. shape: of the part.
    """

    buffer: str
    start: int
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Draw:
    """One draw of a frame's noise, see `engine.noise`; its place in `FrameProgram.draws` is its number.

    Attributes:
        name: such as "denoiser/init". shape: of the whole draw.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of normals."""
        return math.prod(self.shape)


# Moving.


@dataclass(frozen=True)
class Upload:
    """An input's twin on the host -> the input."""

    buffer: str


@dataclass(frozen=True)
class Download:
    """An output -> its twin on the host."""

    buffer: str


@dataclass(frozen=True)
class Clear:
    """buffer = 0."""

    buffer: str


@dataclass(frozen=True)
class Copy:
    """target = source; as many elements, of one dtype."""

    source: View
    target: View


# Networks.


@dataclass(frozen=True)
class Evaluate:
    """Runs a graph. `inputs` and `outputs` bind its tensors, by name, 256-byte aligned."""

    role: str
    inputs: Mapping[str, View]
    outputs: Mapping[str, View]


# The sampler. c is the coefficient buffer; draw[i] = table[(offset of the draw + i) mod length of the table].


@dataclass(frozen=True)
class SetNoise:
    """target[i] = draw[i] * c[scale]."""

    target: str
    draw: int
    scale: int


@dataclass(frozen=True)
class AddNoise:
    """target[i] += draw[skip + i] * c[scale]. `skip` leaves out the part of a draw that is another buffer's."""

    target: str
    draw: int
    skip: int
    scale: int


@dataclass(frozen=True)
class EulerStep:
    """x += (x - denoised) / c[sigma] * c[d_sigma]. Karras et al. 2022, Alg. 1, lines 4-5."""

    x: str
    denoised: str
    sigma: int
    d_sigma: int


@dataclass(frozen=True)
class HeunTrial:
    """slope = (x - denoised) / c[sigma]; trial = slope * c[d_sigma] + x. Alg. 1, lines 4-5."""

    x: str
    denoised: str
    slope: str
    trial: str
    sigma: int
    d_sigma: int


@dataclass(frozen=True)
class HeunStep:
    """x += (slope + (trial - denoised) / c[sigma]) * c[half_d_sigma]. Alg. 1, lines 7-8."""

    x: str
    denoised: str
    slope: str
    trial: str
    sigma: int
    half_d_sigma: int


# The end of a frame.


@dataclass(frozen=True)
class CheckFinite:
    """NOT_FINITE[flag] = 1 if any element of the image is NaN or infinite."""

    image: str
    flag: int


@dataclass(frozen=True)
class Roll:
    """Moves a history (1, T * n) by one frame of n: the oldest falls out, `newest` (n elements) comes in.

    Does nothing where any flag of NOT_FINITE is set: after a broken frame the world is as it was.
    """

    history: str
    newest: str


@dataclass(frozen=True)
class Pack:
    """pixels (H, W, 3) uint8 = round-half-to-even((image (1, 3, H, W) + 1) * 127.5), image in [-1, 1]."""

    image: str
    pixels: str


Launch = (
    Upload
    | Download
    | Clear
    | Copy
    | Evaluate
    | SetNoise
    | AddNoise
    | EulerStep
    | HeunTrial
    | HeunStep
    | CheckFinite
    | Roll
    | Pack
)


def stage(launch: Launch) -> str:
    """What a launch counts as in a frame's timings: "conditioner", "denoiser", "upsampler", "sampler" or "other"."""
    if isinstance(launch, Evaluate):
        return "conditioner" if launch.role.endswith("_conditioner") else launch.role
    return (
        "sampler" if isinstance(launch, SetNoise | AddNoise | EulerStep | HeunTrial | HeunStep) else "other"
    )


@dataclass(frozen=True)
class FrameProgram:
    """All that a frame takes.

    Two settings of the sampler share a structure, and with it a captured CUDA graph, when their programs are equal.

    Attributes:
        networks: "denoiser" and, where there is one, "upsampler"; the order of the flags in NOT_FINITE.
        evaluations: by graph role, what the graph's free axis E is.
        buffers: by name.
        draws: the noise of a frame.
        setup: runs once after the coefficients have changed.
        frame: runs once a frame.
    """

    networks: tuple[str, ...]
    evaluations: Mapping[str, int]
    buffers: Mapping[str, Buffer]
    draws: tuple[Draw, ...]
    setup: tuple[Launch, ...]
    frame: tuple[Launch, ...]

    def all_of(self, name: str) -> View:
        """A whole buffer as a view."""
        return View(name, 0, self.buffers[name].shape)
