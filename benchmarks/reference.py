"""Ours beside the original DIAMOND repository: same weights, spawn, actions and draws, block by block in one run.

The original runs in a process of its own (`reference_driver.py`) from a checkout that the user provides:

    git clone --branch csgo https://github.com/eloialonso/diamond
    python benchmarks/latency.py csgo --reference diamond

Frames must agree within the parity gate's bound, or the ratio would compare different things.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.playing import spread
from engine import World
from engine.errors import DiamondError
from export.report import picture_row

DRIVER = Path(__file__).with_name("reference_driver.py")
ROOT = DRIVER.parents[1]
PSNR_DB = 40.0  # of every frame: the bound of the parity gate
MODES = ("eager", "compiled")


class ReferenceProcess:
    """The original, playing on request.

    Args:
        checkout: of the published repository, branch csgo.
        release: whose weights and spawns it plays.
        preset: "fast" or "quality".
        threads: of PyTorch on the CPU.
        mode: "eager", or "compiled" with torch.compile as its player does.

    Raises:
        DiamondError: not a checkout, or it does not start; with its own last words.
    """

    def __init__(
        self, checkout: Path, release: Path, preset: str, threads: int, mode: str = "eager", seed: int = 0
    ) -> None:
        if not (checkout / "src" / "models" / "diffusion" / "diffusion_sampler.py").is_file():
            raise DiamondError(
                f"--reference {checkout}: is no checkout of the original",
                "a directory with src/models/diffusion",
                "git clone --branch csgo https://github.com/eloialonso/diamond",
            )
        assert mode in MODES, mode
        self._folder = tempfile.TemporaryDirectory()
        self._errors = (Path(self._folder.name) / "stderr").open("w+")
        arguments = [checkout.resolve(), release.resolve(), preset, seed, threads, mode, self._folder.name]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, str(DRIVER), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.about: dict[str, Any] = self._answer()

    def play(self, frames: int) -> tuple[list[float], np.ndarray, np.ndarray]:
        """The next frames: milliseconds each, low_res uint8 (N, h, w, 3), full_res uint8 (N, H, W, 3)."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{frames}\n")
        self._process.stdin.flush()
        answer = self._answer()
        with np.load(answer["frames"], allow_pickle=False) as arrays:
            return answer["frame_ms"], arrays["low_res"], arrays["full_res"]

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._errors.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().strip().splitlines()[-1:] or ["without a word"]
            self.close()
            raise DiamondError(f"the original ended: {last[0]}", "PyTorch, and a checkout of branch csgo")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass
class Beside:
    """What was measured.

    Attributes:
        original_ms, ours_ms: of every frame after the first block, which warms up.
        psnr_db: of every frame, the smaller of both sizes; None where all pixels are equal.
        block_ratios: medians of the original's times over ours, block by block.
        about: what runs the original.
    """

    original_ms: list[float] = field(default_factory=list)
    ours_ms: list[float] = field(default_factory=list)
    psnr_db: list[float | None] = field(default_factory=list)
    block_ratios: list[float] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Median time of the original over ours."""
        return float(np.median(self.original_ms) / np.median(self.ours_ms))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        worst = min((value for value in self.psnr_db if value is not None), default=None)
        return {
            **self.about,
            "original_ms_p50": round(float(np.median(self.original_ms)), 2),
            "ours_ms_p50": round(float(np.median(self.ours_ms)), 2),
            "ratio": round(self.ratio, 2),
            "ratio_by_block": spread(self.block_ratios or [self.ratio]),
            "frames": len(self.ours_ms),
            "frames_compared": len(self.psnr_db),
            "frames_identical": self.psnr_db.count(None),
            "psnr_db_worst": worst,
        }


def play_beside(
    world: World, original: ReferenceProcess, blocks: int, frames: int, checked: bool = True
) -> Beside:
    """Plays both in turns from spawn 0, `blocks` blocks after one to warm up.

    Args:
        world: ours, with the release's weights and seed 0, at the preset of the original.
        checked: compare the frames; not where the original draws its own noise.

    Raises:
        DiamondError: a frame differs by more than the bound, naming it.
    """
    result = Beside(about=original.about)
    world.reset(0)
    start = world.bundle.spawn(0)
    script = np.concatenate([start.actions[-1:], start.next_actions])
    for block in range(blocks + 1):
        original_ms, low_res, full_res = original.play(frames)
        ours = [world.step(script[(block * frames + i) % len(script)]) for i in range(frames)]
        if block:
            result.original_ms += original_ms
            ours_ms = [frame.timings_ms["total"] for frame in ours]
            result.ours_ms += ours_ms
            result.block_ratios.append(float(np.median(original_ms) / np.median(ours_ms)))
        for index, frame in enumerate(ours if checked else []):
            rows = [picture_row(frame.low_res, low_res[index]), picture_row(frame.rgb, full_res[index])]
            decibels = [row["psnr_db"] for row in rows if row["psnr_db"] is not None]
            result.psnr_db.append(min(decibels, default=None))
            if decibels and not min(decibels) >= PSNR_DB:
                raise DiamondError(
                    f"frame {frame.index}: {min(decibels):.1f} dB between the original's and ours",
                    f"{PSNR_DB:g} dB or more: the same weights, draws and actions",
                    "was the world made from this release (--release), in fp32?",
                )
    return result
