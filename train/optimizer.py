"""The two optimisers: AdamW, as published, and Muon for the hidden weight matrices with AdamW for everything else.

Weights of linear and convolution layers decay, nothing else does.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW's settings, at their published values; `name` is one of OPTIMIZERS."""

    lr: float = 1e-4
    weight_decay: float = 1e-2
    eps: float = 1e-8
    name: str = "adamw"


class MuonAndAdamW:
    """One optimiser over a whole network: Muon (Jordan 2024) for `matrices`, AdamW for the rest.

    torch.optim.Muon takes matrices only. A convolution's weight (O, I, kh, kw) is given to it as the matrix
    (O, kh*kw*I), which shares its storage. Its step is scaled to the size that AdamW's would have
    (`match_rms_adamw`, Liu 2025), so one learning rate and one weight decay serve both.
    """

    def __init__(self, matrices: list[nn.Parameter], adamw: torch.optim.AdamW, cfg: OptimizerConfig) -> None:
        self._sources = matrices
        self._matrices = [nn.Parameter(_as_matrix(p.detach(), _lies_channels_last(p))) for p in matrices]
        for source, matrix in zip(self._sources, self._matrices, strict=True):
            if matrix.data_ptr() != source.data_ptr():
                raise ValueError(
                    f"a weight {tuple(source.shape)} with strides {source.stride()} has no matrix form"
                )
        self._adamw = adamw
        self._muon = torch.optim.Muon(
            self._matrices, lr=cfg.lr, weight_decay=cfg.weight_decay, adjust_lr_fn="match_rms_adamw"
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both, to set `lr` in."""
        return [*self._muon.param_groups, *self._adamw.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets all gradients."""
        for source in self._sources:
            source.grad = None
        self._adamw.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """One step of both from the gradients of the network's own parameters."""
        for source, matrix in zip(self._sources, self._matrices, strict=True):
            matrix.grad = (
                None if source.grad is None else _as_matrix(source.grad, _lies_channels_last(source))
            )
        self._muon.step()
        self._adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """Both states."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave. KeyError or ValueError for another optimiser's state."""
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])


def _lies_channels_last(weight: Tensor) -> bool:
    return weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)


def _as_matrix(weight: Tensor, channels_last: bool) -> Tensor:
    """(O, I) as it is; (O, I, kh, kw) as (O, kh*kw*I) for channels that lie last in memory, else as (O, I*kh*kw)."""
    return (weight.permute(0, 2, 3, 1) if channels_last else weight).flatten(1)


def decayed_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters that decay: `weight` of every Linear and Conv2d. Biases, norms, embeddings do not."""
    return {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def make_optimizer(model: nn.Module, cfg: OptimizerConfig) -> torch.optim.AdamW | MuonAndAdamW:
    """The optimiser over the model's parameters. AdamW has two groups, with and without weight decay.

    Muon takes the weights of the hidden layers: every decayed one but those that the frames enter and leave by.
    """
    decayed = decayed_parameters(model)
    hidden = set()
    if cfg.name == "muon":
        hidden = {name for name in decayed if not name.endswith(("conv_in.weight", "conv_out.weight"))}
    named = sorted(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if n in decayed - hidden], "weight_decay": cfg.weight_decay},
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=cfg.lr, eps=cfg.eps)
    if not hidden:
        return adamw
    return MuonAndAdamW([p for n, p in named if n in hidden], adamw, cfg)
