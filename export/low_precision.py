"""The fp16 or bf16 graphs of a world: each fp32 graph typed, checked, read back and written, one after another."""

import time
from collections.abc import Callable
from pathlib import Path

import onnx

from engine.bundle import Bundle
from export.emulated import emulate
from export.layer_types import layer_types, require_layers, typed_layers
from export.new_graphs import NewGraphs
from export.onnx_file import save
from export.typed import make_typed


def make_low(bundle: Bundle, precision: str, folder: Path, say: Callable[[str], None]) -> NewGraphs:
    """Makes them in `folder`, for the bundle and for verification.

    Raises:
        DiamondError: a weight out of the type's range, or layers of another type than asked for.
    """
    names: dict[str, str] = {}
    files: dict[str, Path] = {}
    played: dict[str, Path] = {}
    layers: dict[str, dict[str, int]] = {}
    for role in bundle.manifest.graphs["fp32"]:
        began = time.perf_counter()
        model = onnx.load(bundle.graph("fp32", role).path)
        expected = typed_layers(layer_types(model), precision)
        make_typed(model, precision)
        onnx.checker.check_model(model, full_check=True)
        names[role] = f"{precision}/{role}.onnx"
        written = save(model, folder / names[role])
        files |= {f"{precision}/{path.name}": path for path in written}

        model = onnx.load(written[0])  # from here on, what is delivered
        layers[role] = layer_types(model)
        require_layers(f"{precision} {role}", layers[role], expected)
        emulate(model)
        played[role] = folder / "emulated" / names[role]
        save(model, played[role])
        megabytes = sum(path.stat().st_size for path in written) / 1e6
        say(f"{names[role]}: {megabytes:.1f} MB in {time.perf_counter() - began:.1f} s")
    return NewGraphs(
        names,
        files,
        played,
        f"{precision} emulated: each operator in fp32 from rounded values, its result rounded",
        {"layers": layers},
    )
