"""What tests of backends in several precisions share: a small world typed, an evaluation, a rollout, how far apart."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.actions import Action
from engine.backends.base import Backend
from engine.bundle import Bundle, write_bundle
from engine.world import World


def write_typed_bundle(bundle: Path, out: Path, precisions: tuple[str, ...]) -> Path:
    """The world with graphs in these precisions as well. Needs onnx."""
    import onnx

    from export.typed import make_typed

    document = json.loads((bundle / "world.json").read_text())
    files: dict[str, Path | bytes] = {name: bundle / name for name in document.pop("files")}
    for precision in precisions:
        document["graphs"][precision] = {}
        for role, entry in document["graphs"]["fp32"].items():
            model = onnx.load(bundle / entry["file"])
            make_typed(model, precision)
            name = f"{precision}/{role}.onnx"
            files[name] = model.SerializeToString()
            document["graphs"][precision][role] = {**entry, "file": name}
    return write_bundle(out, document, files)


def evaluate(backend: Backend, bundle: Path, precision: str, role: str) -> npt.NDArray[np.float32]:
    """One evaluation of a network on fixed random inputs, called with arrays."""
    graph = backend.load(Bundle.open(bundle, verify=False).graph(precision, role))
    rng = np.random.default_rng(3)
    inputs = {
        name: rng.normal(0, 0.5, tensor.shape).astype(np.float32)  # type: ignore[arg-type]
        for name, tensor in sorted(graph.spec.inputs.items())
    }
    inputs["coefficients"][:] = 0.8, 0.3, 0.6
    return graph.run(inputs)["denoised"].copy()


def rollout(world: World, frames: int) -> list[npt.NDArray[np.uint8]]:
    """Walks ahead, turning right; closes the world."""
    with world:
        world.reset(0)
        return [world.step(Action({"w"}, mouse_dx=30)).rgb.copy() for _ in range(frames)]


def worst_db(ours: list[npt.NDArray[np.uint8]], theirs: list[npt.NDArray[np.uint8]]) -> float:
    """PSNR of the worst frame, dB."""
    pairs = zip(ours, theirs, strict=True)
    error = max(float(((one.astype(float) - other) ** 2).mean()) for one, other in pairs)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
