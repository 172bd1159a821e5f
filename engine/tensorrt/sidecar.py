"""What a plan was made for, written beside it and compared before the plan is opened.

A plan is good for one graph, one TensorRT and one GPU with its driver. Opening another one fails in riddles, or works
and computes something else. So what is here is held against what was there, and the first difference is named.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine import kept
from engine.graphs import GraphSpec

RECIPE = "1"  # raise it when `engine.tensorrt.network` changes what is built from the same graph
NO_GPU = "none"  # built where there was none, ahead of time


@dataclass(frozen=True)
class Circumstances:
    """All that a plan depends on, as text.

    Attributes:
        tensorrt: flavour and version. recipe: how this engine builds.
        gpu, capability, driver, cuda: the device, its compute capability, the driver's version, the runtime's.
        onnx_sha256: of the graph and the weights beside it. precision: of the graph.
        tensors: names, dtypes and shapes of inputs and outputs, with the range of the free axes.
    """

    tensorrt: str
    recipe: str
    gpu: str
    capability: str
    driver: str
    cuda: str
    onnx_sha256: str
    precision: str
    tensors: str


@dataclass(frozen=True)
class Sidecar:
    """A plan's description.

    Attributes:
        made_for: what it depends on.
        plan_sha256: of the plan's bytes.
        build_s: seconds it took.
        options: the builder's, for people.
        layers: types of the network's layers and, where the inspector told them, of the plan's.
    """

    made_for: Circumstances
    plan_sha256: str
    build_s: float
    options: Mapping[str, Any]
    layers: Mapping[str, str]

    def to_json(self) -> bytes:
        """As the file beside the plan."""
        return (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes, where: str) -> "Sidecar":
        """Reads it.

        Raises:
            DiamondError: not such a file.
        """
        fields, made_for = kept.read_sidecar(text, where, cls, Circumstances)
        return cls(
            made_for,
            fields.text("plan_sha256"),
            fields.number("build_s"),
            fields.mapping("options"),
            fields.mapping("layers"),
        )


def tensors_text(spec: GraphSpec, rows: tuple[int, int, int]) -> str:
    """Inputs and outputs in words: "x float32 (1, 3, 30, 56), ... -> denoised float32 (...)"."""
    text = kept.tensors_text(spec)
    return f"{text}; any: {rows[0]} to {rows[-1]}" if "any" in text else text
