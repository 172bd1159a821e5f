"""The inverse-dynamics probe: a small network that reads a player's intent off three consecutive low-res frames.

Frames t, t + 1 and t + 2, that is before, after and after next, tell the intent of action t, which led from frame t to
frame t + 1; a shot's flash often shows a frame later, so the third is worth having. The probe learns from real
recordings alone; what it then reads from imagined frames says whether a world obeys. (Such a network labels the videos
of Baker et al. 2022.) Knows no worlds.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from benchmarks.intents import UNSURE, Head, Labels, heads_of, labels
from engine.actions import ActionSpace
from engine.errors import DiamondError
from engine.whole_file import WholeFile
from train.data.episode import Episode
from train.model.blocks import GroupNorm, conv3x3

Pixels = npt.NDArray[np.uint8]
FRAMES = 3  # that the probe sees at once
SAY_EVERY = 250  # steps


@dataclass(frozen=True)
class ProbeConfig:
    """How a probe is made.

    Attributes:
        steps: of training.
        batch: triples of frames in a step, rounded up to as many for each head.
        width: channels of the first layer.
        learning_rate: the highest; it falls to nothing along a cosine.
        seed: of the weights and of the draws.
        shift: the frames t, t + 1, t + 2 are asked about action t + `shift`. Anything but 0 is for checking that.

    Raises:
        DiamondError: a number that cannot be one.
    """

    steps: int = 2000
    batch: int = 128
    width: int = 32
    learning_rate: float = 2e-3
    seed: int = 0
    shift: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.width) < 1 or self.learning_rate <= 0:
            raise DiamondError(f"probe: {asdict(self)}", "steps, batch, width and learning rate above 0")


class Probe(nn.Module):
    """Three frames to a score for every class of every head. Frames of any size from 8x8 on."""

    def __init__(self, heads: Sequence[Head], width: int) -> None:
        super().__init__()
        self.heads = tuple(heads)
        self.body = nn.Sequential(
            nn.Conv2d(3 * FRAMES, width, 5, stride=2, padding=2),
            nn.SiLU(),
            conv3x3(width, 2 * width, stride=2),
            GroupNorm(2 * width),
            nn.SiLU(),
            conv3x3(2 * width, 2 * width, stride=2),
            GroupNorm(2 * width),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(
                (4, 7)
            ),  # places are kept: a weapon flashes in one, a floor flows in another
            nn.Flatten(),
            nn.Linear(2 * width * 4 * 7, 4 * width),
            nn.SiLU(),
        )
        self.scores = nn.ModuleDict(
            {head.name: nn.Linear(4 * width, len(head.classes)) for head in self.heads}
        )

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """uint8 (B, 3, h, w, 3) -> by head's name (B, classes)."""
        B, T, H, W, C = frames.shape
        x = frames.permute(0, 1, 4, 2, 3).float() / 127.5 - 1  # (B, T, C, H, W)
        x = torch.cat((x[:, :1], x[:, 1:] - x[:, :-1]), dim=1)  # what changed is nearer to what was done
        features = self.body(x.reshape(B, T * C, H, W))
        return {name: layer(features) for name, layer in self.scores.items()}

    @torch.no_grad()
    def read(self, frames: Pixels, batch: int = 256) -> dict[str, Labels]:
        """Reads a clip.

        Args:
            frames: uint8 (T, h, w, 3), consecutive; T is 3 or more.

        Returns:
            By head's name int64 (T - 2,): the class of action t, entry t, read off frames t to t + 2.
        """
        self.eval()
        triples = np.lib.stride_tricks.sliding_window_view(frames, FRAMES, axis=0).transpose(0, 4, 1, 2, 3)
        found: dict[str, list[Labels]] = {head.name: [] for head in self.heads}
        for first in range(0, len(triples), batch):
            scores = self(torch.from_numpy(triples[first : first + batch].copy()))
            for name, score in scores.items():
                found[name].append(score.argmax(dim=1).numpy())
        return {name: np.concatenate(parts) for name, parts in found.items()}


def train_probe(
    episodes: Sequence[Episode], space: ActionSpace, config: ProbeConfig, say: Callable[[str], None]
) -> Probe:
    """A probe that has learned from recordings.

    A part of every batch is drawn for each head, its classes equally often. A head learns from the whole batch, in
    which each of its classes weighs as much as the others.

    Raises:
        DiamondError: a class that never occurs.
    """
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    probe = Probe(heads_of(space), config.width).train()
    asked = _labels(episodes, space, probe.heads, config.shift)
    pools = {head.name: _pool(asked[head.name], head) for head in probe.heads}
    optimizer = torch.optim.AdamW(probe.parameters(), config.learning_rate, weight_decay=1e-2)
    cosine = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, config.steps + 1, pct_start=0.05
    )
    for step in range(1, config.steps + 1):
        # 1. Triples of frames, every class of every head among them.
        rows = [row for pool in pools.values() for row in _draw(pool, -(-config.batch // len(pools)), random)]
        frames = np.stack([episodes[e].low_res(t, t + FRAMES) for e, t in rows])
        # 2. Every head answers where it can be asked.
        scores = probe(torch.from_numpy(frames))
        losses = []
        for head in probe.heads:
            wanted = torch.tensor([int(asked[head.name][e][t]) for e, t in rows])
            counts = torch.bincount(wanted[wanted >= 0], minlength=len(head.classes))
            weight = 1 / counts.clamp(min=1)
            losses.append(F.cross_entropy(scores[head.name], wanted, weight, ignore_index=UNSURE))
        # 3. A step.
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cosine.step()
        if step % SAY_EVERY == 0:
            say(f"probe: step {step} of {config.steps}, loss {loss.item():.3f}")
    return probe.eval()


def save_probe(file: Path, probe: Probe, about: dict[str, Any]) -> None:
    """Writes weights and what they were made from, plain data, whole or not at all.

    Raises:
        DiamondError: the file cannot be written.
    """
    content = save_tensors(probe.state_dict(), {"probe": json.dumps(about, sort_keys=True)})
    with WholeFile(file) as output:
        output.file.write(content)


def load_probe(file: Path, space: ActionSpace, config: ProbeConfig, about: dict[str, Any]) -> Probe:
    """A probe as `save_probe` wrote it.

    Raises:
        DiamondError: something else, or a probe that was made otherwise than `about` says.
    """
    probe = Probe(heads_of(space), config.width)
    try:
        content = file.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        made = json.loads(header["__metadata__"]["probe"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DiamondError(f"--probe {file}: cannot be read: {error}", "a file that --probe wrote") from error
    if made != json.loads(json.dumps(about)):
        differing = sorted(name for name in {*made, *about} if made.get(name) != about.get(name))
        raise DiamondError(
            f"--probe {file}: was made otherwise: {', '.join(differing)} differ",
            "the probe of these recordings and settings",
            "delete it, or name another file, and a new one is trained",
        )
    try:
        probe.load_state_dict(load_tensors(content))
    except (SafetensorError, RuntimeError) as error:
        raise DiamondError(f"--probe {file}: damaged: {error}", "the file whole", "delete it") from error
    return probe.eval()


Pool = list[npt.NDArray[np.int64]]  # by class (N, 2): episode and first frame of the triples that show it


def _labels(
    episodes: Sequence[Episode], space: ActionSpace, heads: Sequence[Head], shift: int
) -> dict[str, list[Labels]]:
    """By head and episode the class of action t + shift, for every t that begins a triple of frames."""
    found: dict[str, list[Labels]] = {head.name: [] for head in heads}
    for episode in episodes:
        actions = episode.actions(0, len(episode))
        for head in heads:
            wanted = labels(space, actions, head)
            moved = np.full(len(wanted), UNSURE)
            there = range(max(0, -shift), len(wanted) - max(0, shift))
            moved[there.start : there.stop] = wanted[there.start + shift : there.stop + shift]
            found[head.name].append(moved[: max(0, len(wanted) - FRAMES + 1)])
    return found


def _pool(asked: Sequence[Labels], head: Head) -> Pool:
    """The triples of every class.

    Raises:
        DiamondError: a class without any.
    """
    pool = []
    for k, name in enumerate(head.classes):
        rows = [(e, t) for e, wanted in enumerate(asked) for t in np.flatnonzero(wanted == k)]
        if not rows:
            raise DiamondError(
                f"recordings: nobody plays {head.name} {name} for {head.settle} frames in a row",
                "every intent, often",
                "record more",
            )
        pool.append(np.array(rows))
    return pool


def _draw(pool: Pool, count: int, random: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """`count` triples, (episode, frame), the classes as evenly as they go."""
    return [pool[k % len(pool)][random.integers(len(pool[k % len(pool)]))] for k in range(count)]
