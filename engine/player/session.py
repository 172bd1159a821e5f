"""The rules of play: pause, single step, reset, who is in control, presets, recording.

One call of `tick` is one frame. Everything here runs in the thread that owns the world; there is no window
and no file format in it, and no waiting.
"""

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.actions import Action, Vector
from engine.errors import DiamondError
from engine.player.controller import Controller
from engine.player.keymap import Command
from engine.player.playable import PlayableFrame, PlayableWorld, recorded_actions, sampler_text
from engine.player.recorder import Recorder
from engine.player.recording import Recording, Sampling
from engine.player.replay import Replay

WINDOW_FRAMES = 60  # over which p50 and fps are taken
MESSAGE_FRAMES = 100  # how long a message stays
WARM_UP_FRAMES = 3  # the first frames of a backend allocate, choose kernels and fill caches


@dataclass(frozen=True)
class Status:
    """What there is to say about the game just after a frame.

    Attributes:
        sampling: preset and sampler steps, as "quality (3 + 10 steps)".
        frame_index, horizon: the frame, and the one that ends this life: in a replay of the spawn's actions, their
            last.
        control: who acts: "you" or "recording".
        action: what was done in the last frame.
        frame_ms: p50 of what the world needed for a frame; 0 before the first.
        fps: frames a second really played; 0 before the second frame.
        recording: the file being recorded, or "".
        message: the last thing worth telling, or "".
    """

    world: str
    sampling: str
    spawn: int
    frame_index: int
    horizon: int
    control: str
    action: Action
    mouse_multiplier: float
    frame_ms: float
    fps: float
    paused: bool
    recording: str
    message: str


@dataclass(frozen=True)
class Played:
    """A frame to show.

    Attributes:
        frame: the frame.
        frame_ms: what the world needed for it; 0 for the frame of a reset.
        since_s: `time.perf_counter()` of the oldest event that went into it; None without one.
    """

    frame: PlayableFrame
    frame_ms: float = 0.0
    since_s: float | None = None


class Session:
    """One sitting at one world.

    Args:
        world: the world, owned by the thread that calls these methods.
        controller: where a human's actions come from.
        recorder: where the play is logged.
        spawn: the first spawn.
        script: recorded actions to play first, instead of the human; where it names a spawn, that one counts.
        keep_sampler: play the script with the world's current sampler settings, not the recorded ones.
        replay: begin with the recorded actions of the spawns in control; they go on from spawn to spawn.
        horizon: frames after which the next spawn begins; None: the world's.

    Raises:
        DiamondError: a script of another action space.
    """

    def __init__(
        self,
        world: PlayableWorld,
        controller: Controller,
        recorder: Recorder,
        spawn: int = 0,
        script: Recording | None = None,
        keep_sampler: bool = False,
        replay: bool = False,
        horizon: int | None = None,
    ) -> None:
        if script is not None:
            script.require_space(world.action_space)
        self._world, self._controller, self._recorder = world, controller, recorder
        self._script, self._keep_sampler = script, keep_sampler
        self._spawn, self._begins_replaying = spawn, replay
        self._horizon = world.horizon if horizon is None else horizon
        self._own_sampling = None if world.preset in world.presets else Sampling.of(world)
        self._replay: Replay | None = None  # None: the human is in control
        self._paused = self._step_once = False
        self._message, self._message_frames = "", 0
        self._failure: DiamondError | None = None
        self._action = Action()
        self._frame_index = 0
        self._frame_ms: deque[float] = deque(maxlen=WINDOW_FRAMES)
        self._ends_s: deque[float] = deque(maxlen=WINDOW_FRAMES)

    @property
    def replaying(self) -> bool:
        """Whether recorded actions are in control and there are some left; those of the spawns never run out."""
        return self._replay is not None and not (self._follows_script and self._replay.ended)

    @property
    def idle(self) -> bool:
        """Whether `tick` would play nothing: paused, and no single step asked for."""
        return self._paused and not self._step_once

    def warm_up(self) -> None:
        """Runs a few frames that nobody sees, so that the first one played is not the slowest."""
        self._world.reset(self._spawn)
        for _ in range(WARM_UP_FRAMES):
            self._world.step(self._world.action_space.idle())

    def start(self) -> Played:
        """Begins: resets to the spawn, or to the script's, and gives its frame; recording starts if it is to.

        Raises:
            DiamondError: the recording cannot be started.
        """
        self._recorder.begin()
        replays = self._begins_replaying or self._script is not None
        return (self._begin_replay(self._spawn) if replays else None) or self._reset(self._spawn)

    def tick(self) -> Played | None:
        """Plays one frame; None while the game is paused."""
        if self.idle:
            return None
        self._step_once = False
        self._message_frames -= 1

        # 1. The end of a life. A script says itself when it resets, and hands over to the human at its end.
        if self._follows_script and not self.replaying:
            self._replay = None
            self._say("the recording has ended: you are in control")
        if not self._follows_script and self._frame_index >= self._last_frame:
            horizon = f"horizon of {self._horizon} frames reached"
            why = horizon if self._last_frame == self._horizon else "the recorded actions have ended"
            self._say(f"{why}: next spawn")
            return self._next_spawn()

        # 2. The action.
        vector, since_s = self._next_action()
        self._action = self._world.action_space.decode(vector)

        # 3. The frame.
        began_s = time.perf_counter()
        frame = self._world.step(vector)
        self._ends_s.append(time.perf_counter())
        self._frame_ms.append((self._ends_s[-1] - began_s) * 1e3)
        self._frame_index = frame.index

        # 4. The record.
        try:
            self._recorder.on_step(vector, frame)
        except DiamondError as error:  # a full disk ends the recording, not the game
            self._failure = error
            self._say(f"recording given up: {error.what}")
        return Played(frame, self._frame_ms[-1], since_s)

    def obey(self, command: Command) -> Played | None:
        """Does what a command says, as far as it concerns the game; gives a frame if there is a new one."""
        self._say("")
        match command:
            case Command.PAUSE:
                self._paused = not self._paused
                self._forget_pauses()
            case Command.STEP:
                self._paused = self._step_once = True
            case Command.RESET:
                return self._next_spawn()
            case Command.CONTROL:
                return self._switch_control()
            case Command.PRESET:
                self._next_preset()
            case Command.RECORD:
                self._toggle_recording()
        return None

    def finish(self) -> Path | None:
        """Ends the sitting: saves what is being recorded and says where.

        Raises:
            DiamondError: it cannot be written, or an earlier recording could not.
        """
        saved = self._recorder.stop()
        if self._failure is not None:
            raise self._failure
        return saved

    def status(self) -> Status:
        """What there is to say now."""
        span_s = self._ends_s[-1] - self._ends_s[0] if len(self._ends_s) > 1 else 0.0
        return Status(
            world=self._world.name,
            sampling=sampler_text(self._world),
            spawn=self._spawn,
            frame_index=self._frame_index,
            horizon=self._last_frame,
            control="you" if self._replay is None else "recording",
            action=self._action,
            mouse_multiplier=self._controller.mouse_multiplier,
            frame_ms=float(np.median(self._frame_ms)) if self._frame_ms else 0.0,
            fps=(len(self._ends_s) - 1) / span_s if span_s else 0.0,
            paused=self._paused,
            recording=str(self._recorder.path or ""),
            message=self._message if self._message_frames > 0 else "",
        )

    @property
    def _follows_script(self) -> bool:
        """Whether the script is in control, rather than the human or the recorded actions of the spawn."""
        return self._replay is not None and self._replay.recording is self._script

    @property
    def _last_frame(self) -> int:
        """The frame that ends this life."""
        if self._replay is None or self._follows_script:
            return self._horizon
        return min(self._horizon, len(self._replay.recording.actions))

    def _next_action(self) -> tuple[Vector, float | None]:
        taken = self._controller.take()  # in a replay too, or all of it would arrive at the end
        if self._replay is None:
            return self._world.action_space.encode(taken.action), taken.since_s
        events, vector = self._replay.next()
        for event in events:
            if event.spawn is not None:
                self._reset(event.spawn)
            if event.sampling is not None:
                self._set_sampling(event.sampling)
        return vector, None

    def _next_preset(self) -> None:
        names = [*self._world.presets, *([self._own_sampling.preset] if self._own_sampling else [])]
        current = names.index(self._world.preset) if self._world.preset in names else -1
        following = names[(current + 1) % len(names)]
        if self._own_sampling is not None and following == self._own_sampling.preset:
            self._own_sampling.set(self._world)
        else:
            self._world.set_preset(following)
        self._recorder.on_sampler()
        self._frame_ms.clear()

    def _toggle_recording(self) -> None:
        try:
            if self._recorder.is_on:
                self._say(f"saved {self._recorder.stop()}")
            else:
                self._recorder.start()
        except DiamondError as error:  # the game goes on; `finish` will say it again
            self._failure = error
            self._say(f"recording failed: {error.what}")

    def _next_spawn(self) -> Played:
        following = (self._spawn + 1) % self._world.spawn_count
        return (None if self._replay is None else self._begin_replay(following)) or self._reset(following)

    def _switch_control(self) -> Played | None:
        if self._replay is None:
            return self._begin_replay(self._spawn)
        self._replay = None  # the human takes over where the recording is
        return None

    def _begin_replay(self, spawn: int) -> Played | None:
        """Puts recorded actions in control, from their start: the script's, or those of `spawn`."""
        recording = self._script or Recording(
            recorded_actions(self._world, spawn), self._world.action_space, self._world.fps, spawn=spawn
        )
        if not len(recording.actions):
            self._replay = None
            self._say(f"spawn {spawn} has no recorded actions: you are in control")
            return None
        self._replay = Replay(recording)
        if recording.sampling is not None:
            self._set_sampling(recording.sampling)
        return self._reset(self._spawn if recording.spawn is None else recording.spawn)

    def _reset(self, spawn: int) -> Played:
        frame = self._world.reset(spawn)
        self._spawn, self._frame_index = spawn, frame.index
        self._recorder.on_reset(spawn)
        self._action = Action()
        self._forget_pauses()
        return Played(frame)

    def _set_sampling(self, sampling: Sampling) -> None:
        if not self._keep_sampler:
            sampling.set(self._world)
            self._recorder.on_sampler()

    def _say(self, message: str) -> None:
        self._message, self._message_frames = message, MESSAGE_FRAMES

    def _forget_pauses(self) -> None:
        """What came in while no frame was played does not count, neither as input nor as time."""
        self._controller.forget_pending()
        self._ends_s.clear()
