"""Playing without a window: recorded actions in, an mp4 out, and what it cost."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from engine.player.session import Session
from engine.player.video import VideoWriter


@dataclass(frozen=True)
class Rendered:
    """What a rendering took.

    Attributes:
        path: the video.
        frame_ms: what the world needed for each frame, in order; writing the video not included.
        fps: frames a second at which the video plays.
        recording: the action recording made on the way, or None.
    """

    path: Path
    frame_ms: tuple[float, ...]
    fps: float
    recording: Path | None

    def rows(self) -> dict[str, str]:
        """What to print at the end, by name."""
        count = len(self.frame_ms)
        size_mb = self.path.stat().st_size / 1e6
        p50, p95 = np.percentile(self.frame_ms, (50, 95))
        rows = {
            "video": f"{self.path}: {count} frames, {count / self.fps:.1f} s at {self.fps:g} fps, {size_mb:.1f} MB",
            "frame_ms": f"p50 {p50:.1f}, p95 {p95:.1f}",
            "fps": f"{1e3 / np.mean(self.frame_ms):.1f}, writing the video not counted",
        }
        return rows if self.recording is None else rows | {"recording": str(self.recording)}


def render(session: Session, path: Path, frames: int, fps: float) -> Rendered:
    """Plays and writes the video, with a progress bar.

    Args:
        session: with a script, it ends with the script if that is shorter than `frames`.
        path: the mp4; it appears only when complete.
        frames: number of frames, at least 1.
        fps: frames a second of the video.

    Raises:
        DiamondError: the video cannot be written; nothing of it stays.
    """
    frame_ms: list[float] = []
    try:
        with VideoWriter(path, fps) as video:
            session.warm_up()
            session.start()
            scripted = session.replaying
            with tqdm(total=frames, desc=path.name, unit="frame", mininterval=_update_s()) as progress:
                while len(frame_ms) < frames and (session.replaying or not scripted):
                    played = session.tick()
                    assert played is not None, "nobody pauses"
                    if played.frame.index:  # a reset's frame is a picture of the spawn, not the world's work
                        video.add(played.frame.rgb)
                        frame_ms.append(played.frame_ms)
                        progress.update()
    finally:
        recording = session.finish()
    return Rendered(path, tuple(frame_ms), fps, recording)


def _update_s() -> float:
    """Seconds between two updates of the progress bar: few lines where they go into a log."""
    return 0.2 if sys.stderr.isatty() else 10.0
