"""From what was asked on the command line to a game: recordings, world, window or file.

`play` is the one function behind `diamond-play`.
"""

import dataclasses
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.bundle import Bundle
from engine.catalog import PUBLISHED, resolve
from engine.errors import DiamondError
from engine.loading import load_world
from engine.player.controller import Controller
from engine.player.headless import render
from engine.player.keymap import KeyMap
from engine.player.making import graphs_needed, make_published, require_published
from engine.player.playable import recorded_actions, sampler_text
from engine.player.recorder import Recorder, check_target
from engine.player.recording import Recording
from engine.player.session import Session
from engine.player.tuning import Tuning, tuning
from engine.space import memory_text
from engine.world import World

DEMO = "demo"  # the action recording that a world brings along
DEMO_S = 10
LARGE_BYTES = 200_000_000
MEMORY_FACTOR = 1.5  # of the graphs' bytes, while ONNX Runtime loads and runs them


@dataclass(frozen=True)
class PlayConfig:
    """What to play, and how. None leaves a choice to the recording, the world or the backend, in this order.

    Attributes:
        world: name or directory. release, offline: where the published world comes from, the first time.
        backend, precision, threads: what runs it. cuda_graph: on a GPU, one CUDA graph a frame.
        preset: sampler settings. sampler, settings, steps: what changes in them: a YAML file, texts such as
            "upsampler.s_churn=5", steps of the denoiser and of the upsampler; the later of these counts more.
        seed, spawn: what decides the dream, beside the actions.
        horizon: frames after which the next spawn begins.
        fps: frames a second to aim at.
        record: .npz for actions, .mp4 for video.
        headless: an mp4 to render instead of opening a window. frames: its length.
        actions: recorded actions to play. replay: play those of the spawns, one spawn after the other.
        mouse_multiplier: mouse units per pixel. size: whole-number enlargement of the window.
    """

    world: str = "freedoom"
    release: Path | None = None
    offline: bool = False
    backend: str = "auto"
    precision: str | None = None
    threads: int | None = None
    cuda_graph: bool = True
    preset: str | None = None
    sampler: Path | None = None
    settings: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    seed: int | None = None
    spawn: int | None = None
    horizon: int | None = None
    fps: float | None = None
    record: Path | None = None
    headless: Path | None = None
    frames: int | None = None
    actions: Path | None = None
    replay: bool = False
    mouse_multiplier: float = 10.0
    size: int | None = None

    def __post_init__(self) -> None:
        require_published(self.world, self.release, self.offline)
        for name in ("horizon", "fps", "frames", "mouse_multiplier", "size"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise DiamondError(f"--{name.replace('_', '-')} is {value}", "more than 0")
        if len(self.steps) > 2:
            raise DiamondError(f"--steps has {len(self.steps)} numbers", "N, or N,M: denoiser and upsampler")
        if self.replay and self.actions is not None:
            raise DiamondError(
                "--replay and --actions", "one: the spawns' recorded actions, or those of a file"
            )
        if self.frames is not None and self.headless is None:
            raise DiamondError("--frames without --headless", "--headless FILE.mp4 --frames N")
        if self.headless is not None:
            if self.headless.suffix != ".mp4":
                raise DiamondError(f"--headless {self.headless}: not an mp4", "FILE.mp4")
            check_target(self.headless)
        if self.record is not None:
            check_target(self.record)


def play(config: PlayConfig) -> None:
    """Plays, in a window or into a file; prints what runs and what came of it.

    Raises:
        DiamondError: whatever the user can put right.
    """
    # 1. The recording, which may say the seed, and sampler settings.
    script = None if config.actions is None else Recording.load(config.actions)
    changes = tuning(config.sampler, config.settings, config.steps)

    # 2. The place to show it.
    video = config.headless
    problem = _display_problem() if video is None else None

    with _load(config, script, changes, in_window=video is None and problem is None) as world:
        # 3. The world, set up as the recording says.
        fps = config.fps or world.fps
        frames = config.frames
        if problem is not None:
            video, frames = Path(f"{world.name}.mp4"), round(DEMO_S * fps)
            check_target(video)
        if video is not None and script is None and not config.replay:
            script = _shipped(world, config.spawn)
        keep_sampler = config.preset is not None or bool(changes.changes)
        if script is not None:
            script = _prepare(world, script, config.spawn, keep_sampler)
        horizon = config.horizon or changes.horizon or world.horizon
        print(f"{world.describe()}; {sampler_text(world)}; seed {world.seed}; horizon {horizon}")
        for network, sampler in world.samplers.items():
            print(f"{network}: {sampler.in_words()}", flush=True)

        # 4. The game.
        controller = Controller(config.mouse_multiplier)
        recorder = Recorder(world, fps, config.record)
        spawn = config.spawn or 0
        session = Session(world, controller, recorder, spawn, script, keep_sampler, config.replay, horizon)

        # 5. Into a file,
        if video is not None:
            if problem is not None:
                print(f"{problem}; rendering {DEMO_S} s of play to {video}", flush=True)
            if frames is None and config.replay:
                frames = min(horizon, len(recorded_actions(world, spawn)))
            if frames is None:
                frames = round(DEMO_S * fps) if script is None else len(script.actions)
            rendered = render(session, video, frames, fps)
            if config.replay and len(rendered.frame_ms) < frames:
                print(f"stopped early: {session.status().message}")
            rows = {"world": world.describe(), "preset": sampler_text(world), **rendered.rows()}
            print("\n".join(f"{name:<10} {value}" for name, value in rows.items()))
            return

        # 6. or in a window.
        from engine.player.window import play_in_window

        keymap = KeyMap.around(world.action_space)
        print(keymap.text(world.name), flush=True)
        sizes = world.manifest.sizes
        both = sizes.full_res or sizes.low_res, sizes.low_res
        saved = play_in_window(session, controller, keymap, both, fps, world.name, config.size)
        if saved is not None:
            print(f"saved {saved}")


def _display_problem() -> str | None:
    """Why no window can be opened here; None where one can. Imports pyglet only if there may be a display."""
    display = os.environ.get("DISPLAY")
    if sys.platform.startswith("linux") and not display:
        return "no display: DISPLAY is not set"
    try:
        from engine.player import window
    except ImportError as error:  # pyglet, or a library of the system that it loads
        return f"no window: {error}"
    problem = window.display_problem()
    return problem and f"no display: {problem} (DISPLAY is {display})"


def _load(config: PlayConfig, script: Recording | None, changes: Tuning, in_window: bool) -> World:
    """Loads the world; what was asked of it is checked before its networks load, which may take minutes."""
    seed = config.seed
    if seed is None:
        seed = 0 if script is None or script.seed is None else script.seed
    if config.world == PUBLISHED:
        make_published(config.release, config.offline, graphs_needed(config.backend, config.precision))
    directory = resolve(config.world)
    bundle = Bundle.open(directory, verify=False)
    _check_spawn(bundle, config, script, in_window)
    manifest = bundle.manifest
    _state_memory(bundle, config.precision)
    preset = manifest.default_preset if config.preset is None else config.preset
    return load_world(
        directory,
        backend=config.backend,
        precision=config.precision,
        preset=preset,
        seed=seed,
        threads=config.threads,
        samplers=changes.applied(manifest.name, manifest.samplers(preset)),
        cuda_graph=config.cuda_graph,
    )


def _state_memory(bundle: Bundle, precision: str | None) -> None:
    """Says what a large world is about to take; a small one loads before anybody has read it."""
    name = precision if precision in bundle.precisions else bundle.precisions[0]
    graphs_bytes = bundle.graphs_bytes(name)
    if graphs_bytes > LARGE_BYTES:
        print(f"{bundle.manifest.name}: loading {memory_text(MEMORY_FACTOR * graphs_bytes)}", flush=True)


def _check_spawn(bundle: Bundle, config: PlayConfig, script: Recording | None, in_window: bool) -> None:
    """Checks that there is such a spawn, and that a replay in a file has something to begin with."""
    name, spawn = "--spawn", config.spawn
    if spawn is None and script is not None and script.spawn is not None:
        name, spawn = f"{script.source}: spawn", script.spawn
    count = len(bundle.manifest.spawns)
    if spawn is not None and not 0 <= spawn < count:
        raise DiamondError(
            f"{name} {spawn}: world {bundle.manifest.name!r} has {count} spawns", f"0 to {count - 1}"
        )
    if config.replay and not in_window and not len(bundle.spawn(spawn or 0).next_actions):
        raise DiamondError(
            f"--replay: spawn {spawn or 0} has no recorded actions", "--spawn N of one that has"
        )


def _prepare(world: World, script: Recording, spawn: int | None, keep_sampler: bool) -> Recording:
    """Has the world run as the recording says, and the recording start at `spawn` if there is one.

    Warns where the frames cannot come out as they were.
    """
    script.require_space(world.action_space)
    if script.sampling is not None and not keep_sampler:
        script.sampling.set(world)
    if script.bundle not in (None, world.bundle.digest):
        print(f"{script.source}: recorded in another build of {script.world}: frames will differ")
    return script if spawn is None else dataclasses.replace(script, spawn=spawn)


def _shipped(world: World, spawn: int | None) -> Recording | None:
    """Actions that came with the world: its demo, or else those of the spawn; None without either."""
    if DEMO in world.manifest.actions:
        return Recording.load(world.bundle.file(world.manifest.actions[DEMO]))
    actions = recorded_actions(world, spawn or 0)
    if not len(actions):
        return None
    return Recording(actions, world.action_space, world.fps, spawn=spawn or 0, source=f"spawn {spawn or 0}")
