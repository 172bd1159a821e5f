"""The front door: a name and a few choices in, a world that is ready to be reset out."""

from collections.abc import Mapping
from pathlib import Path

from engine.backends import open_backend
from engine.bundle import Bundle
from engine.catalog import resolve
from engine.noise import NoiseSource
from engine.schedule import SamplerConfig
from engine.world import World


def load_world(
    world: str | Path,
    backend: str = "auto",
    precision: str | None = None,
    preset: str | None = None,
    seed: int = 0,
    noise: NoiseSource | None = None,
    threads: int | None = None,
    samplers: Mapping[str, SamplerConfig] | None = None,
    verify: bool = True,
    cuda_graph: bool = True,
) -> World:
    """Finds, verifies and loads a world; `reset` comes next.

    Args:
        world: a name such as "freedoom", or a bundle directory.
        backend: "auto", or one of `engine.backends.BACKENDS`.
        precision: one that the world has graphs in, or that the backend computes from others; None takes the graphs
            that the backend runs best.
        preset: sampler settings of both networks; None takes the world's default.
        seed: seeds the noise, 0 to 2^32 - 1.
        noise: replaces the seeded noise.
        threads: CPU threads; None lets the backend decide.
        samplers: settings by network ("denoiser", "upsampler") that replace the preset's.
        verify: compare the hashes of all files first.
        cuda_graph: on a GPU, replay the whole frame as one CUDA graph; False makes the same calls one by one.

    Raises:
        DiamondError: what is wrong with the world, the backend or an argument.
    """
    bundle = Bundle.open(resolve(world), verify)
    runtime = open_backend(backend, threads, precision)
    try:
        loaded = World(bundle, runtime, precision, preset, seed, noise, cuda_graph)
        for network, config in (samplers or {}).items():
            loaded.set_sampler(network, config)
    except BaseException:
        runtime.close()
        raise
    return loaded
