"""The int8 graphs of a world, for CPUs: static QDQ, calibrated on the world's own play, sensitive layers kept in fp32.

Conditioners stay fp32, so the int8 world points to the fp32 files. The first and the last convolution of a network are
always kept; further ones as `export.sensitivity` measures. Where its native operators multiply bytes, the backend `ort`
plays in int8 without these graphs (docs/native.md).
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx

from engine.backends.ort import OrtBackend
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.graphs import GraphSpec
from export.calibration import Inputs, measure_ranges, record_inputs, thinned
from export.layer_types import layer_types, require_layers
from export.new_graphs import NewGraphs
from export.onnx_file import save, spec_of
from export.quantise import Ranges, convolutions, quantise
from export.sensitivity import add_twins, keep_worst, output_errors

BUDGETS = {"denoiser": 0.2, "upsampler": 0.4}  # error of a prediction, in grey levels, that 8 bits may cause
SAMPLES = 4  # evaluations that every layer's error is measured with

Say = Callable[[str], None]


def make_int8(bundle: Bundle, precision: str, folder: Path, say: Say) -> NewGraphs:
    """Makes them in `folder`; `precision` is what the bundle calls them.

    Raises:
        DiamondError: no layer of a network bears 8 bits, or layers of another type than asked for.
    """
    say(f"{precision}: recording what the networks read while the world plays")
    recorded = record_inputs(bundle)
    names = {role: entry.file for role, entry in bundle.manifest.graphs["fp32"].items()}
    files: dict[str, Path] = {}
    played: dict[str, Path] = {}
    layers: dict[str, dict[str, int]] = {}
    kept: dict[str, Any] = {}
    for role, inputs in recorded.items():
        began = time.perf_counter()
        spec = bundle.graph("fp32", role)
        graph = onnx.load(spec.path, load_external_data=False).graph
        candidates = [node.name for node in convolutions(graph)]
        tensors = dict.fromkeys(
            name for node in convolutions(graph) for name in (node.input[0], node.output[0])
        )
        ranges = measure_ranges(spec, list(tensors), inputs, folder)
        errors = measure_errors(spec, ranges, candidates[1:-1], thinned(inputs, SAMPLES), folder)
        worst = keep_worst(errors, BUDGETS[role])
        chosen = [name for name in errors if name not in worst]
        if not chosen:
            raise DiamondError(
                f"{role}: no convolution can run in 8 bits within {BUDGETS[role]:g} grey levels",
                "some layers that bear it",
                "play this world in fp32",
            )
        weights = {node.name: node.input[1] for node in convolutions(graph)}
        always = [candidates[0], candidates[-1]]
        kept[role] = {weights[name]: errors.get(name) for name in [*always, *worst]}

        model = quantise(onnx.load(spec.path), ranges, chosen)
        onnx.checker.check_model(model, full_check=True)
        names[role] = f"{precision}/{role}.onnx"
        written = save(model, folder / names[role])
        files |= {f"{precision}/{path.name}": path for path in written}
        played[role] = folder / names[role]
        layers[role] = layer_types(onnx.load(played[role]))
        expected = layer_types(onnx.load(spec.path)) | {
            "Conv int8": len(chosen),
            "Conv fp32": len(candidates) - len(chosen),
        }
        require_layers(f"{precision} {role}", layers[role], expected)
        megabytes = sum(path.stat().st_size for path in written) / 1e6
        say(
            f"{names[role]}: {len(chosen)} of {len(candidates)} convolutions in 8 bits, {megabytes:.1f} MB "
            f"in {time.perf_counter() - began:.1f} s"
        )
    notes = {"layers": layers, "kept_fp32": kept, "budget_grey_levels": BUDGETS}
    return NewGraphs(names, files, played, precision, notes)


def measure_errors(
    spec: GraphSpec, ranges: Ranges, names: Sequence[str], inputs: Sequence[Inputs], folder: Path
) -> dict[str, float]:
    """Error of a network's raw output when one of its convolutions alone runs in 8 bits, by convolution."""
    quantised = quantise(onnx.load(spec.path), ranges, names)
    model = onnx.load(spec.path)
    add_twins(model, quantised, names)
    del quantised
    path = folder / "twins" / spec.path.name
    save(model, path)
    del model
    backend = OrtBackend()
    try:
        graph = backend.load(spec_of(path, spec.role))
        return output_errors(lambda sample: graph.run(sample)["raw"].copy(), names, inputs)
    finally:
        backend.close()
        shutil.rmtree(path.parent)
