"""A world's networks back as PyTorch modules: what `export.graphs` folded into the graphs, unfolded.

So that a world whose checkpoint is gone, the embedded one above all, can be trained further. Reads the fp32 graphs of a
bundle; they hold the averaged weights, each under its own name.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.errors import DiamondError
from train.model import Denoiser
from train.model.blocks import AdaGroupNorm, SelfAttention2d


def load_network(world: Path, name: str, network: Denoiser) -> None:
    """Puts the weights of a world's network into `network`, which must be of its sizes.

    Args:
        world: directory of a bundle with fp32 graphs.
        name: "denoiser" or "upsampler".

    Raises:
        DiamondError: graphs that are missing, of another network or of other sizes.
    """
    graph, conditioner = (_weights(world / "fp32" / f"{role}.onnx") for role in (name, f"{name}_conditioner"))
    state: dict[str, Tensor] = {}

    # 1. What the conditioner holds: embeddings, and the projections of every adaptive norm.
    state |= {
        key.removeprefix("embedding."): value
        for key, value in conditioner.items()
        if key.startswith("embedding.")
    }
    modules = list(network.inner_model.unet.named_modules())
    norms = [(f"unet.{key}", module) for key, module in modules if isinstance(module, AdaGroupNorm)]
    sizes = [2 * norm.channels for _, norm in norms]
    rows, biases = conditioner["weight"], conditioner["bias"]
    if len(biases) != sum(sizes):
        raise DiamondError(f"{world}: the {name} has other sizes", "the sizes of the recipe")
    for (key, norm), weight, bias in zip(norms, rows.split(sizes), biases.split(sizes), strict=True):
        one_plus_scale = torch.cat((torch.ones(norm.channels), torch.zeros(norm.channels)))
        state |= {f"{key}.linear.weight": weight, f"{key}.linear.bias": bias - one_plus_scale}

    # 2. What the network's graph holds.
    expected = network.inner_model.state_dict()
    for key, value in graph.items():
        original = key.replace(".norm.gain", ".norm.norm.weight").replace(".norm.shift", ".norm.norm.bias")
        original = original.replace("norm_out.gain", "norm_out.norm.weight")
        original = original.replace("norm_out.shift", "norm_out.norm.bias")
        if original in expected:
            state[original] = value.reshape(expected[original].shape)
    state["conv_in.weight"] = state["conv_in.weight"].clone()
    state["conv_in.weight"][:, : -network.cfg.inner_model.img_channels] *= network.cfg.history_std
    for key, module in modules:
        if isinstance(module, SelfAttention2d):
            channels = module.out_proj.in_channels
            for part in ("weight", "bias"):
                value = state[f"unet.{key}.qkv_proj.{part}"].clone()
                value[:channels] /= math.sqrt(module.num_heads / channels)
                state[f"unet.{key}.qkv_proj.{part}"] = value
    try:
        network.inner_model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise DiamondError(f"{world}: the {name}: {error}", "the sizes of the recipe") from error


def _weights(path: Path) -> dict[str, Tensor]:
    import onnx

    if not path.is_file():
        raise DiamondError(f"{path}: no such graph", "a world with fp32 graphs of that network")
    graph = onnx.load(path).graph
    weights = {
        weight.name: torch.from_numpy(np.array(onnx.numpy_helper.to_array(weight)))
        for weight in graph.initializer
    }
    # A norm over large groups has gain and shift folded into (1, groups, C / groups), under other names. Only the
    # last norm is both that large and not adaptive. See `export.layers.group_norm`.
    by_groups = {name for name, value in weights.items() if value.ndim == 3 and len(value) == 1}
    for node in graph.node:
        part = {"Mul": "gain", "Sub": "shift"}.get(node.op_type)
        for name in by_groups.intersection(node.input) if part else ():
            weights[f"norm_out.{part}"] = weights[name]
    return weights
