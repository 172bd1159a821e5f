"""How long a fresh process takes to its first frame, and what memory the engine alone needs.

Measured from outside: a new Python loads the world as `diamond-play` would (hashes compared), shows the frame of the
reset and paints the next. None of the benchmark's own libraries is in it. The median of three starts, so that the
world's files are in the system's cache.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.errors import DiamondError

STARTS = 3
PLAYED_FRAMES = 4  # memory has reached its peak by then
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Start:
    """One start of a fresh process.

    Attributes:
        shown_s: from its creation to the frame of the reset, seconds.
        painted_s: to the first frame that the networks painted.
        peak_memory_bytes: the most it had resident, a few frames later.
    """

    shown_s: float
    painted_s: float
    peak_memory_bytes: int


def start(world: Path, settings: dict[str, object]) -> Start:
    """Starts a process that plays `world`; `settings` are the fields of a `Config`.

    Raises:
        DiamondError: it ended, with its last words.
    """
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, __file__, str(world.resolve()), json.dumps(settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines, at_s = [], []
        for line in process.stdout:
            lines.append(line)
            at_s.append(time.perf_counter() - began)
        last_words = process.stderr.read().strip().splitlines()[-1:] or ["without a word"]
    if process.returncode or len(lines) != 3:
        raise DiamondError(f"{world}: a fresh process ended: {last_words[0]}", "its first frames")
    return Start(at_s[0], at_s[1], int(lines[2]))


def median_start(world: Path, settings: dict[str, object]) -> Start:
    """The median of a few starts, figure by figure."""
    starts = [asdict(start(world, settings)) for _ in range(STARTS)]
    return Start(**{name: sorted(one[name] for one in starts)[STARTS // 2] for name in starts[0]})


def _play(world: str, settings: str) -> None:
    from benchmarks.configuration import Config
    from benchmarks.machine import peak_memory_bytes

    with Config(**json.loads(settings)).load(Path(world)) as loaded:
        loaded.reset(0)
        print("shown", flush=True)
        for index in range(PLAYED_FRAMES):
            loaded.step(loaded.action_space.idle())
            if index == 0:
                print("painted", flush=True)
        print(peak_memory_bytes(), flush=True)


if __name__ == "__main__":
    _play(*sys.argv[1:])
