"""Recording Freedoom: one seeded episode per file, over as many processes as asked for.

Every episode has its own seed, derived from the recording's seed and its number, and its own engine, so the
files do not depend on the number of workers or on what was recorded before. Good files of the same recording
are kept, which is how a stopped recording is continued. Progress is reported through a callback; printing is
the command line's business.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from engine.actions import KEYBOARD_MOUSE_51, ActionSpace
from engine.errors import DiamondError
from train.data.arena import NAME, Monsters
from train.data.doom import FPS, KEY_LABELS, DoomGame, DoomSettings, crop_and_resize, load_vizdoom
from train.data.episode import JPEG_QUALITY, Episode, EpisodeMeta, write_episode
from train.data.folder import (
    DATASET_FILE,
    DatasetInfo,
    episode_path,
    read_dataset_info,
    split_of,
    write_dataset_info,
)
from train.data.jpeg import encode_jpeg
from train.data.policy import Policy

WORLD = "freedoom"
SOURCE = "diamond-data record freedoom"
ACTION_SPACE: ActionSpace = replace(KEYBOARD_MOUSE_51, labels=KEY_LABELS)


@dataclass(frozen=True)
class RecordConfig:
    """One recording. DiamondError where the numbers make none."""

    out: Path
    episodes: int = 120
    frames: int = 1000
    seed: int = 0
    workers: int = 1
    test_fraction: float = 0.1
    monsters: Monsters = "few"
    blind: float = 0.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("episodes", self.episodes, 1),
            ("frames", self.frames, 2),
            ("workers", self.workers, 1),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise DiamondError(
                    f"--{name}: got {value}", expected=f"at least {least}", fix=f"Pass a larger --{name}."
                )
        if not 0 <= self.test_fraction < 1:
            raise DiamondError(
                f"--test-fraction: got {self.test_fraction}",
                expected="0 <= fraction < 1",
                fix="0.1 is usual.",
            )
        if not 0 <= self.blind <= 1:
            raise DiamondError(
                f"--blind: got {self.blind}",
                expected="0 <= share <= 1",
                fix="0.5 makes every second player blind.",
            )
        DoomSettings(monsters=self.monsters)  # validates

    @property
    def info(self) -> DatasetInfo:
        settings = DoomSettings(monsters=self.monsters)
        return DatasetInfo(
            world=WORLD,
            fps=FPS,
            low_res_size=settings.low_res_size,
            full_res_size=settings.full_res_size,
            action_space=ACTION_SPACE.to_json(),
            recorder={
                "source": SOURCE,
                "seed": self.seed,
                "frames": self.frames,
                "test_fraction": self.test_fraction,
                "monsters": self.monsters,
                "map": NAME,
            }
            | ({"blind": self.blind} if self.blind else {}),  # absent from recordings older than it
        )

    def is_blind(self, index: int) -> bool:
        """Whether episode `index` is a blind player's: that share of any row of episodes, whatever is held out."""
        return episode_seed(self.seed, index) % 1000 < 1000 * self.blind


@dataclass(frozen=True)
class RecordReport:
    """How a recording ended: episodes written now, kept from before, and whether Ctrl-C cut it short."""

    recorded: int
    kept: int
    interrupted: bool


def record(
    config: RecordConfig, progress: Callable[[int, int], None] = lambda done, kept: None
) -> RecordReport:
    """Record what is missing of the episodes.

    Args:
        config: what to record, and where.
        progress: called with the episodes there are, and how many of them were there before.

    Raises:
        DiamondError: vizdoom is missing, the disk is full, or the folder holds another recording.
            On Ctrl-C the episodes in progress are finished, and the rest is left for the next time.
    """
    load_vizdoom()
    _open_folder(config)
    missing = [index for index in range(config.episodes) if not _is_recorded(config, index)]
    kept = config.episodes - len(missing)
    progress(kept, kept)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the workers are the parallelism
    interrupted = False
    pool = ProcessPoolExecutor(config.workers, get_context("spawn"), initializer=_ignore_interrupt)
    episodes = [pool.submit(record_episode, config, index) for index in missing]
    try:
        for count, episode in enumerate(as_completed(episodes), 1):
            episode.result()
            progress(kept + count, kept)
    except KeyboardInterrupt:
        interrupted = True
    except BrokenProcessPool as error:
        raise DiamondError(
            f"{config.out}: a recording process was killed",
            expected=f"memory for {config.workers} recording processes, about 0.5 GB each",
            fix="Run the same command with fewer --workers; whole episodes are kept",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    recorded = sum(episode.done() and not episode.cancelled() for episode in episodes)
    return RecordReport(recorded, kept, interrupted)


def record_episode(config: RecordConfig, index: int) -> None:
    """Play and write one episode."""
    seed = episode_seed(config.seed, index)
    settings = DoomSettings(monsters=config.monsters)
    low_res = np.empty((config.frames, *settings.low_res_size, 3), np.uint8)
    full_res: list[bytes] = []
    actions = np.empty((config.frames, ACTION_SPACE.size), np.uint8)
    policy = Policy(ACTION_SPACE, np.random.default_rng([seed, 1]), config.is_blind(index))
    with DoomGame(settings, seed) as game:
        view = game.view()
        for t in range(config.frames):
            low_res[t] = crop_and_resize(view.screen, settings.low_res_size)
            full_res.append(encode_jpeg(crop_and_resize(view.screen, settings.full_res_size), JPEG_QUALITY))
            actions[t] = ACTION_SPACE.encode(policy.act(view))
            view = game.act(ACTION_SPACE.decode(actions[t].astype(np.float32)))
    meta = EpisodeMeta(
        fps=FPS,
        seed=seed,
        world=WORLD,
        low_res_size=settings.low_res_size,
        full_res_size=settings.full_res_size,
        action_space=json.dumps(ACTION_SPACE.to_json()),
        source=SOURCE,
        extra={"monsters": config.monsters} | ({"player": "blind"} if config.is_blind(index) else {}),
    )
    path = episode_path(config.out, index, split_of(index, config.test_fraction))
    write_episode(path, meta, low_res, actions, full_res)


def episode_seed(seed: int, index: int) -> int:
    """A 31-bit seed that depends on both numbers and on nothing else."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0]) >> 1


def _open_folder(config: RecordConfig) -> None:
    """Start the folder, or check that it holds this same recording."""
    if not (config.out / DATASET_FILE).exists():
        write_dataset_info(config.out, config.info)
        return
    found, wanted = read_dataset_info(config.out), config.info
    if found != wanted:
        differing = [
            f"{name} {found.recorder.get(name)!r} there, {value!r} asked for"
            for name, value in wanted.recorder.items()
            if found.recorder.get(name) != value
        ]
        raise DiamondError(
            f"{config.out}: holds another recording ({'; '.join(differing) or 'of another world or format'})",
            expected="an empty folder, or one recorded with the same settings",
            fix="Choose another --out, or pass the settings in its dataset.json.",
        )


def _is_recorded(config: RecordConfig, index: int) -> bool:
    path = episode_path(config.out, index, split_of(index, config.test_fraction))
    if not path.exists():
        return False
    try:
        episode = Episode(path)
    except DiamondError:  # a broken file is recorded again
        return False
    return len(episode) == config.frames and episode.meta.seed == episode_seed(config.seed, index)


def _ignore_interrupt() -> None:
    """Workers finish their episode on Ctrl-C: only the parent reacts. ViZDoom's own process inherits this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
