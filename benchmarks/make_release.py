"""Makes a release of random weights in the published layout, at full size by default.

The published weights cannot be fetched everywhere, and what conversion, loading and latency cost depends on sizes
alone. Every weight is drawn, also those that training starts at zero, with spreads that keep activations near one, so
that precision errors show as they would in a trained network. Spawns are fields of colour, or copies of a world's.

    python benchmarks/make_release.py --out RELEASE                     330.5 + 51.1 M weights, 1.5 GB
    python benchmarks/make_release.py --out RELEASE --recipe tiny --low-res 14x20
    python benchmarks/make_release.py --out RELEASE --spawns-from freedoom
"""

import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import yaml

from engine.actions import Action, ActionSpace
from engine.bundle import Bundle
from engine.catalog import resolve
from engine.errors import DiamondError, run_cli
from engine.graphs import CHANNELS, Sizes
from engine.spawn import Spawn
from train.model import AgentConfig, DenoiserConfig
from train.presets import recipe as find_recipe
from train.release import CHECKPOINT, action_space, read_release
from train.release_checkpoint import empty_agent
from train.release_config import AGENT_YAML, ENV_YAML

NEXT_ACTIONS = 100
_OFFSET_STD, _NORM_STD = 0.02, 0.1

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def write_release(out: Path, agent: AgentConfig, spawns: list[Spawn], seed: int) -> Path:
    """Writes a release.

    Args:
        out: a directory that is new or empty.
        agent: sizes of both networks.
        spawns: where play starts; a spawn's frames are repeated up to the longer of the two histories, as the
            original expects.
        seed: of the weights.

    Returns:
        `out`.

    Raises:
        DiamondError: there is something in `out`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DiamondError(f"{out}: is there already", "a new or empty directory", "choose another --out")
    for name, document in ((AGENT_YAML, _agent_yaml(agent)), (ENV_YAML, _env_yaml(agent, spawns[0]))):
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    networks = [network for network in (agent.denoiser, agent.upsampler) if network is not None]
    frames = max(network.inner_model.num_steps_conditioning for network in networks)
    for index, spawn in enumerate(spawns):
        _write_spawn(out / "spawn" / str(index), spawn, frames)
    (out / CHECKPOINT).parent.mkdir()
    torch.save(random_weights(agent, seed), out / CHECKPOINT)
    return out


def random_weights(agent: AgentConfig, seed: int) -> dict[str, torch.Tensor]:
    """A state dict of these sizes: matrices N(0, 1/fan_in), offsets near 0, norm scales near 1."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, size in empty_agent(agent).state_dict().items():
        values = torch.randn(size.shape, generator=generator)
        if name.endswith("bias"):
            values *= _OFFSET_STD
        elif ".norm.weight" in name:
            values.mul_(_NORM_STD).add_(1)
        elif size.ndim > 1 and "_emb." not in name:  # embeddings and Fourier frequencies are N(0, 1)
            values /= math.sqrt(size[0].numel())
        weights[name] = values
    return weights


def random_spawns(sizes: Sizes, space: ActionSpace, count: int, seed: int) -> list[Spawn]:
    """Fields of colour that slide, with an idle history and random actions to come."""
    random = np.random.default_rng(seed)
    spawns = []
    for _ in range(count):
        frames = max(sizes.denoiser_history, sizes.upsampler_history or 0)
        colours = random.integers(0, 256, (3, 4, CHANNELS))
        large = sizes.full_res or sizes.low_res
        pictures = np.stack([_picture(colours, large, shift) for shift in range(frames)])
        factor = large[0] // sizes.low_res[0]
        small = pictures.reshape(frames, CHANNELS, sizes.low_res[0], factor, sizes.low_res[1], factor)
        actions = [
            space.encode(
                Action([key for key in space.keys if random.random() < 0.2], mouse_dx=random.normal() * 50)
            )
            for _ in range(NEXT_ACTIONS)
        ]
        spawns.append(
            Spawn(
                low_res=small.mean((3, 5)).astype(np.uint8),
                full_res=None if sizes.full_res is None else pictures,
                actions=np.tile(space.idle(), (frames, 1)),
                next_actions=np.stack(actions),
            )
        )
    return spawns


def _picture(colours: Any, size: tuple[int, int], shift: int) -> Any:
    """A smooth field of colours, uint8 (3, H, W)."""
    y, x = (np.linspace(0, 2 * np.pi, side)[:, None, None] for side in size)
    x = x.transpose(1, 0, 2) + 0.1 * shift
    waves = [np.sin((k + 1) * x + k * y) * colours[i, k] for i in range(3) for k in range(4)]
    return (np.mean(waves, axis=0) * 2 + 128).clip(0, 255).astype(np.uint8).transpose(2, 0, 1)


def _write_spawn(folder: Path, spawn: Spawn, frames: int) -> None:
    arrays = {
        "low_res": _repeat_first(spawn.low_res, frames),
        "act": _repeat_first(spawn.actions.astype(np.uint8), frames),
        "next_act": spawn.next_actions.astype(np.uint8),
    }
    if spawn.full_res is not None:
        arrays["full_res"] = _repeat_first(spawn.full_res, frames)
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def _repeat_first(array: Any, frames: int) -> Any:
    return np.concatenate([array[:1].repeat(max(0, frames - len(array)), axis=0), array])


def _agent_yaml(agent: AgentConfig) -> dict[str, Any]:
    """As published, with the `_target_` names that the original needs."""

    def network(config: DenoiserConfig) -> dict[str, Any]:
        inner = asdict(config.inner_model)
        if inner.pop("patch_size") != 1:
            raise DiamondError(
                "a network over patches", "one over pixels: the published layout knows no other"
            )
        inner |= {name: [int(v) for v in inner[name]] for name in ("depths", "channels", "attn_depths")}
        return {
            "_target_": "models.diffusion.DenoiserConfig",
            "sigma_data": config.sigma_data,
            "sigma_offset_noise": config.sigma_offset_noise,
            "noise_previous_obs": config.noise_previous_obs,
            "upsampling_factor": config.upsampling_factor,
            "inner_model": {"_target_": "models.diffusion.InnerModelConfig", **inner},
        }

    return {
        "_target_": "agent.AgentConfig",
        "denoiser": network(agent.denoiser),
        "upsampler": None if agent.upsampler is None else network(agent.upsampler),
        "rew_end_model": None,
        "actor_critic": None,
    }


def _env_yaml(agent: AgentConfig, spawn: Spawn) -> dict[str, Any]:
    shown = spawn.low_res if spawn.full_res is None else spawn.full_res
    return {
        "train": {"id": "csgo", "size": list(shown.shape[2:])},
        "num_actions": agent.num_actions,
        "path_data_low_res": None,
        "path_data_full_res": None,
        "keymap": "csgo",
    }


@app.command()
def make(
    out: Annotated[Path, typer.Option(help="directory of the release to write")],
    recipe: Annotated[str, typer.Option(help="whose sizes: csgo (full size), tiny")] = "csgo",
    low_res: Annotated[str, typer.Option(help="height x width of the denoiser's frames")] = "30x56",
    spawns: Annotated[int, typer.Option(help="how many places to start from", min=1)] = 2,
    spawns_from: Annotated[
        str | None, typer.Option(help="copy the spawns of this world, by name or directory")
    ] = None,
    seed: Annotated[int, typer.Option(help="of weights and pictures")] = 0,
) -> None:
    """Make a release of random weights."""
    agent = find_recipe(recipe).agent
    if spawns_from is None:
        sizes = sizes_of(agent, low_res)
        places = random_spawns(sizes, action_space(agent.num_actions), spawns, seed)
    else:
        bundle = Bundle.open(resolve(spawns_from))
        places = [bundle.spawn(index) for index in range(len(bundle.manifest.spawns))]
    write_release(out, agent, places, seed)
    read_release(out).spawns()  # a world's spawns may not fit a recipe's networks
    size_bytes = (out / CHECKPOINT).stat().st_size
    print(f"{out}: {len(places)} spawns, weights of {size_bytes / 1e9:.2f} GB")


def sizes_of(agent: AgentConfig, low_res: str) -> Sizes:
    """The sizes of a recipe's world at "30x56".

    Raises:
        DiamondError: not two numbers.
    """
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", low_res)
    if match is None:
        raise DiamondError(f"--low-res {low_res}", "height x width, such as 30x56")
    height, width = int(match[1]), int(match[2])
    upsampler = agent.upsampler
    factor = None if upsampler is None else upsampler.upsampling_factor
    return Sizes(
        low_res=(height, width),
        full_res=None if factor is None else (height * factor, width * factor),
        denoiser_history=agent.denoiser.inner_model.num_steps_conditioning,
        upsampler_history=None if upsampler is None else upsampler.inner_model.num_steps_conditioning,
        action_size=agent.num_actions,
    )


if __name__ == "__main__":
    run_cli(app)
