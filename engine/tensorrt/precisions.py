"""Which types the layers that matter have: in the network that TensorRT parsed, and in the plan that it made of it.

A graph says its types, and both TensorRTs promise to keep them. A promise is compared with what is there: the network's
layers before the build, and the plan's as its inspector tells them. TensorRT-RTX fuses a whole graph into one layer
that is compiled later, and may tell nothing; then the network's types are all that is known, and `describe` says so.

TF32 is off (`engine.tensorrt.network`): it is on by default, and would give an fp32 graph's convolutions 10 bits of
mantissa without a word.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import DiamondError
from engine.graphs import GraphSpec

PRECISIONS = ("fp16", "bf16", "fp32")  # best first
NETWORK_TYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}
# Words in the inspector's "DataType" (11) or "Format/Datatype" (10), the more particular ones first.
_PLAN_WORDS = {
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float16": "fp16",
    "fp16": "fp16",
    "half": "fp16",
    "fp8": "fp8",
    "int8": "int8",
    "float": "fp32",
    "fp32": "fp32",
}
_HEAVY = ("conv", "gemm", "matmul", "matrixmultiply", "matrix_multiply")


@dataclass(frozen=True)
class Types:
    """Layers by the type that they compute in.

    Attributes:
        convolutions, products, norms: type -> number of layers; products are matrix multiplications.
    """

    convolutions: Mapping[str, int]
    products: Mapping[str, int]
    norms: Mapping[str, int]

    def in_words(self) -> str:
        """convolutions: 90 fp16; products: 24 fp16, 2 fp32."""
        kinds = {"convolutions": self.convolutions, "products": self.products}
        return "; ".join(f"{kind}: {counted(types)}" for kind, types in kinds.items() if types) or "none"


def network_types(api: Any, network: Any) -> Types:
    """Counts the layers of a parsed network."""
    kinds = api.LayerType
    counts: dict[Any, Counter[str]] = {
        kind: Counter() for kind in (kinds.CONVOLUTION, kinds.MATRIX_MULTIPLY, kinds.NORMALIZATION)
    }
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type in counts:
            dtype = layer.get_input(0).dtype.name
            counts[layer.type][NETWORK_TYPES.get(dtype, dtype)] += 1
    return Types(*(dict(count) for count in counts.values()))


def require_types(spec: GraphSpec, types: Types) -> None:
    """Compares a network's types with the precision asked for.

    Convolutions have it, all of them; so do products, but for a few that stay fp32 (enlargement, embeddings). Norms are
    fp32 in every precision.

    Raises:
        DiamondError: another type.
    """
    asked = spec.precision
    heavy = types.convolutions.keys() | types.products.keys()
    fits = (
        types.convolutions.keys() <= {asked}
        and types.products.keys() <= {asked, "fp32"}
        and types.norms.keys() <= {"fp32"}
        and (not heavy or asked in heavy)
    )
    if not fits:
        norms = f"; norms: {counted(types.norms)}" if types.norms else ""
        raise DiamondError(
            f"{spec}: its layers have other types: {types.in_words()}{norms}",
            f"convolutions and products in {asked}, norms in fp32",
            f"export the world again: diamond-export WORLD --precision {asked} --force",
        )


def plan_types(inspected: str) -> Mapping[str, int]:
    """Counts a plan's convolutions and products by the type that they read.

    Args:
        inspected: the inspector's JSON about the whole engine.

    Returns:
        Type -> number; empty where the inspector tells no types.
    """
    try:
        layers = json.loads(inspected).get("Layers", [])
    except (ValueError, AttributeError):
        return {}
    found: Counter[str] = Counter()
    for layer in layers:
        if isinstance(layer, dict) and _is_heavy(layer) and (type_ := _type_read(layer)):
            found[type_] += 1
    return dict(found)


def require_plan_types(spec: GraphSpec, found: Mapping[str, int]) -> None:
    """Compares a plan's types with the precision asked for.

    Raises:
        DiamondError: a layer of another type.
    """
    if found and not (spec.precision in found and found.keys() <= {spec.precision, "fp32"}):
        raise DiamondError(
            f"{spec}: TensorRT computes it in another precision: {counted(found)}",
            f"convolutions and products in {spec.precision}",
            "choose another precision with --precision, and report this message",
        )


def _is_heavy(layer: Mapping[str, Any]) -> bool:
    kind = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}".lower()
    return any(word in kind for word in _HEAVY)


def _type_read(layer: Mapping[str, Any]) -> str | None:
    for tensor in layer.get("Inputs", []):
        if isinstance(tensor, dict):
            text = str(tensor.get("DataType") or tensor.get("Format/Datatype") or "").lower()
            for word, type_ in _PLAN_WORDS.items():
                if word in text:
                    return type_
    return None


def counted(types: Mapping[str, int]) -> str:
    """90 fp16, 2 fp32."""
    return ", ".join(f"{count} {type_}" for type_, count in types.items())
