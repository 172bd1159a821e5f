"""AdamW with the published weight-decay groups: weights of linear and convolution layers decay, nothing else does."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW's settings, at their published values."""

    lr: float = 1e-4
    weight_decay: float = 1e-2
    eps: float = 1e-8


def decayed_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters that decay: `weight` of every Linear and Conv2d. Biases, norms, embeddings do not."""
    return {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def make_optimizer(model: nn.Module, cfg: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the model's parameters in two groups, with and without weight decay."""
    decayed = decayed_parameters(model)
    named = sorted(model.named_parameters())
    groups = [
        {"params": [p for name, p in named if name in decayed], "weight_decay": cfg.weight_decay},
        {"params": [p for name, p in named if name not in decayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=cfg.lr, eps=cfg.eps)
