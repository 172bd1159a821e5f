"""What a training run is made of: frozen settings, their JSON, and `--set network.key=value`.

A preset names a complete `WorldRecipe`; a run directory keeps the one it was started with, so `--resume` needs no
other word. Knows nothing of torch.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from engine.errors import DiamondError
from engine.schedule import SamplerConfig
from train.model.agent import AgentConfig
from train.optimizer import OPTIMIZERS


@dataclass(frozen=True)
class NetworkTraining:
    """How one network is trained. A step is one optimiser step of batch_size * grad_accumulation segments."""

    steps: int
    batch_size: int
    grad_accumulation: int = 1
    optimizer: str = "adamw"  # or "muon"
    lr: float = 1e-4
    weight_decay: float = 1e-2
    eps: float = 1e-8
    warmup_steps: int = 100
    decay_fraction: float = 0.0  # the last part of the steps, over which the rate falls linearly to zero
    max_grad_norm: float = 10.0
    autoregressive_steps: int = 0  # frames predicted from predictions, beyond the first
    autoregressive_after: float = 0.0  # fraction of the steps before those begin
    rollout_frames: int = 0  # denoiser: train on one's own rollouts of so many frames (train/rollout_pool.py)
    rollout_after: float = 0.0  # fraction of the steps before those begin
    rollout_fraction: float = 1.0  # of the rows that are then rollouts
    crop: tuple[int, int] | None = None  # upsampler: train on crops of this full-res size
    ema_decay: float = 0.999
    sigma_loc: float = -1.2
    sigma_scale: float = 1.2
    sigma_min: float = 2e-3
    sigma_max: float = 20.0
    start_fraction: float = (
        0.0  # of the rows, given pure noise at the default preset's first level, as in play
    )
    low_res_noise: float = 0.0  # upsampler: the most noise on the frames that it enlarges, a deviation
    distil: str = ""  # upsampler: a preset, whose several steps those rows learn to do in one
    distil_after: float = 0.0  # fraction of the steps before that begins
    focus_fraction: float = 0.0  # of the rows, whose newest action holds one of `focus_keys`
    focus_keys: tuple[str, ...] = ()
    opening_fraction: float = 0.0  # of the rows, in which a view that was bare opens (train/segments.py)
    history_sigma_loc: float = -1.2  # noise on the history frames: log-normal too, same clipping
    history_sigma_scale: float = 1.2
    history_warp: float = 0.0  # denoiser: how far the history is bent at most, in pixels (train/warp.py)
    history_stretch: float = 0.0  # denoiser: and its columns stretched, a fraction
    noisy_warp: float = 0.0  # denoiser: how far the frame under the noise is bent at most, in pixels
    bf16: bool = True
    channels_last: bool = True
    seed: int = 0
    checkpoint_every: int = 500
    sheet_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "grad_accumulation", "checkpoint_every", "sheet_every"):
            if getattr(self, name) < 1:
                raise DiamondError(
                    f"{name} is {getattr(self, name)}", expected="at least 1", fix=f"--set ...{name}=1"
                )
        for name in ("warmup_steps", "autoregressive_steps", "rollout_frames", "seed"):
            if getattr(self, name) < 0:
                raise DiamondError(f"{name} is {getattr(self, name)}", expected="0 or more")
        for name in (
            "decay_fraction",
            "autoregressive_after",
            "rollout_after",
            "rollout_fraction",
            "start_fraction",
            "low_res_noise",
            "distil_after",
            "focus_fraction",
            "opening_fraction",
            "history_stretch",
            "ema_decay",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise DiamondError(f"{name} is {getattr(self, name)}", expected="a fraction from 0 to 1")
        for name in ("history_warp", "noisy_warp"):
            if getattr(self, name) < 0:
                raise DiamondError(f"{name} is {getattr(self, name)}", expected="0 or more pixels")
        if self.focus_fraction + self.opening_fraction > 1:
            raise DiamondError(
                f"focus_fraction {self.focus_fraction} and opening_fraction {self.opening_fraction}",
                expected="together 1 at most",
            )
        if self.optimizer not in OPTIMIZERS:
            raise DiamondError(f"optimizer is {self.optimizer!r}", expected="one of " + ", ".join(OPTIMIZERS))
        if self.crop is not None:
            object.__setattr__(self, "crop", tuple(self.crop))
        object.__setattr__(self, "focus_keys", tuple(self.focus_keys))
        if self.focus_fraction > 0 and not self.focus_keys:
            raise DiamondError(
                "focus_fraction without focus_keys", fix='--set ...focus_keys=["left click","a"]'
            )


@dataclass(frozen=True)
class WorldRecipe:
    """Everything that makes a world from recordings: sizes, both trainings, and how it is sampled when played."""

    name: str
    title: str
    agent: AgentConfig
    denoiser: NetworkTraining
    upsampler: NetworkTraining | None
    presets: dict[str, dict[str, SamplerConfig | None]]
    default_preset: str

    def __post_init__(self) -> None:
        if self.denoiser.low_res_noise > 0:
            raise DiamondError(
                "denoiser.low_res_noise",
                expected="noise for an upsampler, which has low-res frames to enlarge",
            )
        for name in ("history_warp", "history_stretch", "noisy_warp"):
            if self.upsampler is not None and getattr(self.upsampler, name) > 0:
                raise DiamondError(f"upsampler.{name}", expected="a denoiser's frames to bend")

    def default_sampler(self, network: str) -> SamplerConfig:
        """How `network` is sampled by the default preset. Raises DiamondError if that preset leaves it out."""
        sampler = self.presets[self.default_preset][network]
        if sampler is None:
            raise DiamondError(f"preset {self.default_preset}: does not sample the {network}")
        return sampler

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "agent": self.agent.to_json(),
            "denoiser": dataclasses.asdict(self.denoiser),
            "upsampler": None if self.upsampler is None else dataclasses.asdict(self.upsampler),
            "presets": {
                name: {net: None if s is None else s.to_json() for net, s in preset.items()}
                for name, preset in self.presets.items()
            },
            "default_preset": self.default_preset,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "WorldRecipe":
        upsampler = data["upsampler"]
        return cls(
            name=data["name"],
            title=data["title"],
            agent=AgentConfig.from_json(data["agent"]),
            denoiser=NetworkTraining(**data["denoiser"]),
            upsampler=None if upsampler is None else NetworkTraining(**upsampler),
            presets={
                name: {net: None if s is None else SamplerConfig.from_json(s) for net, s in preset.items()}
                for name, preset in data["presets"].items()
            },
            default_preset=data["default_preset"],
        )


def override(recipe: WorldRecipe, assignments: list[str]) -> WorldRecipe:
    """Applies `denoiser.steps=1000`-style assignments to the two trainings; values are JSON (`null`, `[75,140]`)."""
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        network, dot, name = key.partition(".")
        training = getattr(recipe, network, None) if network in ("denoiser", "upsampler") else None
        names = sorted(f.name for f in dataclasses.fields(NetworkTraining))
        if not equals or not dot or training is None or name not in names:
            raise DiamondError(
                f"--set {assignment}: not a setting of this recipe",
                expected="denoiser.KEY=VALUE or upsampler.KEY=VALUE, KEY one of " + ", ".join(names),
            )
        current = getattr(training, name)
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if name == "crop":
            ok = value is None or (
                isinstance(value, list) and len(value) == 2 and all(type(v) is int for v in value)
            )
        elif name == "focus_keys":
            ok = isinstance(value, list) and all(isinstance(key, str) for key in value)
        elif isinstance(current, str):
            ok = isinstance(value, str)
        elif isinstance(current, bool):
            ok = isinstance(value, bool)
        elif isinstance(current, float):
            ok = isinstance(value, int | float) and not isinstance(value, bool)
            value = (
                float(value) if ok else value
            )  # else the next override would take the field for a whole number
        else:
            ok = type(value) is int
        if not ok:
            raise DiamondError(
                f"--set {assignment}: wrong kind of value", expected=f"like {json.dumps(current)}"
            )
        recipe = dataclasses.replace(recipe, **{network: dataclasses.replace(training, **{name: value})})
    return recipe
