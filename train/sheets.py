"""Contact sheets while training: imagined frames under held-out actions, above the true ones.

A falling loss can hide mush; a picture can't. Also writes TensorBoard scalars if tensorboard is installed.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.schedule import SamplerConfig
from train.data.episode import Episode
from train.data.pictures import grid
from train.model import Denoiser
from train.rollout import rollout, sample
from train.segments import to_unit


def to_image(frames: Tensor) -> np.ndarray:
    """(N, C, H, W) in [-1, 1] -> uint8 (N, H, W, C)."""
    levels = (frames.clamp(-1, 1) + 1) / 2 * 255
    return levels.round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _read(episode: Episode, start: int, stop: int) -> tuple[Tensor, Tensor]:
    low_res = torch.from_numpy(episode.low_res(start, stop)).permute(0, 3, 1, 2)
    return to_unit(low_res), torch.from_numpy(episode.actions(start, stop)).float()


def denoiser_sheet(
    network: Denoiser, sampler: SamplerConfig, episodes: list[Episode], frames: int = 48, every: int = 6
) -> np.ndarray:
    """For each episode two rows: the true frames, and the imagined ones after 4 frames of history."""
    T = network.cfg.inner_model.num_steps_conditioning
    starts = [min(len(e) // 3, len(e) - T - frames) for e in episodes]
    usable = [(e, s) for e, s in zip(episodes, starts, strict=True) if s >= 0]
    pieces = [_read(e, s, s + T + frames) for e, s in usable]
    true, actions = torch.stack([p[0] for p in pieces]), torch.stack([p[1] for p in pieces])
    imagined = rollout(network, sampler, true[:, :T], actions[:, : T + frames - 1], seed=0)
    rows = []
    for k in range(len(pieces)):
        rows.append(to_image(true[k, T - 1 + every :: every]))
        rows.append(to_image(imagined[k, every - 1 :: every]))
    return grid(rows, scale=3)


def upsampler_sheet(network: Denoiser, sampler: SamplerConfig, episodes: list[Episode]) -> np.ndarray:
    """For each episode: the bicubic enlargement, the upsampled frame, the true frame."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for episode in episodes:
        t = len(episode) // 3
        low_res, _ = _read(episode, t, t + 1)
        full = to_unit(torch.from_numpy(episode.full_res(t - 1, t + 1)).permute(0, 3, 1, 2))
        enlarged = network.enlarge(low_res)
        made = sample(
            network,
            sampler,
            torch.cat((full[:1], enlarged), dim=1),
            None,
            lambda name, shape: torch.randn(shape, generator=generator),
        )
        rows.append(to_image(torch.cat((enlarged, made, full[1:]))))
    return grid(rows, scale=2)


def save_sheet(path: Path, picture: np.ndarray) -> None:
    """Writes a picture, uint8 (H, W, 3), as a file of the kind its suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
