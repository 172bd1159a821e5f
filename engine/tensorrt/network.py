"""From a graph's file to a TensorRT network and what it is to be built with. Needs no GPU.

Beside the graph a network has two things of its own. Every output that is a clipped x gets 0 * x added: a clip may turn
NaN into a plausible black, and the world stops at NaN; STRICT_NANS keeps the sum from being optimised away. And free
axes get one optimisation profile: a conditioner is run with one row for every evaluation of the sampler's schedule.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends.base import check_signature
from engine.errors import DiamondError
from engine.graphs import GraphSpec, TensorSpec
from engine.tensorrt.flavour import Flavour
from engine.tensorrt.precisions import Types, network_types, require_types

ROWS = (1, 4, 128)  # least, usual, most: memory is set aside for the most
DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT64": "int64", "INT32": "int32"}
_EXPORT = "export the world again with diamond-export"


@dataclass(frozen=True)
class BuildOptions:
    """How hard to look for fast kernels.

    Attributes:
        opt_level: 0 (builds fast) to 5 (runs fast); None for TensorRT's own choice, 3.
        workspace_bytes: scratch memory a layer may use on the GPU; None for all there is.
    """

    opt_level: int | None = None
    workspace_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.opt_level is not None and not 0 <= self.opt_level <= 5:
            raise DiamondError(f"--opt-level {self.opt_level}", "0 to 5")
        if self.workspace_bytes is not None and self.workspace_bytes < 1 << 20:
            raise DiamondError(f"--workspace of {self.workspace_bytes} bytes", "1 MB or more")


@dataclass(frozen=True)
class ParsedNetwork:
    """A network. What it refers to is kept beside it: builder, parser, and the arrays of its own constants."""

    builder: Any
    parser: Any
    network: Any
    types: Types
    arrays: tuple[npt.NDArray[np.float32], ...]


def parse(flavour: Flavour, spec: GraphSpec) -> ParsedNetwork:
    """Reads a graph, with the weights that lie beside it.

    Raises:
        DiamondError: TensorRT refuses a layer, the tensors are not what world.json says, or the types are not the
            precision asked for.
    """
    flavour.log.clear()
    builder = flavour.make("Builder", flavour.log.logger)
    network = flavour.require(builder.create_network(0), f"{spec}: a network")
    parser = flavour.make("OnnxParser", network, flavour.log.logger)
    if not parser.parse_from_file(str(spec.path)):
        raise DiamondError(
            f"{spec.path}: {flavour.name} refuses {spec}: {_refusal(flavour, parser)}",
            f"an ONNX graph that {flavour} takes",
            "export the world again with diamond-export, or play with --backend ort",
        )
    inputs = _tensors(network.get_input(index) for index in range(network.num_inputs))
    outputs = _tensors(network.get_output(index) for index in range(network.num_outputs))
    check_signature(spec, inputs, outputs)
    types = network_types(flavour.api, network)
    require_types(spec, types)
    return ParsedNetwork(builder, parser, network, types, _let_nan_through(flavour, network))


def configure(
    flavour: Flavour, parsed: ParsedNetwork, spec: GraphSpec, options: BuildOptions, target: Any | None
) -> Any:
    """The builder's settings.

    Args:
        target: what `Flavour.target` gave, or None: for TensorRT the GPU that is present, for TensorRT-RTX any.

    Raises:
        DiamondError: TensorRT does not take a setting.
    """
    api = flavour.api
    config = flavour.require(parsed.builder.create_builder_config(), f"{spec}: a builder's settings")
    config.clear_flag(api.BuilderFlag.TF32)
    config.set_flag(api.BuilderFlag.STRICT_NANS)
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED  # else the inspector tells names only
    config.max_aux_streams = 0  # a captured frame has one stream
    if options.opt_level is not None:
        config.builder_optimization_level = options.opt_level
    if options.workspace_bytes is not None:
        pool = api.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(pool, options.workspace_bytes)  # returns nothing, so it is read back
        accepted = config.get_memory_pool_limit(pool) == options.workspace_bytes
        flavour.require(accepted, f"{spec}: --workspace of {options.workspace_bytes} bytes", "less of it")
    if target is not None:
        config.num_compute_capabilities = 1
        flavour.require(config.set_compute_capability(target, 0), f"{spec}: building for {target.name}")
    _add_profile(flavour, parsed, spec, config)
    return config


def _add_profile(flavour: Flavour, parsed: ParsedNetwork, spec: GraphSpec, config: Any) -> None:
    free = {name: tensor.shape for name, tensor in spec.inputs.items() if None in tensor.shape}
    if not free:
        return
    profile = flavour.require(parsed.builder.create_optimization_profile(), f"{spec}: a profile")
    for name, shape in free.items():
        sizes = [tuple(rows if axis is None else axis for axis in shape) for rows in ROWS]
        try:
            profile.set_shape(name, *sizes)
        except ValueError as error:
            raise DiamondError(f"{spec}: {name}: {flavour.name} refuses {sizes}: {error}") from error
    added = config.add_optimization_profile(profile) >= 0  # -1 where it is refused
    flavour.require(added, f"{spec}: the profile of {', '.join(free)}")


def _refusal(flavour: Flavour, parser: Any) -> str:
    """The parser's own errors, by node."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    told = [f"{_node(error)}: {' '.join(error.desc().split())}" for error in errors]
    return "; ".join(told) or flavour.log.reason()


def _node(error: Any) -> str:
    name, operator = error.node_name(), error.node_operator()
    return f"{operator} {name}" if operator else name or "the file"


def _tensors(tensors: Iterator[Any]) -> dict[str, TensorSpec]:
    """Tensors as TensorRT reports them; a free axis is -1."""
    return {
        tensor.name: TensorSpec(
            DTYPES.get(tensor.dtype.name, tensor.dtype.name),
            tuple(None if axis < 0 else axis for axis in tensor.shape),
        )
        for tensor in tensors
    }


def _let_nan_through(flavour: Flavour, network: Any) -> tuple[npt.NDArray[np.float32], ...]:
    """Adds 0 * x to an output that is a clipped x; returns the zeros, which the network only points at."""
    api = flavour.api
    makers, fed = _producers(network)
    arrays = []
    for output in [network.get_output(index) for index in range(network.num_outputs)]:
        clipped = _before_clip(api, makers, fed, output)
        if clipped is None:
            continue
        name = output.name
        zeros = np.zeros((1,) * len(output.shape), np.float32)
        arrays.append(zeros)
        zero = flavour.require(network.add_constant(zeros.shape, zeros), "a constant")
        product = _sum_or_product(flavour, network, clipped, zero.get_output(0), "PROD")
        guarded = _sum_or_product(flavour, network, output, product, "SUM")
        network.unmark_output(output)
        output.name, guarded.name = f"{name}_clipped", name
        network.mark_output(guarded)
    return tuple(arrays)


def _sum_or_product(flavour: Flavour, network: Any, one: Any, other: Any, operation: str) -> Any:
    layer = network.add_elementwise(one, other, getattr(flavour.api.ElementWiseOperation, operation))
    return flavour.require(layer, f"the {operation} that lets NaN through").get_output(0)


def _producers(network: Any) -> tuple[dict[str, Any], set[str]]:
    """Tensor -> the layer that makes it, and the tensors that depend on an input; all others are constants."""
    makers: dict[str, Any] = {}
    fed = {network.get_input(index).name for index in range(network.num_inputs)}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        outputs = [layer.get_output(number).name for number in range(layer.num_outputs)]
        makers.update(dict.fromkeys(outputs, layer))
        if any(tensor.name in fed for tensor in _inputs(layer)):
            fed.update(outputs)
    return makers, fed


def _inputs(layer: Any) -> list[Any]:
    tensors = [layer.get_input(number) for number in range(layer.num_inputs)]
    return [tensor for tensor in tensors if tensor is not None]  # optional ones may be absent


def _before_clip(api: Any, makers: dict[str, Any], fed: set[str], output: Any) -> Any | None:
    """What the last clip before an output reads, searched for along layers that read one tensor and constants."""
    tensor = output
    while (layer := makers.get(tensor.name)) is not None:
        read = [one for one in _inputs(layer) if one.name in fed]
        if len(read) != 1:
            return None
        (tensor,) = read
        if layer.type == api.LayerType.ACTIVATION:
            layer.__class__ = api.IActivationLayer  # how a layer's own fields are reached
            return tensor if layer.type == api.ActivationType.CLIP else None
    return None
