"""Recording while playing: the actions into an npz, or the frames into an mp4.

The log of actions always runs, since the last reset: so an action recording that is started in mid-play
begins where the world began, and replays exactly.
"""

from datetime import datetime
from pathlib import Path

import numpy as np

from engine.actions import Vector
from engine.errors import DiamondError
from engine.player.playable import PlayableFrame, PlayableWorld
from engine.player.recording import Event, Recording, Sampling
from engine.player.video import VideoWriter, require_av


class Recorder:
    """Keeps the log, and writes it, or a video, while recording is on.

    Args:
        world: the world being played.
        fps: frames a second of a video.
        target: where the first recording goes: .npz for actions, .mp4 for video. Later ones, and the first
            where this is None, get a name with the time, in the working directory.

    Raises:
        DiamondError: a target that cannot be recorded to.
    """

    def __init__(self, world: PlayableWorld, fps: float, target: Path | None = None) -> None:
        self._world, self._fps, self._target = world, fps, target
        self._suffix = ".npz" if target is None else target.suffix
        self._log: list[Vector] = []
        self._events: list[Event] = []
        self._start: tuple[int, Sampling] | None = None  # spawn and settings before the first action
        self._video: VideoWriter | None = None
        self.path: Path | None = None
        if target is not None:
            check_target(target)

    @property
    def is_on(self) -> bool:
        """Whether a recording is being made, into `path`."""
        return self.path is not None

    def begin(self) -> None:
        """The game begins: a recorder that was given a target starts.

        Raises:
            DiamondError: a video that cannot be written.
        """
        if self._target is not None:
            self.start()

    def start(self) -> None:
        """Starts a recording.

        Raises:
            DiamondError: a video that cannot be written.
        """
        name = f"{self._world.name}-{datetime.now():%Y%m%d-%H%M%S}{self._suffix}"
        path, self._target = self._target or Path(name), None
        if self._suffix == ".mp4":
            self._video = VideoWriter(path, self._fps)
        self.path = path

    def stop(self) -> Path | None:
        """Finishes the recording; returns its file, or None where nothing was going on.

        Raises:
            DiamondError: the file cannot be written; nothing half-made stays, and recording is off.
        """
        path, self.path = self.path, None
        video, self._video = self._video, None
        if video is not None:
            video.close()
        elif path is not None:
            self.recording().save(path)
        return path

    def on_reset(self, spawn: int) -> None:
        """The world has been reset to `spawn`."""
        if self.is_on and self._log:
            self._events.append(Event(len(self._log), spawn=spawn))
        else:
            self._log, self._events = [], []
            self._start = spawn, Sampling.of(self._world)

    def on_sampler(self) -> None:
        """The world's preset or sampler settings have changed."""
        self._events.append(Event(len(self._log), sampling=Sampling.of(self._world)))

    def on_step(self, action: Vector, frame: PlayableFrame) -> None:
        """The world has taken `action` and painted `frame`.

        Raises:
            DiamondError: the video cannot be written any further; it is discarded, and recording is off.
        """
        self._log.append(action)
        if self._video is not None:
            try:
                self._video.add(frame.rgb)
            except DiamondError:
                self.path = self._video = None
                raise

    def recording(self) -> Recording:
        """What has been played since the log began."""
        assert self._start is not None, "a log begins with a reset"
        spawn, sampling = self._start
        return Recording(
            actions=np.array(self._log, dtype=np.uint8).reshape(-1, self._world.action_space.size),
            action_space=self._world.action_space,
            fps=self._world.fps,
            seed=self._world.seed,
            spawn=spawn,
            world=self._world.name,
            bundle=self._world.bundle.digest,
            sampling=sampling,
            events=tuple(self._events),
        )


def check_target(path: Path) -> None:
    """Checks ahead of time that a recording can be made into `path`.

    Raises:
        DiamondError: it is neither an npz nor an mp4, its directory does not exist, or a video needs what
            is missing.
    """
    if path.suffix not in (".npz", ".mp4"):
        raise DiamondError(f"{path}: unknown kind of recording", "FILE.npz (actions) or FILE.mp4 (video)")
    if not path.absolute().parent.is_dir():
        raise DiamondError(f"{path}: there is no directory {path.parent}", "a directory that exists")
    if path.suffix == ".mp4":
        require_av()
