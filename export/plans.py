"""TensorRT plans of a world's graphs, for the GPU of this machine: built by the engine, kept where it looks for them.

A plan belongs to one GPU, so none goes into the bundle. Where there is no GPU, TensorRT-RTX still builds: that shows
that it takes the graphs, and nothing of how they run.
"""

from collections.abc import Sequence
from pathlib import Path

from engine.bundle import Bundle
from engine.cuda.gpu import Gpu, describe_gpu
from engine.cuda.runtime import Cuda
from engine.errors import DiamondError
from engine.space import size_text
from engine.tensorrt.flavour import Flavour, load_flavour
from engine.tensorrt.network import BuildOptions
from engine.tensorrt.plan_cache import PlanCache
from engine.tensorrt.plans import Plans
from export.options import Say


def make_plans(
    world: Path, precisions: Sequence[str], options: BuildOptions, force: bool, say: Say
) -> PlanCache:
    """Has a plan kept for every graph of a world in these precisions.

    Args:
        options: for those that are built. force: build even those that are there already.
        say: takes one line of progress at a time.

    Returns:
        Where they are.

    Raises:
        DiamondError: no TensorRT, a GPU that it does not run on, or a graph that it refuses.
    """
    flavour = load_flavour()
    bundle, plans = Bundle.open(world, verify=False), Plans(flavour, _gpu(flavour, say), None, options, say)
    for precision in dict.fromkeys(precisions):
        for role in bundle.manifest.graphs[precision]:
            plans.make(bundle.graph(precision, role), force)
    say(f"{plans.cache.folder}: {size_text(plans.cache.size_bytes())} of plans")
    return plans.cache


def _gpu(flavour: Flavour, say: Say) -> Gpu | None:
    """The GPU to build for; None where there is none and TensorRT can do without."""
    try:
        gpu = describe_gpu(Cuda())
    except DiamondError as error:
        if not flavour.is_rtx:
            raise
        say(
            f"{error.what}: building ahead of time, for RTX cards; a machine with one builds its own when it plays"
        )
        return None
    flavour.target(gpu.capability)
    say(f"building for {gpu.name}, compute capability {gpu.capability_text}, driver {gpu.driver}")
    return gpu
