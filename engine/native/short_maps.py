"""Maps in bf16 between two operators of ours: half of the memory that is written and read."""

from collections.abc import Container, Sequence
from typing import Any

from engine.native.onnx_messages import INT

DOMAIN = "diamond.cpu"
CONVOLUTIONS = ("Conv3x3", "DirectConv", "Int8Conv")
_WRITERS = (*CONVOLUTIONS, "Affine")
# Which inputs may be such maps, and what says so in the attribute `short_maps`.
_OUTPUT = 8
_INPUTS = {
    **{operator: {0: 1, 6: 2, 3: 4} for operator in CONVOLUTIONS},
    "NormAffine": {0: 1, 3: 2},
    "Affine": {0: 1},
}


def shorten(nodes: Sequence[Any], outputs: Container[str]) -> None:
    """Has the maps in bf16 that operators of ours write and nobody but operators of ours reads.

    Args:
        nodes: all of a graph, whose products are in bf16 or int8; their attribute `short_maps` is added.
        outputs: the graph's.
    """
    readers: dict[str, list[tuple[Any, int]]] = {}
    for node in nodes:
        for at, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, at))
    short: dict[int, int] = {}  # by the identity of the node
    for node in nodes:
        name = node.output[0] if node.output else ""
        if node.domain != DOMAIN or node.op_type not in _WRITERS or name in outputs:
            continue
        flags = [
            (reader, _INPUTS.get(reader.op_type, {}).get(at, 0) if reader.domain == DOMAIN else 0)
            for reader, at in readers.get(name, [])
        ]
        if not flags or not all(flag for _, flag in flags):
            continue
        short[id(node)] = short.get(id(node), 0) | _OUTPUT
        for reader, flag in flags:
            short[id(reader)] = short.get(id(reader), 0) | flag
    for node in nodes:
        if id(node) in short:
            node.attribute.add(name="short_maps", i=short[id(node)], type=INT)
