"""A run that begins from trained weights, those of a world or of another run, instead of random ones.

Only the weights are taken up, the averaged ones; the optimiser begins anew, at step 0. Settings, data and seed are
the new run's own. A recipe with more channels takes up weights of fewer: they grow (train/growth.py).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from engine.actions import ActionSpace
from engine.bundle import Bundle
from engine.catalog import resolve
from engine.errors import DiamondError
from train.checkpoint import RunInfo, load_average, read_run, save_checkpoint
from train.from_world import load_network
from train.growth import can_grow, grow
from train.loop import state_of
from train.model import AgentConfig, Denoiser, DenoiserConfig
from train.optimizer import OptimizerConfig, make_optimizer


class Beginning:
    """Where a run's weights come from: a world's name, its directory, or that of a run.

    Raises DiamondError if it is none of these.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._run = Path(source) if (Path(source) / "run.json").is_file() else None
        if self._run is not None:
            info = read_run(self._run)
            self.agent, self.space = info.recipe.agent, info.action_space
            return
        self._world = resolve(source)
        manifest = Bundle.open(self._world).manifest
        sizes = {**manifest.architecture, "num_actions": manifest.action_space.size}
        try:
            self.agent = AgentConfig.from_json(sizes)
        except (KeyError, TypeError) as error:
            raise DiamondError(
                f"{source}: unknown architecture: {error}", "a world of diamond-train"
            ) from error
        self.space = manifest.action_space

    def _check(self, info: RunInfo, names: Sequence[str]) -> None:
        """Sizes, scales and actions must be those of the new run."""
        for name in names:
            own, there = getattr(info.recipe.agent, name), getattr(self.agent, name)
            if there is None:
                raise DiamondError(f"--from {self.source}: has no {name}", fix="--only denoiser")
            if own != there and not can_grow(there, own):
                raise DiamondError(
                    f"--from {self.source}: its {name} has {_differences(there, own)}",
                    expected=f"as in the recipe {info.recipe.name}",
                    fix="another preset, or --only the network that fits",
                )
        if "denoiser" in names and _actions(self.space) != _actions(info.action_space):
            raise DiamondError(
                f"--from {self.source}: has other actions than the recordings",
                expected="the same action space",
            )

    def networks(self, info: RunInfo, names: Sequence[str]) -> dict[str, Denoiser]:
        """The networks of the new run, by name, with these weights. Raises DiamondError if one does not fit."""
        self._check(info, names)
        loaded = {}
        for name in names:
            own, there = getattr(info.recipe.agent, name), getattr(self.agent, name)
            network = Denoiser(there, info.recipe.agent.num_actions)
            if self._run is None:
                load_network(self._world, name, network)
            else:
                load_average(self._run / name, network)
            if own != there:
                torch.manual_seed(getattr(info.recipe, name).seed)
                narrow, network = network, Denoiser(own, info.recipe.agent.num_actions)
                grow(narrow, network)
            loaded[name] = network
        return loaded


def save_step_0(run_dir: Path, info: RunInfo, networks: Mapping[str, Denoiser]) -> None:
    """Writes the checkpoints from which the training of a run's networks, by name, begins."""
    for name, network in networks.items():
        cfg = getattr(info.recipe, name)
        optimizer = make_optimizer(network, OptimizerConfig(cfg.lr, cfg.weight_decay, cfg.eps, cfg.optimizer))
        save_checkpoint(run_dir / name, state_of(network, network, optimizer, 0))


def _actions(space: ActionSpace) -> tuple[object, ...]:
    """What the vector's entries stand for; labels and camera keys may differ."""
    return space.keys, space.buttons, space.mouse_x, space.mouse_y


def _differences(there: DenoiserConfig, own: DenoiserConfig) -> str:
    a, b = (dataclasses.asdict(cfg) for cfg in (there, own))
    a, b = ({**cfg.pop("inner_model"), **cfg} for cfg in (a, b))
    return ", ".join(f"{key} {a[key]} instead of {b[key]}" for key in a if a[key] != b[key])
