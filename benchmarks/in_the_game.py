"""The same blind script, from the same moments, in the game itself: what a world's long play is fairly held against.

The game is deterministic and a recording holds its seed and its actions, so it is led back to the very frame that a
spawn was taken from, and from there on the script plays instead of the recorded player. A blind player sees more walls
from near than one who looks where it goes; here the game is asked what it shows to the very same one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.detectors import Limits, Log, Pixels
from benchmarks.held_out import held_out
from benchmarks.limits import turned
from benchmarks.wandering import wander
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.spawn import Spawn
from train.data.doom import DoomGame, DoomSettings, View, crop_and_resize
from train.data.episode import JPEG_QUALITY, Episode
from train.data.jpeg import decode_jpeg, encode_jpeg
from train.data.record import ACTION_SPACE, SOURCE


@dataclass(frozen=True)
class Moment:
    """The frame of a recording, counted from 0, that is the newest of a spawn."""

    episode: Episode
    newest: int


def play_in_the_game(
    bundle: Bundle,
    data: Path,
    spawns: range,
    frames: int,
    limits: Limits,
    seed: int,
    say: Callable[[str], None],
) -> list[Log]:
    """What the detectors say of the game under the scripts of `endure`: a log a spawn, `frames` frames each.

    Raises:
        DiamondError: recordings that are missing, of another game, or that the spawns are not from; no ViZDoom; a game
            that does not repeat its recording.
    """
    episodes = held_out(data, bundle.manifest, 0)
    logs = []
    for index in spawns:
        moment = find_moment(bundle.spawn(index), episodes, f"spawn {index}")
        say(f"spawn {index} in the game: frame {moment.newest} of {moment.episode.path.name}")
        logs.append(_play(moment, frames, limits, 1000 * seed + index))
    return logs


def find_moment(spawn: Spawn, episodes: list[Episode], name: str) -> Moment:
    """Where a spawn was taken from.

    Raises:
        DiamondError: no episode holds its low-res frames, one after the other.
    """
    history = spawn.low_res.transpose(0, 2, 3, 1)
    for episode in episodes:
        frames = episode.low_res(0, len(episode))
        newest = np.flatnonzero((frames == history[-1]).all(axis=(1, 2, 3)))
        for t in newest[newest >= len(history) - 1]:
            if np.array_equal(frames[t + 1 - len(history) : t + 1], history):
                return Moment(episode, int(t))
    raise DiamondError(
        f"{name}: its frames are in none of {len(episodes)} held-out episodes",
        "the recordings that the world's spawns were picked from",
        "name them with --data, or leave --game out",
    )


def lead_back(game: DoomGame, moment: Moment) -> View:
    """Repeats a recording in a new game of its seed, up to a moment.

    Raises:
        DiamondError: the game shows another picture there than was recorded.
    """
    view = game.view()
    for action in moment.episode.actions(0, moment.newest).astype(np.float32):
        view = game.act(ACTION_SPACE.decode(action))
    recorded = moment.episode.low_res(moment.newest, moment.newest + 1)[0]
    if not np.array_equal(crop_and_resize(view.screen, moment.episode.meta.low_res_size), recorded):
        raise DiamondError(
            f"{moment.episode.path}: the game shows another frame {moment.newest} than was recorded",
            "the ViZDoom and the map that it was recorded with",
            "record again with this version, or leave --game out",
        )
    return view


def settings_of(episode: Episode) -> DoomSettings:
    """What an episode was recorded with.

    Raises:
        DiamondError: it is not a recording of this game.
    """
    meta = episode.meta
    if meta.source != SOURCE or "monsters" not in meta.extra:
        raise DiamondError(f"{episode.path}: from {meta.source!r}, whose game can't be played", repr(SOURCE))
    size = meta.full_res_size or DoomSettings().full_res_size
    return DoomSettings(meta.low_res_size, size, meta.extra["monsters"])  # type: ignore[arg-type]


def _play(moment: Moment, frames: int, limits: Limits, script: int) -> Log:
    settings = settings_of(moment.episode)
    full_res = moment.episode.meta.full_res_size
    log = Log(limits)

    def picture(view: View) -> Pixels:
        """As it would have been recorded."""
        if full_res is None:
            return crop_and_resize(view.screen, settings.low_res_size)
        return decode_jpeg(encode_jpeg(crop_and_resize(view.screen, full_res), JPEG_QUALITY))

    with DoomGame(settings, moment.episode.meta.seed) as game:
        shown = picture(lead_back(game, moment))
        actions = wander(ACTION_SPACE, script)
        for _ in range(frames):
            action = next(actions)
            before, shown = shown, picture(game.act(ACTION_SPACE.decode(action)))
            log.see(shown, before, bool(turned(ACTION_SPACE, action[None])[0]))
    return log
