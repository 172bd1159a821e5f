"""What one precision of a world paints: single evaluations of its networks, and rollouts through the engine.

Everything is keyed to the same spawns, actions and named noise, so that two precisions can be compared value by value.
Graphs are loaded as few at a time as possible: the published world's are 1.5 GB. Knows no PyTorch and no gates.
"""

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.backends import open_backend
from engine.backends.base import Backend
from engine.bundle import Bundle
from engine.frame import to_signed
from engine.graphs import CHANNELS, GraphSpec, Network
from engine.noise import SeededNoise
from engine.schedule import Preconditioning
from engine.world import World
from export.onnx_file import expose, spec_of
from export.report import SEED, SIGMAS, SPAWNS_COMPARED, recorded_then_idle

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Candidate(Bundle):
    """A bundle whose fp32 graphs stand for any precision, some of them replaced by other files."""

    replaced: Mapping[str, Path] = field(default_factory=dict)  # role -> file

    def graph(self, precision: str, role: str) -> GraphSpec:
        """The graph to load, with the tensors of the fp32 one, as the contract demands."""
        spec = super().graph("fp32", role)
        return dataclasses.replace(spec, precision=precision, path=self.replaced.get(role, spec.path))


def candidate(bundle: Bundle, replaced: Mapping[str, Path]) -> Candidate:
    """The bundle with graphs replaced, by role."""
    return Candidate(bundle.path, bundle.manifest, bundle.digest, replaced)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a network: float32 (1, 3, H, W), the raw output and the quantised prediction."""

    sigma: float
    raw: Floats
    denoised: Floats


@dataclass(frozen=True)
class Painted:
    """All that is compared.

    Attributes:
        runtime: what ran it, for people.
        evaluations: network -> one per noise level of `SIGMAS`.
        preset: of the rollouts.
        rollouts: one per spawn, its frames as size ("low_res", "full_res") -> uint8 (H, W, 3).
    """

    runtime: str
    evaluations: Mapping[Network, list[Evaluation]]
    preset: str
    rollouts: list[list[Mapping[str, Pixels]]]


def open_ort() -> Backend:
    """ONNX Runtime on the CPU, which every precision is verified with, by its own graphs."""
    backend = open_backend("ort")
    backend.computes_from = {}
    return backend


def paint(bundle: Bundle, precision: str, frames: int, folder: Path) -> Painted:
    """Evaluates and plays one precision, with temporary copies of graphs in `folder`.

    Raises:
        DiamondError: a graph can't be run, or paints NaN during play.
    """
    runtime = open_ort()
    try:
        evaluations = {
            name: evaluate(bundle, precision, name, runtime, folder) for name in bundle.manifest.noise
        }
        described = runtime.describe()
    finally:
        runtime.close()
    with World(bundle, open_ort(), precision, seed=SEED) as world:
        spawns = range(min(SPAWNS_COMPARED, world.spawn_count))
        rollouts = [play(world, spawn, frames) for spawn in spawns]
        return Painted(described, evaluations, world.preset, rollouts)


def play(world: World, spawn: int, frames: int) -> list[Mapping[str, Pixels]]:
    """The frames after a spawn under its recorded actions."""
    world.reset(spawn)
    painted: list[Mapping[str, Pixels]] = []
    for action in recorded_then_idle(world.bundle.spawn(spawn), world.action_space, frames):
        frame = world.step(action)
        sizes = {"low_res": frame.low_res}
        painted.append(sizes if world.manifest.sizes.full_res is None else {**sizes, "full_res": frame.rgb})
    return painted


def evaluate(
    bundle: Bundle, precision: str, name: Network, runtime: Backend, folder: Path
) -> list[Evaluation]:
    """The newest frame of spawn 0 with noise of each level, denoised."""
    manifest, spawn = bundle.manifest, bundle.spawn(0)
    low_res = to_signed(spawn.low_res).reshape(1, -1, *manifest.sizes.low_res)
    newest = np.ascontiguousarray(low_res[:, -CHANNELS:])
    clean, history, more = newest, low_res, {}
    if name == "upsampler":
        assert spawn.full_res is not None
        assert manifest.sizes.full_res is not None
        history = to_signed(spawn.full_res).reshape(1, -1, *manifest.sizes.full_res)
        clean, more = history[:, -CHANNELS:], {"low_res": newest}

    scales = manifest.noise[name]
    pre = Preconditioning(scales.sigma_data, scales.sigma_offset_noise)
    config = getattr(manifest.presets[manifest.default_preset], name)
    levels = {
        "c_noise": np.array([pre.c_noise(sigma) for sigma in SIGMAS], np.float32),
        "c_noise_cond": np.full(len(SIGMAS), pre.c_noise_cond(config.s_cond), np.float32),
    }
    conditioner = runtime.load(bundle.graph(precision, f"{name}_conditioner"))
    if "action" in conditioner.spec.inputs:
        levels["action"] = spawn.actions[None]
    modulation = np.array(conditioner.run(levels)["modulation"])
    conditioner.close()

    spec = bundle.graph(precision, name)
    with tempfile.TemporaryDirectory(dir=folder) as copies:
        exposed = _expose_raw(spec, Path(copies))
        graph = runtime.load(exposed)
        rows = []
        for index, sigma in enumerate(SIGMAS):
            draw = SeededNoise(SEED).normal(f"{name}/parity", clean.shape, index)
            inputs = {
                "x": clean + np.float32(sigma) * draw,
                "history": history,
                "modulation": modulation[index : index + 1],
                "coefficients": np.array([pre.c_in(sigma), pre.c_skip(sigma), pre.c_out(sigma)], np.float32),
                **more,
            }
            zeros = {
                other: np.zeros([axis or 1 for axis in tensor.shape], tensor.dtype)
                for other, tensor in spec.inputs.items()
                if other not in inputs
            }
            got = graph.run({**zeros, **inputs})
            rows.append(Evaluation(sigma, got["raw"].astype(np.float32), np.array(got["denoised"])))
        graph.close()
    return rows


def _expose_raw(spec: GraphSpec, folder: Path) -> GraphSpec:
    exposed = folder / spec.path.name
    expose(spec.path, ("raw",), exposed)
    return spec_of(exposed, spec.role, spec.precision)
