"""The four graphs of a world and the tensors that go in and out of them: the contract between exporter and
backends.

A conditioner turns actions and noise levels into the modulation (every adaptive-norm scale and shift) of all
evaluations at once; a network turns a noisy frame and its history into the prediction. Whatever the precision
inside, float32 goes in and comes out. Knows no runtime and no files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import DiamondError
from engine.fields import Fields

Network = Literal["denoiser", "upsampler"]
Tensors = Mapping[str, "TensorSpec"]

CHANNELS = 3  # RGB


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of one tensor; None is an axis whose length is known only when the graph runs."""

    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join('any' if axis is None else str(axis) for axis in self.shape)})"

    def admits(self, dtype: str, shape: tuple[int | None, ...]) -> bool:
        """Whether a tensor of this dtype and shape fits."""
        return (
            self.dtype == dtype
            and len(self.shape) == len(shape)
            and all(ours is None or ours == axis for ours, axis in zip(self.shape, shape, strict=True))
        )

    @classmethod
    def from_json(cls, data: object, where: str) -> "TensorSpec":
        """Reads {"dtype": "float32", "shape": [1, null]}."""
        fields = Fields(data, where, ["dtype", "shape"])
        shape = fields.items("shape")
        if not all(axis is None or (type(axis) is int and axis > 0) for axis in shape):
            raise fields.fail("shape", "a list of positive integers, null where an axis is dynamic")
        return cls(fields.text("dtype"), tuple(shape))


@dataclass(frozen=True)
class GraphSpec:
    """One graph of a bundle, ready to be loaded.

    Attributes:
        role: "denoiser_conditioner", "denoiser", "upsampler_conditioner" or "upsampler".
        precision: "fp32", "int8", ...: that of the file, as the bundle lists it, where `computed_from` is empty.
        path: the file.
        inputs, outputs: tensors by name.
        computed_from: the file's precision, where a backend computes in another than that.
    """

    role: str
    precision: str
    path: Path
    inputs: Tensors
    outputs: Tensors
    computed_from: str = ""

    def __str__(self) -> str:
        return f"{self.role} ({self.precision})"


@dataclass(frozen=True)
class Sizes:
    """What the tensors of a world's graphs depend on.

    Attributes:
        low_res: (h, w) of the denoiser's frames.
        full_res: (H, W) of the upsampler's frames; None for a world without one.
        denoiser_history, upsampler_history: number of past frames each network reads.
        action_size: length A of an action vector.
    """

    low_res: tuple[int, int]
    full_res: tuple[int, int] | None
    denoiser_history: int
    upsampler_history: int | None
    action_size: int


def roles(sizes: Sizes) -> tuple[str, ...]:
    """The graphs that a world has: two, or four with an upsampler."""
    networks: tuple[Network, ...] = ("denoiser",) if sizes.full_res is None else ("denoiser", "upsampler")
    return tuple(role for network in networks for role in (f"{network}_conditioner", network))


def signature(role: str, sizes: Sizes, modulation: int) -> tuple[Tensors, Tensors]:
    """The inputs and outputs that a graph must have.

    Args:
        role: the graph.
        sizes: the world's.
        modulation: M, the number of scales and shifts of this network.

    Returns:
        Inputs and outputs by name. E, the number of evaluations, is dynamic: it belongs to the sampler's
        settings.
    """

    def tensor(*shape: int | None) -> TensorSpec:
        return TensorSpec("float32", shape)

    if role.endswith("_conditioner"):
        inputs = {"c_noise": tensor(None), "c_noise_cond": tensor(None)}
        if role == "denoiser_conditioner":
            inputs["action"] = tensor(1, sizes.denoiser_history, sizes.action_size)
        return inputs, {"modulation": tensor(None, modulation)}
    size, history = (
        (sizes.low_res, sizes.denoiser_history)
        if role == "denoiser"
        else (sizes.full_res, sizes.upsampler_history)
    )
    assert size is not None, "roles() lists no upsampler for such a world"
    assert history is not None, "roles() lists no upsampler for such a world"
    inputs = {
        "x": tensor(1, CHANNELS, *size),
        "history": tensor(1, history * CHANNELS, *size),
        "modulation": tensor(1, modulation),
        "coefficients": tensor(3),
    }
    if role == "upsampler":
        inputs["low_res"] = tensor(1, CHANNELS, *sizes.low_res)
        inputs["enlarged_noise"] = tensor(1, CHANNELS, *size)
    return inputs, {"denoised": tensor(1, CHANNELS, *size)}


def check_tensors(where: str, expected: Tensors, actual: Tensors, fix: str) -> None:
    """Compares tensors by name, dtype and shape.

    Raises:
        DiamondError: at the first difference, naming the tensor.
    """
    if set(expected) != set(actual):
        raise DiamondError(f"{where}: has the tensors {sorted(actual)}", f"{sorted(expected)}", fix)
    for name, spec in expected.items():
        if actual[name] != spec:
            raise DiamondError(f"{where}: {name} is {actual[name]}", str(spec), fix)
