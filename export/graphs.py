"""The four graphs of a world, as modules ready for `torch.onnx.export`: two conditioners, denoiser, upsampler.

Architecture and weights are those of `train.model`: a graph is a copy of the trained network, its weights shared, in
which a few layers are swapped for equal, faster ones (`export.layers`). The adaptive norms' projections, a third of the
published denoiser's weights, move into the conditioner ("hoisting"), which runs once a frame instead of once a
step. All arithmetic is inside: preconditioning, bicubic enlargement, quantisation. Knows no files and no ONNX.

`modulation` has one row per evaluation. Each adaptive norm, in the order of `adaptive_norms`, owns 2 C columns of
it: C gains (the 1 of "1 + scale" included), then C shifts.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.layers import AffineNorm, FoldedAttention, HoistedNorm, bicubic_matrix, swap_layers
from train.model import Agent, Denoiser
from train.model.blocks import AdaGroupNorm, SelfAttention2d
from train.model.denoiser import InnerModel

EXAMPLE_EVALUATIONS = 3  # any count above 1, so that torch.export does not take it for a constant


@dataclass(frozen=True)
class GraphDefinition:
    """One graph: what to export, under which names.

    Attributes:
        inputs: example tensors in the order of the module's arguments.
        output: name of the module's first result.
        internal: names of its further results, which stay inside the graph.
        dynamic: inputs whose first dimension, the number of evaluations E, is free at runtime.
    """

    role: str
    module: nn.Module
    inputs: dict[str, Tensor]
    output: str
    internal: tuple[str, ...] = ()
    dynamic: frozenset[str] = field(default_factory=frozenset)


def adaptive_norms(network: Denoiser) -> list[tuple[str, AdaGroupNorm]]:
    """Names and layers of every adaptive norm: the order of the modulation's columns."""
    modules = network.inner_model.unet.named_modules()
    return [(name, module) for name, module in modules if isinstance(module, AdaGroupNorm)]


class Conditioner(nn.Module):
    """What both conditioners share: a conditioning vector -> the modulation of every adaptive norm."""

    weight: Tensor  # (M, cond_channels)
    bias: Tensor  # (M,)

    def __init__(self, network: Denoiser) -> None:
        super().__init__()
        self.embedding = network.inner_model
        weights, biases = [], []
        for _, norm in adaptive_norms(network):
            weights.append(norm.linear.weight.detach())
            one_plus_scale = torch.cat((torch.ones(norm.channels), torch.zeros(norm.channels)))
            biases.append(norm.linear.bias.detach() + one_plus_scale)
        self.register_buffer("weight", torch.cat(weights))
        self.register_buffer("bias", torch.cat(biases))

    @property
    def modulation_size(self) -> int:
        """M, the columns of the modulation."""
        return len(self.bias)

    def modulate(self, c_noise: Tensor, c_noise_cond: Tensor, action: Tensor | None) -> Tensor:
        cond = self.embedding.conditioning(c_noise, c_noise_cond, action)  # (E, cond_channels)
        return F.linear(cond, self.weight, self.bias)


class DenoiserConditioner(Conditioner):
    """action (1, T, A) multi-hot, c_noise (E,), c_noise_cond (E,) -> modulation (E, M)."""

    def forward(self, action: Tensor, c_noise: Tensor, c_noise_cond: Tensor) -> Tensor:
        return self.modulate(c_noise, c_noise_cond, action)


class UpsamplerConditioner(Conditioner):
    """c_noise (E,), c_noise_cond (E,) -> modulation (E, M)."""

    def forward(self, c_noise: Tensor, c_noise_cond: Tensor) -> Tensor:
        return self.modulate(c_noise, c_noise_cond, None)


def copy_sharing_weights(module: InnerModel) -> InnerModel:
    """A copy whose layers can be swapped; the weights, 1.3 GB of them as published, are the same tensors."""
    return copy.deepcopy(module, {id(weight): weight for weight in (*module.parameters(), *module.buffers())})


class NetworkGraph(nn.Module):
    """What both networks share: one evaluation with its modulation given. All tensors float32, batch 1."""

    def __init__(self, network: Denoiser) -> None:
        super().__init__()
        norms = {name: index for index, (name, _) in enumerate(adaptive_norms(network))}
        self.widths = [norm.channels for _, norm in adaptive_norms(network) for _ in ("gain", "shift")]
        inner = copy_sharing_weights(network.inner_model)
        self.conv_in, self.unet, self.conv_out = inner.conv_in, inner.unet, inner.conv_out
        self.norm_out = AffineNorm(inner.norm_out)
        self.predict_change = network.cfg.predict_change
        self.patch_size = network.cfg.inner_model.patch_size
        channels = network.cfg.inner_model.img_channels
        weight = self.conv_in.weight.detach().clone()
        weight[:, :-channels] /= network.cfg.history_std  # the input channels of the history
        self.conv_in.weight = nn.Parameter(weight, requires_grad=False)

        def faster(name: str, layer: nn.Module) -> nn.Module | None:
            if isinstance(layer, AdaGroupNorm):
                return HoistedNorm(norms[name])
            return FoldedAttention(layer) if isinstance(layer, SelfAttention2d) else None

        swap_layers(self.unet, faster)

    def evaluate(
        self, x: Tensor, history: Tensor, modulation: Tensor, coefficients: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns (denoised, raw): the quantised prediction and the network's output, each like x (1, C, H, W)."""
        c_in, c_skip, c_out = coefficients.split(1)
        parts = modulation.reshape(1, -1, 1, 1).split(self.widths, dim=1)
        if self.predict_change:
            origin = history[:, -x.shape[1] :]
            x = x - origin
        h = self.unet(self.conv_in(torch.cat((history, x * c_in), dim=1)), parts)
        raw = self.conv_out(F.silu(self.norm_out(h)))
        if self.patch_size > 1:
            raw = F.pixel_shuffle(raw, self.patch_size)
        d = c_skip * x + c_out * raw
        if self.predict_change:
            d = d + origin
        d = d.clamp(-1, 1)
        denoised = ((d + 1) / 2 * 255).floor() / 255 * 2 - 1  # floor truncates: never negative here
        return denoised, raw


class DenoiserGraph(NetworkGraph):
    """x (1, 3, h, w), history (1, T*3, h, w) oldest first, modulation (1, M), (c_in, c_skip, c_out) (3,)."""

    def forward(
        self, x: Tensor, history: Tensor, modulation: Tensor, coefficients: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.evaluate(x, history, modulation, coefficients)


class UpsamplerGraph(NetworkGraph):
    """x (1, 3, H, W), history (1, T*3, H, W), low_res (1, 3, h, w), modulation (1, M), coefficients (3,).

    `enlarged_noise` (1, 3, H, W) is added to the enlarged frame: zeros, but where the sampler's s_cond asks for it.
    """

    rows: Tensor  # (H, h)
    columns: Tensor  # (w, W)

    def __init__(self, network: Denoiser, low_res: tuple[int, int]) -> None:
        super().__init__(network)
        factor = network.cfg.upsampling_factor
        assert factor is not None
        self.register_buffer("rows", bicubic_matrix(low_res[0], factor))
        self.register_buffer("columns", bicubic_matrix(low_res[1], factor).T.contiguous())

    def forward(
        self,
        x: Tensor,
        history: Tensor,
        low_res: Tensor,
        enlarged_noise: Tensor,
        modulation: Tensor,
        coefficients: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        enlarged = self.rows @ (low_res @ self.columns)  # (1, 3, H, W)
        frames = torch.cat((history, enlarged + enlarged_noise), dim=1)
        return *self.evaluate(x, frames, modulation, coefficients), enlarged


def world_graphs(agent: Agent, low_res: tuple[int, int]) -> Iterator[GraphDefinition]:
    """Every graph of a world whose small frames are `low_res` = (height, width), one after another.

    Each is made when it is asked for: at the published sizes, the denoiser's modulation alone is 0.4 GB of weights.
    """
    yield from _network_graphs("denoiser", agent.denoiser, low_res, agent.cfg.num_actions)
    if agent.upsampler is not None:
        yield from _network_graphs("upsampler", agent.upsampler, low_res, agent.cfg.num_actions)


def _network_graphs(
    name: str, network: Denoiser, low_res: tuple[int, int], num_actions: int
) -> Iterator[GraphDefinition]:
    T, C = network.cfg.inner_model.num_steps_conditioning, network.cfg.inner_model.img_channels
    H, W = (side * (network.cfg.upsampling_factor or 1) for side in low_res)
    is_upsampler = network.cfg.is_upsampler

    conditioner = UpsamplerConditioner(network) if is_upsampler else DenoiserConditioner(network)
    action = {} if is_upsampler else {"action": torch.zeros(1, T, num_actions)}
    levels = {key: torch.linspace(-1, 0, EXAMPLE_EVALUATIONS) for key in ("c_noise", "c_noise_cond")}
    yield GraphDefinition(
        f"{name}_conditioner", conditioner, {**action, **levels}, "modulation", dynamic=frozenset(levels)
    )

    small = (
        {"low_res": torch.zeros(1, C, *low_res), "enlarged_noise": torch.zeros(1, C, H, W)}
        if is_upsampler
        else {}
    )
    inputs = {
        "x": torch.zeros(1, C, H, W),
        "history": torch.zeros(1, T * C, H, W),
        **small,
        "modulation": torch.zeros(1, conditioner.modulation_size),
        "coefficients": torch.tensor([1.0, 0.5, 0.5]),
    }
    graph = UpsamplerGraph(network, low_res) if is_upsampler else DenoiserGraph(network)
    internal = ("raw", "enlarged") if is_upsampler else ("raw",)
    yield GraphDefinition(name, graph, inputs, "denoised", internal)
