"""One way to run a world, as an object and as a text: "precision=int8+threads=1"."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from engine import load_world, native
from engine.errors import DiamondError
from engine.manifest import Manifest
from engine.schedule import SamplerConfig
from engine.world import World


@dataclass(frozen=True)
class Config:
    """One way to run a world. None: what the backend or the world chooses.

    Attributes:
        backend, precision, preset, threads: as of `engine.load_world`.
        steps: of the denoiser and, behind a slash, of the upsampler ("3" or "3/10"); None for the preset's.
        native: "off" without the native operators, "avx2" with those for older processors (docs/native.md).

    Raises:
        DiamondError: a number of threads or steps that is none, or another word for `native`.
    """

    backend: str = "auto"
    precision: str | None = None
    preset: str | None = None
    threads: int | None = None
    steps: str | None = None
    native: str | None = None

    def __post_init__(self) -> None:
        if self.native not in (None, "off", "avx2"):
            raise DiamondError(f"native={self.native}", "off or avx2")
        if self.threads is not None and self.threads < 1:
            raise DiamondError(f"threads={self.threads}", "1 or more")
        counts = [] if self.steps is None else self.steps.split("/")
        if len(counts) > 2 or not all(count.isdigit() and int(count) for count in counts):
            raise DiamondError(f"steps={self.steps}", "N, or N/M: denoiser and upsampler")

    @classmethod
    def parse(cls, text: str, base: Self) -> Self:
        """Changes to `base`, such as "precision=int8+threads=1".

        Raises:
            DiamondError: another name, or something that is no number of threads or steps.
        """
        changes: dict[str, Any] = {}
        for part in text.split("+"):
            name, equals, value = part.partition("=")
            if not equals or name not in asdict(base):
                raise DiamondError(
                    f"--compare {text}: {part!r}", f"NAME=VALUE, NAME one of {list(asdict(base))}"
                )
            if name == "threads" and not value.isdigit():
                raise DiamondError(f"--compare {text}: {value!r} threads", "a number")
            changes[name] = int(value) if name == "threads" else value
        return replace(base, **changes)

    @property
    def label(self) -> str:
        """The inverse of `parse`: what differs from the defaults."""
        chosen = {name: value for name, value in asdict(self).items() if value not in (None, "auto")}
        return "+".join(f"{name}={value}" for name, value in chosen.items()) or "defaults"

    def samplers(self, manifest: Manifest) -> dict[str, SamplerConfig]:
        """The settings by network: the preset's, with other numbers of steps where some are asked for.

        Raises:
            DiamondError: a preset that the world lacks, or steps for an upsampler in a world without one.
        """
        settings = manifest.samplers(manifest.default_preset if self.preset is None else self.preset)
        counts = [] if self.steps is None else [int(count) for count in self.steps.split("/")]
        if len(counts) > len(settings):
            raise DiamondError(
                f"steps={self.steps}: the world {manifest.name!r} has no upsampler", f"steps={counts[0]}"
            )
        networks = dict(zip(settings, counts, strict=False))
        return {
            name: replace(sampler, steps=networks.get(name, sampler.steps))
            for name, sampler in settings.items()
        }

    def load(self, world: Path, verify: bool = True, seed: int = 0) -> World:
        """The world, run so."""
        with _switched(self.native):
            loaded = load_world(
                world, self.backend, self.precision, self.preset, seed, threads=self.threads, verify=verify
            )
        try:
            for name, sampler in self.samplers(loaded.manifest).items():
                loaded.set_sampler(name, sampler)
        except BaseException:
            loaded.close()
            raise
        return loaded


@contextmanager
def _switched(setting: str | None) -> Iterator[None]:
    """The environment's switch for native operators, set for a while; None leaves it as it is."""
    before = os.environ.get(native.SWITCH)
    if setting is not None:
        os.environ[native.SWITCH] = setting
    try:
        yield
    finally:
        if setting is not None:
            os.environ.pop(native.SWITCH)
            if before is not None:
                os.environ[native.SWITCH] = before
