"""Gives a world more precisions, made from its own fp32 graphs and held against them. No PyTorch, no checkpoint.

One graph is in memory at a time while they are made. Nothing is written to the bundle's place until every asked
precision has passed its gate (`export.precision_gates`); then the bundle is replaced whole.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.bundle import Bundle
from engine.bundle_writer import WORLD_JSON, write_bundle
from engine.errors import DiamondError
from export.int8 import make_int8
from export.low_precision import make_low
from export.new_graphs import NewGraphs
from export.playing import Painted, candidate, paint
from export.precision_gates import GATES, compare, gates_as_json, require_within, summary
from export.report import report_bytes
from export.workplace import workplace

Say = Callable[[str], None]


def add_precisions(bundle_dir: Path, out: Path, precisions: Sequence[str], say: Say) -> Path:
    """Makes graphs of further precisions, verifies them, and writes the world with old and new ones.

    Args:
        bundle_dir: a world with fp32 graphs.
        out: where to write; may be `bundle_dir` itself, and is replaced whole at the very end.
        precisions: of "fp16", "bf16", "int8"; "fp32" is there already. One that the world has is made anew.
        say: takes one line of progress at a time.

    Returns:
        `out`.

    Raises:
        DiamondError: unknown precision, no fp32 graphs, a weight out of range, a gate failed, or the disk refuses;
            `out` is then as it was.
    """
    asked = [name for name in dict.fromkeys(precisions) if name != "fp32"]
    if unknown := [name for name in asked if name not in GATES]:
        raise DiamondError(f"precision {unknown[0]!r}: unknown", f"fp32, {', '.join(GATES)}")
    bundle = Bundle.open(bundle_dir)
    if "fp32" not in bundle.precisions:
        raise DiamondError(
            f"{bundle_dir}: has graphs in {', '.join(bundle.precisions)} only",
            "fp32 graphs, which the other precisions are made from",
            "export the world again with diamond-export",
        )
    with workplace(out) as folder:
        new: dict[str, NewGraphs] = {}
        files: dict[str, Path | bytes] = {}
        if asked:
            frames = max(GATES[name].frames for name in asked)
            say(f"fp32: playing {frames} frames from each of the first spawns, to compare with")
            reference = paint(bundle, "fp32", frames, folder)
        for precision in asked:
            make = make_int8 if precision == "int8" else make_low
            new[precision] = make(bundle, precision, folder, say)
            report = _verify(bundle, precision, new[precision], reference, folder, say)
            files |= new[precision].files
            files[f"{precision}/parity.json"] = report_bytes(report)
        return _write(bundle, out, new, files)


def _verify(
    bundle: Bundle, precision: str, new: NewGraphs, reference: Painted, folder: Path, say: Say
) -> dict[str, Any]:
    """Plays the new graphs and holds them against fp32; returns the report."""
    gates = GATES[precision]
    say(f"{precision}: parity gate: comparing with fp32 over {gates.frames} frames")
    began = time.perf_counter()
    painted = paint(candidate(bundle, new.played), precision, gates.frames, folder)
    report = {
        "reference": f"fp32 graphs of this world on {reference.runtime}",
        "measured": f"{new.arithmetic}, on {painted.runtime}",
        "gates": gates_as_json(gates),
        **new.notes,
        **compare(painted, reference),
    }
    for line in summary(report):
        say(f"  {line}")
    require_within(report, gates, bundle.manifest.name)
    say(f"  passed in {time.perf_counter() - began:.0f} s")
    return report


def _write(
    bundle: Bundle, out: Path, new: Mapping[str, NewGraphs], files: Mapping[str, Path | bytes]
) -> Path:
    """The bundle with the new precisions in place of its old ones of the same names."""
    document = json.loads((bundle.path / WORLD_JSON).read_text(encoding="utf-8"))
    listed = set(document.pop("files"))
    for precision, graphs in new.items():
        tensors = document["graphs"]["fp32"]
        document["graphs"][precision] = {
            role: {**tensors[role], "file": name} for role, name in graphs.names.items()
        }
        listed = {name for name in listed if not name.startswith(f"{precision}/")}
    return write_bundle(out, document, {**{name: bundle.file(name) for name in listed}, **files})
