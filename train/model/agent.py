"""The two networks of one world, under the names of the published checkpoint. `Agent` is the paper's word."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from train.model.denoiser import Denoiser, DenoiserConfig


@dataclass(frozen=True)
class AgentConfig:
    """Sizes of both networks and of the action vector."""

    denoiser: DenoiserConfig
    upsampler: DenoiserConfig | None
    num_actions: int

    def to_json(self) -> dict[str, Any]:
        return {
            "denoiser": self.denoiser.to_json(),
            "upsampler": None if self.upsampler is None else self.upsampler.to_json(),
            "num_actions": self.num_actions,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "AgentConfig":
        upsampler = data["upsampler"]
        return cls(
            denoiser=DenoiserConfig.from_json(data["denoiser"]),
            upsampler=None if upsampler is None else DenoiserConfig.from_json(upsampler),
            num_actions=int(data["num_actions"]),
        )


class Agent(nn.Module):
    """`denoiser` and `upsampler` (None for a world that plays at its low resolution)."""

    def __init__(self, cfg: AgentConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.denoiser = Denoiser(cfg.denoiser, cfg.num_actions)
        self.upsampler = None if cfg.upsampler is None else Denoiser(cfg.upsampler, cfg.num_actions)
