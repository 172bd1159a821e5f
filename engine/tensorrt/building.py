"""A graph becomes a plan, or an error says what TensorRT said.

TensorRT 11 times kernels on the GPU it builds for and keeps what it measured in a timing cache. TensorRT-RTX needs no
GPU to build: it compiles kernels when a plan first runs, and keeps those in a runtime cache (`engine.tensorrt.opened`).
"""

import time
from dataclasses import dataclass
from typing import Any

from engine.graphs import GraphSpec
from engine.kept import graph_files
from engine.space import require_memory, size_text
from engine.tensorrt.flavour import Flavour
from engine.tensorrt.network import BuildOptions, configure, parse
from engine.tensorrt.precisions import Types
from engine.tensorrt.progress import Progress, Say, watched

# What a build holds at its peak, a little above what was measured (docs/tensorrt.md): 3.1 to 3.3 times a large graph.
MEMORY_FACTOR = 3.5  # of the graph's bytes
MEMORY_BASE_BYTES = 400_000_000


@dataclass(frozen=True)
class BuiltPlan:
    """A plan fresh from the builder.

    Attributes:
        data: its bytes.
        types: the layers of the network that it was made from.
        build_s: seconds.
        timing_cache: what TensorRT measured, for the next build; None where it keeps nothing.
    """

    data: bytes
    types: Types
    build_s: float
    timing_cache: bytes | None


def build_plan(
    flavour: Flavour,
    spec: GraphSpec,
    target: Any | None,
    options: BuildOptions,
    say: Say,
    timing_cache: bytes | None = None,
) -> BuiltPlan:
    """Builds a plan.

    Args:
        target: what `Flavour.target` gave for the GPU; None without one.
        say: takes one line of progress at a time.
        timing_cache: of an earlier build; one of another GPU or version is left aside.

    Raises:
        DiamondError: too little memory, a graph or setting that TensorRT refuses, or a build that fails.
    """
    graph_bytes = sum(path.stat().st_size for path in graph_files(spec.path))
    require_memory(
        round(MEMORY_FACTOR * graph_bytes) + MEMORY_BASE_BYTES,
        f"building a plan of {spec}, {size_text(graph_bytes)}",
        "close other programs, or build on a machine with more memory",
    )
    began = time.perf_counter()
    say(f"{spec}: building a plan with {flavour}, once")
    parsed = parse(flavour, spec)
    config = configure(flavour, parsed, spec, options, target)
    cache = None if flavour.is_rtx else _timing_cache(flavour, spec, config, timing_cache)
    progress = Progress()
    monitor = progress.monitor(flavour.api)
    config.progress_monitor = monitor

    def build() -> Any:
        return parsed.builder.build_serialized_network(parsed.network, config)

    built = flavour.require(
        watched(build, progress, f"{spec}: building", say),
        f"{spec}: building the plan",
        fix="see docs/tensorrt.md; play with --backend ort meanwhile",
    )
    data = bytes(built)
    build_s = time.perf_counter() - began
    say(f"{spec}: built in {build_s:.1f} s, {size_text(len(data))}; {parsed.types.in_words()}")
    return BuiltPlan(data, parsed.types, build_s, _serialized(flavour, spec, cache))


def _timing_cache(flavour: Flavour, spec: GraphSpec, config: Any, kept: bytes | None) -> Any:
    """A timing cache given to the builder: the kept one where it fits this GPU and version, else an empty one."""
    for content in ([kept] if kept else []) + [b""]:
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return flavour.require(None, f"{spec}: a timing cache")


def _serialized(flavour: Flavour, spec: GraphSpec, cache: Any | None) -> bytes | None:
    if cache is None:
        return None
    return bytes(flavour.require(cache.serialize(), f"{spec}: keeping the timing cache"))
