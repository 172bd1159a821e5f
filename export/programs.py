"""Programs of PyTorch of a world's graphs, compiled for this machine by the engine, kept where it looks for them.

A compiled program belongs to one CPU or GPU, so none goes into the bundle.
"""

from collections.abc import Sequence
from pathlib import Path

from engine.bundle import Bundle
from engine.own_files import OwnFiles
from engine.space import size_text
from engine.torch_graph.device import Device
from engine.torch_graph.programs import Programs
from export.options import Say


def make_programs(world: Path, precisions: Sequence[str], force: bool, say: Say) -> OwnFiles:
    """Has a compiled program kept for every graph of a world in these precisions.

    Args:
        force: compile even those that are there already.
        say: takes one line of progress at a time.

    Returns:
        Where they are.

    Raises:
        DiamondError: no PyTorch, no compiler, or a graph that it refuses.
    """
    bundle, programs = Bundle.open(world, verify=False), Programs(Device(), say=say)
    for precision in dict.fromkeys(precisions):
        for role in bundle.manifest.graphs[precision]:
            programs.make(bundle.graph(precision, role), force)
    say(f"{programs.files.folder}: {size_text(programs.files.size_bytes())} of programs")
    return programs.files
