"""Before the published world is played for the first time: has diamond-export make it, in a process of its own.

The player imports neither the exporter nor torch, and the memory that a conversion takes is free again when it ends.
Later starts need neither the network nor torch.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from engine import native
from engine.accelerator import found_accelerator
from engine.catalog import PUBLISHED, is_here, own_world
from engine.errors import DiamondError

EXPORTER = "export.cli"


def make_published(release: Path | None, offline: bool, precision: str | None) -> None:
    """Makes the published world where it is not there yet; the exporter says what it does, and why it fails.

    Args:
        release: the release's directory; None for a download from the hub.
        offline: open no connection.
        precision: graphs to make beside the fp32 ones.

    Raises:
        SystemExit: the exporter failed and has said why; with its exit code.
    """
    if is_here(PUBLISHED) and release is None:
        return
    if not is_here(PUBLISHED):
        print(f"{PUBLISHED}: not on this machine yet; making it once, in {own_world(PUBLISHED)}", flush=True)
    options = [*(["--release", str(release)] if release else []), *(["--offline"] if offline else [])]
    if precision not in (None, "fp32"):
        options += ["--precision", str(precision)]
    code = run_exporter([PUBLISHED, *options])
    if code:
        sys.exit(code)


def graphs_needed(backend: str, precision: str | None) -> str | None:
    """The precision to make graphs in; None where the backend to be used computes it from the fp32 ones."""
    on_cpu = backend == "ort" or (backend == "auto" and not found_accelerator())
    return None if on_cpu and precision in native.PRODUCTS and native.kernels(precision) else precision


def run_exporter(arguments: Sequence[str]) -> int:
    """Runs diamond-export with this Python; returns its exit code. Ctrl-C reaches it, too: it cleans up and ends."""
    process = subprocess.Popen([sys.executable, "-m", EXPORTER, *arguments], env=os.environ | _path())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def _path() -> dict[str, str]:
    """The exporter is found where this package is, also in a checkout that is not installed."""
    here = str(Path(__file__).resolve().parents[2])
    return {"PYTHONPATH": os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))}


def require_published(world: str, release: Path | None, offline: bool) -> None:
    """Checks that options of the published world are not given with another.

    Raises:
        DiamondError: they are.
    """
    for option, given in (("--release", release is not None), ("--offline", offline)):
        if given and world != PUBLISHED:
            raise DiamondError(f"{option} with the world {world!r}", f"{option} with {PUBLISHED}")
