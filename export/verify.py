"""The parity gate: a bundle must paint what PyTorch paints, or it is not delivered.

Two comparisons, both against the networks as they were trained (`export.reference`), from the bundle's own spawns:

1. Single evaluations of each network over the whole range of noise levels: the raw output, in floating point, and
   the quantised prediction, in grey levels.
2. Rollouts of many frames through the engine itself, with the same named noise, since errors feed back.

The gates are in `export.report`. What was measured becomes `parity.json` inside the bundle.
"""

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.backends import open_backend
from engine.backends.base import Backend
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.graphs import CHANNELS, Network
from engine.loading import load_world
from engine.noise import SeededNoise
from engine.spawn import Spawn
from engine.world import World
from export.onnx import expose
from export.reference import rollout, unit_range
from export.report import (
    SEED,
    SIGMAS,
    SPAWNS_COMPARED,
    Gates,
    Report,
    evaluation_row,
    exceeded,
    picture_row,
    recorded_then_idle,
)
from train.model import Agent, Denoiser

ENLARGED_NOISE_STD = 0.05  # on the upsampler's enlarged frame, so that this input is compared too


def check_parity(
    bundle_dir: Path, agent: Agent, precision: str, gates: Gates | None = None, backend: str = "ort"
) -> Report:
    """Compares a bundle on disk with the networks it was made from.

    Returns:
        The report, plain JSON data.

    Raises:
        DiamondError: figures exceed their gates (names the first of them), or a graph can't be run.
    """
    gates = gates or Gates()
    bundle = Bundle.open(bundle_dir)
    runtime = open_backend(backend)
    try:
        report: dict[str, Any] = {
            "reference": f"PyTorch {torch.__version__}, fp32, the networks as trained",
            "measured": f"{precision} on {runtime.describe()}",
            "gates": dataclasses.asdict(gates),
            "evaluations": {
                name: compare_evaluations(bundle, name, getattr(agent, name), precision, runtime)
                for name in bundle.manifest.noise
            },
            "rollouts": [],
        }
    finally:
        runtime.close()
    _require_within(report, gates, bundle)

    with load_world(bundle_dir, backend, precision, seed=SEED) as world:
        spawns = range(min(SPAWNS_COMPARED, world.spawn_count))
        report["rollouts"] = [compare_rollout(world, agent, spawn, gates.rollout_frames) for spawn in spawns]
    _require_within(report, gates, bundle)
    return report


def _require_within(report: Report, gates: Gates, bundle: Bundle) -> None:
    if failures := exceeded(report, gates):
        more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
        raise DiamondError(
            f"parity gate: world {bundle.manifest.name!r}, {report['measured']}, does not paint what PyTorch paints: "
            + "; ".join(failures[:3])
            + more,
            "every figure within its gate",
            "nothing was written. The export or the runtime is at fault, not the weights: report it with this message",
        )


@dataclass(frozen=True)
class _Inputs:
    """What an evaluation is given beside the noisy frame. float32 in [-1, 1], (1, C, H, W).

    `clean` is the frame that noise is added to, `history` the graph's input, `torch_history` what the trained
    network reads in its place, `more` the graph's further inputs.
    """

    clean: Tensor
    history: Tensor
    torch_history: Tensor
    actions: Tensor | None
    more: dict[str, npt.NDArray[np.float32]]


def _inputs(name: Network, network: Denoiser, spawn: Spawn) -> _Inputs:
    low_res = unit_range(spawn.low_res)
    newest = low_res[:, -CHANNELS:]
    if name == "denoiser":
        return _Inputs(newest, low_res, low_res, torch.from_numpy(spawn.actions)[None], {})
    assert spawn.full_res is not None
    full_res = unit_range(spawn.full_res)
    clean = full_res[:, -CHANNELS:]
    noise = ENLARGED_NOISE_STD * SeededNoise(SEED).normal("upsampler/parity_enlarged", tuple(clean.shape), 0)
    enlarged = torch.cat((full_res, network.enlarge(newest) + torch.from_numpy(noise)), dim=1)
    return _Inputs(clean, full_res, enlarged, None, {"low_res": newest.numpy(), "enlarged_noise": noise})


def compare_evaluations(
    bundle: Bundle, name: Network, network: Denoiser, precision: str, backend: Backend
) -> list[dict[str, Any]]:
    """One row of differences per noise level: the newest frame of spawn 0 with that much noise, denoised by both."""
    manifest = bundle.manifest
    inputs = _inputs(name, network, bundle.spawn(0))
    config = getattr(manifest.presets[manifest.default_preset], name)
    sigma_cond = torch.tensor([config.s_cond]) if config.s_cond > 0 else None
    levels = [network.preconditioning(torch.tensor([sigma]), sigma_cond) for sigma in SIGMAS]

    conditioner = backend.load(bundle.graph(precision, f"{name}_conditioner"))
    action = {} if inputs.actions is None else {"action": inputs.actions.numpy()}
    c_noise, c_noise_cond = (torch.cat([pre[i] for pre in levels]).numpy() for i in (-2, -1))
    conditioning = {**action, "c_noise": c_noise, "c_noise_cond": c_noise_cond}
    modulation = conditioner.run(conditioning)["modulation"].copy()

    spec = bundle.graph(precision, name)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        exposed = Path(folder) / spec.path.name
        expose(spec.path, ("raw",), exposed)
        outputs = {**spec.outputs, "raw": spec.outputs["denoised"]}
        graph = backend.load(dataclasses.replace(spec, path=exposed, outputs=outputs))
        for index, (sigma, pre) in enumerate(zip(SIGMAS, levels, strict=True)):
            draw = SeededNoise(SEED).normal(f"{name}/parity", tuple(inputs.clean.shape), index)
            x = inputs.clean + sigma * torch.from_numpy(draw.copy())
            with torch.no_grad():
                raw = network.raw_output(x, inputs.torch_history, inputs.actions, pre)
            denoised = network.quantised_prediction(x, raw, pre, network.origin(inputs.torch_history))
            got = graph.run(
                {
                    **inputs.more,
                    "x": x.numpy(),
                    "history": inputs.history.numpy(),
                    "modulation": modulation[index : index + 1],
                    "coefficients": torch.cat([pre.c_in, pre.c_skip, pre.c_out]).flatten().numpy(),
                }
            )
            rows.append(evaluation_row(sigma, (got["raw"], raw.numpy()), (got["denoised"], denoised.numpy())))
        graph.close()
    return rows


def compare_rollout(world: World, agent: Agent, spawn: int, frames: int) -> dict[str, Any]:
    """Plays what was recorded from a spawn on (then idles) in the engine and in PyTorch, with the same noise."""
    world.reset(spawn)
    start = world.bundle.spawn(spawn)
    actions = recorded_then_idle(start, world.action_space, frames)
    reference = rollout(agent, world.samplers, start, actions, SeededNoise(SEED))
    rows = []
    for action, expected in zip(actions, reference, strict=True):
        frame = world.step(action)
        row = {"low_res": picture_row(frame.low_res, expected.low_res)}
        if expected.full_res is not None:
            row["full_res"] = picture_row(frame.rgb, expected.full_res)
        rows.append(row)
    return {"spawn": spawn, "seed": SEED, "preset": world.preset, "frames": rows}
