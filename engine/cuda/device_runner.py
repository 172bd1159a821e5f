"""What a GPU backend returns from `Backend.frame_runner`: its graphs, inside whole frames."""

from collections.abc import Callable

from engine.bundle import Bundle
from engine.cuda.enqueued import DeviceGraph
from engine.cuda.frame_graph import FrameGraph
from engine.cuda.runtime import Cuda
from engine.graphs import GraphSpec, roles
from engine.noise import NoiseSource
from engine.program.program_runner import ProgramRunner
from engine.runner import FrameRunner, Samplers


def device_runner(
    cuda: Cuda,
    load: Callable[[GraphSpec], DeviceGraph],
    bundle: Bundle,
    precision: str,
    samplers: Samplers,
    noise: NoiseSource,
    cuda_graph: bool,
) -> FrameRunner:
    """Loads a world's graphs and captures its frame.

    Args:
        cuda: the device.
        load: loads one graph; the runner closes it.
        bundle, precision, samplers, noise, cuda_graph: as in `Backend.frame_runner`.

    Raises:
        DiamondError: a graph cannot be loaded or captured, or the GPU's memory does not suffice.
    """
    specs = {role: bundle.graph(precision, role) for role in roles(bundle.manifest.sizes)}
    graphs: dict[str, DeviceGraph] = {}
    try:
        for role, spec in specs.items():
            graphs[role] = load(spec)
        executor = FrameGraph(cuda, graphs, cuda_graph)
    except BaseException:
        for graph in graphs.values():
            graph.close()
        raise
    return ProgramRunner(executor, specs, bundle.manifest.noise, samplers, noise)
