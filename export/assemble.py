"""Puts a world together: graphs, spawns, notices and manifest, through the parity gate, into one bundle.

Everything happens in a temporary directory beside the bundle's place. Only a bundle that has passed the gate is
moved there; whatever was there before stays until then. Knows nothing of training runs: it is given a `WorldParts`.
"""

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.actions import ActionSpace
from engine.bundle import write_bundle
from engine.player.recording import Recording
from engine.schedule import SamplerConfig
from engine.spawn import Spawn
from export.graphs import world_graphs
from export.onnx import export_graph, tensor_specs
from export.options import Say
from export.report import Gates, report_bytes, summary
from export.verify import check_parity
from export.workplace import workplace
from train.model import Agent, DenoiserConfig

PRECISION = "fp32"  # what a world is made in first; others are made from its graphs, see export.add_precision
HORIZON_FRAMES = 1000  # rollouts of these models drift; a player starts over after this many


@dataclass(frozen=True)
class WorldParts:
    """All that a bundle is made of.

    Attributes:
        agent: the networks, in evaluation mode on the CPU.
        name, title, fps, action_space, presets, default_preset: as in world.json.
        low_res: (height, width) of the denoiser's frames.
        spawns: where play can start.
        demo: actions to show the world with, from spawn 0.
        texts: further files by name in the bundle, such as a licence.
        made_by: free record of the world's origin.
    """

    agent: Agent
    name: str
    title: str
    fps: float
    low_res: tuple[int, int]
    action_space: ActionSpace
    presets: Mapping[str, Mapping[str, SamplerConfig | None]]
    default_preset: str
    spawns: tuple[Spawn, ...]
    demo: Recording | None = None
    texts: Mapping[str, bytes] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)


def build_bundle(parts: WorldParts, out: Path, gates: Gates | None = None, say: Say | None = None) -> Path:
    """Exports, verifies and writes a world, in fp32.

    Args:
        parts: the world.
        out: the bundle's directory; an existing bundle there is replaced at the very end.
        gates: how far it may be from PyTorch.
        say: takes one line of progress at a time.

    Returns:
        `out`.

    Raises:
        DiamondError: the gate failed, or the disk refuses; `out` is then as it was.
    """
    say = say or (lambda line: None)
    with workplace(out) as folder:
        files: dict[str, Path | bytes] = dict(parts.texts)
        graphs: dict[str, Any] = {}
        for definition in world_graphs(parts.agent, parts.low_res):
            began = time.perf_counter()
            name = f"{PRECISION}/{definition.role}.onnx"
            written = export_graph(definition, folder / name)
            files |= {f"{PRECISION}/{path.name}": path for path in written}
            graphs[definition.role] = {"file": name, **_tensors(folder / name)}
            megabytes = sum(path.stat().st_size for path in written) / 1e6
            say(f"{name}: {megabytes:.1f} MB in {time.perf_counter() - began:.1f} s")
        for index, spawn in enumerate(parts.spawns):
            files[f"spawns/{index}.npz"] = spawn_bytes(spawn)
        if parts.demo is not None:
            parts.demo.save(folder / "demo.npz")
            files["actions/demo.npz"] = folder / "demo.npz"

        manifest = _manifest(parts, {PRECISION: graphs})
        say("parity gate: comparing with PyTorch")
        candidate = write_bundle(folder / "candidate", manifest, files, take=True)
        report = check_parity(candidate, parts.agent, PRECISION, gates)
        for line in summary(report):
            say(f"  {line}")
        files[f"{PRECISION}/parity.json"] = report_bytes(report)
        files = {
            name: source if isinstance(source, bytes) else candidate / name for name, source in files.items()
        }
        return write_bundle(out, manifest, files, take=True)


def spawn_bytes(spawn: Spawn) -> bytes:
    """A spawn as the bundle keeps it: npz, frames and actions as uint8."""
    arrays: dict[str, Any] = {
        "low_res": spawn.low_res,
        "actions": spawn.actions.astype(np.uint8),
        "next_actions": spawn.next_actions.astype(np.uint8),
    }
    if spawn.full_res is not None:
        arrays["full_res"] = spawn.full_res
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _tensors(path: Path) -> dict[str, Any]:
    inputs, outputs = tensor_specs(path)
    return {"inputs": inputs, "outputs": outputs}


def _manifest(parts: WorldParts, graphs: Mapping[str, Any]) -> dict[str, Any]:
    denoiser = parts.agent.cfg.denoiser
    upsampler = parts.agent.cfg.upsampler
    factor = None if upsampler is None else upsampler.upsampling_factor

    def history(network: DenoiserConfig | None) -> int | None:
        return None if network is None else network.inner_model.num_steps_conditioning

    return {
        "name": parts.name,
        "title": parts.title,
        "fps": parts.fps,
        "low_res": list(parts.low_res),
        "full_res": None if factor is None else [side * factor for side in parts.low_res],
        "history": {"denoiser": history(denoiser), "upsampler": history(upsampler)},
        "action_space": parts.action_space.to_json(),
        "architecture": {
            "denoiser": denoiser.to_json(),
            "upsampler": None if upsampler is None else upsampler.to_json(),
        },
        "presets": {
            name: {network: None if cfg is None else cfg.to_json() for network, cfg in preset.items()}
            for name, preset in parts.presets.items()
        },
        "default_preset": parts.default_preset,
        "horizon": HORIZON_FRAMES,
        "graphs": graphs,
        "spawns": [f"spawns/{index}.npz" for index in range(len(parts.spawns))],
        "actions": {} if parts.demo is None else {"demo": "actions/demo.npz"},
        "made_by": {"diamond_engine": _own_version(), "torch": torch.__version__, **parts.made_by},
    }


def _own_version() -> str:
    try:
        return version("diamond-engine")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "not installed"
