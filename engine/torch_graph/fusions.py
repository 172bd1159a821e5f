"""Group norm and SiLU where the exporter has taken them apart: one call of PyTorch's own instead of up to twenty.

`export.layers` writes a norm in the form that ONNX Runtime runs fastest: instance norm over flattened groups or, where
groups are large, statistics row by row. PyTorch has a kernel for the whole, in either case. A norm in a form that is
not known here stays as it is: slower, and right.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from engine.torch_graph.bindings import torch_library

Call = Callable[..., Any]
_NUMBERS = {"one", "zero", "eps"}  # what a norm's form takes for granted about its constants


def fuse(root: Any, graph: Any, like: Mapping[Any, Any]) -> None:
    """Replaces what PyTorch has in one piece; takes out what nobody reads.

    Args:
        root: the module that holds the weights.
        graph: a `torch.fx.Graph` as `engine.torch_graph.convert` writes it; changed in place.
        like: an empty tensor with shape and type for every node of it.
    """
    torch = torch_library()
    groups = _group_counts(graph)
    for node in list(graph.nodes):
        if node.target is torch.add and (norm := _found_norm(root, groups, like, node)) is not None:
            with graph.inserting_before(node):
                fused = _group_norm(torch, graph.call_function, norm)
            node.replace_all_uses_with(fused)
        elif node.target is torch.mul and (x := _swished(torch, node)) is not None:
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.call_function(torch.nn.functional.silu, (x,)))
    graph.eliminate_dead_code()


def _swished(torch: Any, node: Any) -> Any | None:
    """x, where the node is x * sigmoid(x)."""
    for x, gate in (node.args, node.args[::-1]):
        if getattr(gate, "target", None) is torch.sigmoid and gate.args == (x,):
            return x
    return None


# Norms.


def _group_norm(torch: Any, call: Call, norm: dict[str, Any]) -> Any:
    """gain * (x - mean) / sqrt(variance + eps) + shift, over groups of channels."""
    gain, shift = (call(torch.reshape, (norm[name], (norm["channels"],))) for name in ("gain", "shift"))
    return call(torch.nn.functional.group_norm, (norm["x"], norm["groups"], gain, shift, norm["eps"]))


def _found_norm(
    root: Any, group_counts: Sequence[int], like: Mapping[Any, Any], last: Any
) -> dict[str, Any] | None:
    """What goes into the norm of which `last` is the last addition; None where it is none."""
    shape = tuple(like[last].shape) if last in like else ()
    if len(shape) != 4 or shape[0] != 1:
        return None
    for groups in group_counts:
        if shape[1] % groups:
            continue
        for form in _norms(shape, groups):
            bound: dict[str, Any] = {}
            if _unify(form, last, bound, {}):
                norm = bound | {name: _plain(root, bound[name]) for name in _NUMBERS & bound.keys()}
                sizes = [like[norm[name]].numel() for name in ("gain", "shift")]
                fits = tuple(like[norm["x"]].shape) == shape and sizes == [shape[1]] * 2
                if fits and norm.get("one", 1) == 1 and norm["zero"] == 0 and isinstance(norm["eps"], float):
                    return {**norm, "groups": groups, "channels": shape[1]}
    return None


def _group_counts(graph: Any) -> list[int]:
    """Every length that the middle axis of a reshape to three axes has."""
    reshape = torch_library().reshape
    shapes = {node.args[1] for node in graph.nodes if node.target is reshape}
    return sorted({shape[1] for shape in shapes if len(shape) == 3 and shape[0] == 1 and shape[1] > 0})


@cache
def _norms(shape: tuple[int, ...], groups: int) -> tuple[Any, ...]:
    """The forms that a norm of such a feature map may have."""
    per_group = math.prod(shape) // groups
    small = (_small_norm(shape, groups, length) for length in (-1, per_group))
    return *small, *(_large_norm(shape, groups, folded) for folded in (False, True))


def _small_norm(shape: tuple[int, ...], groups: int, length: int) -> Any:
    """As `export.layers.group_norm` writes it where groups are small; `length` as the reshape says it."""
    torch = torch_library()
    graph, call, given = _form()
    x = given("x")
    flat = call(torch.reshape, (x, (1, groups, length)))
    scale = {"weight": given("one"), "bias": given("zero"), "eps": given("eps")}
    normed = call(torch.reshape, (call(torch.nn.functional.instance_norm, (flat,), scale), shape))
    return graph.output(call(torch.add, (call(torch.mul, (normed, given("gain"))), given("shift"))))


def _large_norm(shape: tuple[int, ...], groups: int, folded: bool) -> Any:
    """As `export.layers.group_norm` writes it where groups are large; `folded`: gain and shift come by groups."""
    torch = torch_library()
    graph, call, given = _form()
    x, channels = given("x"), shape[1]
    split, spread = (1, groups, channels // groups), (1, channels, 1, 1)

    def mean(value: Any) -> Any:
        rows = call(torch.mean, (call(torch.mean, (value, (-1,), False)), (-1,), False))
        return call(torch.mean, (call(torch.reshape, (rows, split)), (-1,), True))

    mean_x = mean(x)
    variance = call(torch.sub, (mean(call(torch.mul, (x, x))), call(torch.mul, (mean_x, mean_x))))
    above = call(torch.add, (call(torch.maximum, (variance, given("zero"))), given("eps")))
    scale = call(torch.reciprocal, (call(torch.sqrt, (above,)),))
    gain, shift = (
        given(name) if folded else call(torch.reshape, (given(name), split)) for name in ("gain", "shift")
    )
    a = call(torch.mul, (gain, scale))
    b = call(torch.sub, (shift, call(torch.mul, (mean_x, a))))
    scaled = call(torch.mul, (x, call(torch.reshape, (a, spread))))
    return graph.output(call(torch.add, (scaled, call(torch.reshape, (b, spread)))))


def _form() -> tuple[Any, Call, Call]:
    """A graph to write a form into; what is not the same in every norm is `given`, by name."""
    graph = torch_library().fx.Graph()
    given: dict[str, Any] = {}

    def named(name: str) -> Any:
        if name not in given:
            given[name] = graph.placeholder(name)
        return given[name]

    return graph, graph.call_function, named


def _unify(form: Any, value: Any, bound: dict[str, Any], seen: dict[Any, Any]) -> bool:
    """Whether a value is computed as the form says; `bound` gets what the form's placeholders stand for."""
    if isinstance(form, tuple | list):
        same_kind = isinstance(value, tuple | list) and len(value) == len(form)
        return same_kind and all(_unify(f, v, bound, seen) for f, v in zip(form, value, strict=True))
    if not hasattr(form, "op"):  # a number
        return type(form) is type(value) and bool(form == value)
    if form.op == "output":
        return _unify(form.args[0], value, bound, seen)
    if form.op == "placeholder":
        return bound.setdefault(form.name, value) is value
    if form in seen:
        return seen[form] is value
    seen[form] = value
    return (
        hasattr(value, "op")
        and value.op == form.op
        and value.target is form.target
        and value.kwargs.keys() == form.kwargs.keys()
        and _unify(form.args, value.args, bound, seen)
        and all(_unify(form.kwargs[name], value.kwargs[name], bound, seen) for name in form.kwargs)
    )


def _plain(root: Any, value: Any) -> Any:
    """A weight that is the same number all over as that number; anything else as it is."""
    if getattr(value, "op", None) != "get_attr":
        return value
    weight = getattr(root, value.target)
    first = weight.flatten()[0]
    return float(first) if bool((weight == first).all()) else value
