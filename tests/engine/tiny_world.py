"""A tiny world on disk, of the golden networks' sizes, whose graphs are stand-ins that only the doubles can load."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.actions import KEYBOARD_MOUSE_51
from engine.graphs import Sizes, Tensors, roles, signature
from engine.manifest import SCHEMA
from engine.schedule import SamplerConfig

GOLDEN = Path(__file__).parents[1] / "golden"
INFO: dict[str, Any] = json.loads((GOLDEN / "tiny.json").read_text())
CONFIG: dict[str, Any] = INFO["config"]
MODULATION: int = CONFIG["denoiser"]["cond_channels"]

TINY = Sizes((14, 20), (70, 100), denoiser_history=4, upsampler_history=1, action_size=51)
TINY_LOW_RES = Sizes((14, 20), None, denoiser_history=4, upsampler_history=None, action_size=51)
PUBLISHED = Sizes((30, 56), (150, 280), denoiser_history=4, upsampler_history=1, action_size=51)


def golden_sampler(case: str) -> SamplerConfig:
    """The settings of a published sampler case."""
    settings = dict(INFO["cases"][case])
    return SamplerConfig.from_json(
        settings | {"steps": settings.pop("num_steps_denoising"), "initial_std": 1.0}
    )


def tensors_json(tensors: Tensors) -> dict[str, Any]:
    return {name: {"dtype": spec.dtype, "shape": list(spec.shape)} for name, spec in tensors.items()}


def world_json(sizes: Sizes = TINY, precisions: tuple[str, ...] = ("fp32",)) -> dict[str, Any]:
    """A world.json without "files", as `write_bundle` takes it."""
    noise = {"sigma_data": 0.5, "sigma_offset_noise": 0.1}
    upsampled = sizes.full_res is not None
    fast = golden_sampler("sample_denoiser_euler1").to_json()
    fast_upsampler = golden_sampler("sample_upsampler_fast").to_json()
    quality = golden_sampler("sample_denoiser_heun3").to_json()
    quality_upsampler = golden_sampler("sample_upsampler_heun2").to_json()
    graphs: dict[str, Any] = {}
    for precision in precisions:
        graphs[precision] = {}
        for role in roles(sizes):
            inputs, outputs = signature(role, sizes, MODULATION)
            graphs[precision][role] = {
                "file": f"{precision}/{role}.onnx",
                "inputs": tensors_json(inputs),
                "outputs": tensors_json(outputs),
            }
    return {
        "schema": SCHEMA,
        "name": "tiny",
        "title": "A tiny world",
        "fps": 10.0,
        "low_res": list(sizes.low_res),
        "full_res": list(sizes.full_res) if sizes.full_res else None,
        "history": {"denoiser": sizes.denoiser_history, "upsampler": sizes.upsampler_history},
        "action_space": KEYBOARD_MOUSE_51.to_json(),
        "architecture": {
            "denoiser": noise,
            "upsampler": {**noise, "upsampling_factor": 5} if upsampled else None,
        },
        "presets": {
            "fast": {"denoiser": fast, "upsampler": fast_upsampler if upsampled else None},
            "quality": {"denoiser": quality, "upsampler": quality_upsampler if upsampled else None},
        },
        "default_preset": "fast",
        "horizon": 1000,
        "graphs": graphs,
        "spawns": ["spawns/0.npz", "spawns/1.npz"],
        "actions": {},
        "made_by": {"diamond_engine": "0.1.0", "source": "tests"},
    }


def spawn_arrays(sizes: Sizes, seed: int) -> dict[str, npt.NDArray[np.uint8]]:
    """Random frames, idle actions, and `seed` next actions."""
    random = np.random.default_rng(seed)
    idle = KEYBOARD_MOUSE_51.idle().astype(np.uint8)
    arrays = {
        "low_res": random.integers(0, 256, (sizes.denoiser_history, 3, *sizes.low_res), np.uint8),
        "actions": np.tile(idle, (sizes.denoiser_history, 1)),
        "next_actions": np.tile(idle, (seed, 1)),
    }
    if sizes.full_res is not None and sizes.upsampler_history is not None:
        arrays["full_res"] = random.integers(0, 256, (sizes.upsampler_history, 3, *sizes.full_res), np.uint8)
    return arrays


def npz_bytes(path: Path, **arrays: Any) -> bytes:
    """The bytes of an npz; `path` is a scratch file."""
    np.savez_compressed(path, **arrays)
    return path.read_bytes()


def world_files(scratch: Path, manifest: Mapping[str, Any], sizes: Sizes = TINY) -> dict[str, Path | bytes]:
    """Files for `write_bundle`; the graphs are stand-ins that only the doubles can load."""
    graphs = [graph["file"] for graphs in manifest["graphs"].values() for graph in graphs.values()]
    files: dict[str, Path | bytes] = {name: name.encode() for name in graphs}
    for index, name in enumerate(manifest["spawns"]):
        files[name] = npz_bytes(scratch / "spawn.npz", **spawn_arrays(sizes, index))
    return files


def edit(world: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the world.json of a world in place."""
    document = json.loads((world / "world.json").read_text())
    change(document)
    (world / "world.json").write_text(json.dumps(document))


def put(world: Path, name: str, content: bytes) -> None:
    """Replaces a file of a world, and its entry in world.json, so that only its content can be wrong."""
    (world / name).write_bytes(content)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit(world, lambda document: document["files"].update({name: entry}))
