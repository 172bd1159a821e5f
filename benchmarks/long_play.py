"""Long rollouts of a world under scripted play, watched by the detectors; and what they are held against."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bends import BENT, CHORD, LONG_CHORD, Bends
from benchmarks.detectors import DETECTORS, IN_A_ROW, Limits, Log, Pixels
from benchmarks.held_out import held_out
from benchmarks.limits import control, from_recordings, from_spawns, turned
from benchmarks.wandering import wander
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.world import World

ON_SHEET = (0, 16, 64, 125, 250, 500, 750, 1000)
SHARPNESS_EVERY = 100  # frames that are averaged for one figure


@dataclass(frozen=True, eq=False)
class Endured:
    """One rollout.

    Attributes:
        spawn: where it began.
        log: what the detectors said.
        sheet: the frames for the contact sheet, uint8 RGB (H, W, 3).
        refusal: why the world painted no more, in its words.
    """

    spawn: int
    log: Log
    sheet: Sequence[Pixels]
    refusal: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain data; "sharpness" is relative to the reference, a mean for every `SHARPNESS_EVERY` frames."""
        gradients = self.log.gradients
        parts = [gradients[k : k + SHARPNESS_EVERY] for k in range(0, len(gradients), SHARPNESS_EVERY)]
        return {
            "spawn": self.spawn,
            "frames": len(gradients),
            "refusal": self.refusal,
            "detectors": self.log.to_json(),
            "bends": self.log.bends.to_json(),
            "sharpness": [round(float(np.mean(part)) / self.log.limits.gradient, 3) for part in parts],
        }


def endure(world: World, spawn: int, frames: int, limits: Limits, seed: int) -> Endured:
    """Plays `frames` frames from a spawn; the script is drawn from `seed` and the spawn's number."""
    log, refusal = Log(limits), None
    shown = world.reset(spawn).rgb
    sheet = [shown]
    actions = wander(world.action_space, 1000 * seed + spawn)
    for index in range(1, frames + 1):
        action = next(actions)
        try:
            frame = world.step(action)
        except DiamondError as error:
            refusal = f"frame {index}: {error.what}"
            break
        log.see(frame.rgb, shown, bool(turned(world.action_space, action[None])[0]))
        shown = frame.rgb
        if index in ON_SHEET:
            sheet.append(shown)
    return Endured(spawn, log, sheet, refusal)


def totals(logs: Sequence[Log]) -> dict[str, dict[str, Any]]:
    """By detector, of several rollouts: "fired" of "judged" frames, "alarms", "rollouts" with one, and the "first"."""
    counts = [log.to_json() for log in logs]
    found: dict[str, dict[str, Any]] = {}
    for name in DETECTORS:
        rows = [count[name] for count in counts]
        firsts = [row["first"] for row in rows if row["first"] is not None]
        found[name] = {key: sum(row[key] or 0 for row in rows) for key in ("judged", "fired", "alarms")}
        found[name] |= {"rollouts": len(firsts), "first": min(firsts, default=None)}
    return found


def lines(logs: Sequence[Log]) -> dict[str, float | int | None]:
    """How straight the lines of several rollouts are, see `Bends.to_json`."""
    return sum((log.bends for log in logs), Bends()).to_json()


def reference(bundle: Bundle, data: Path | None, say: Callable[[str], None]) -> tuple[Limits, list[Log]]:
    """The limits, and what the detectors say of real play by them; of it nothing without recordings.

    Raises:
        DiamondError: recordings that are missing, or of another world.
    """
    manifest = bundle.manifest
    if data is None:
        spawns = [bundle.spawn(index) for index in range(len(manifest.spawns))]
        shown = [spawn.low_res if spawn.full_res is None else spawn.full_res for spawn in spawns]
        return from_spawns([frames[-1].transpose(1, 2, 0) for frames in shown]), []
    episodes = held_out(data, manifest, IN_A_ROW)
    say(f"limits from every other one of {len(episodes)} held-out episodes")
    limits = from_recordings(episodes[::2], manifest.sizes, manifest.action_space)
    return limits, control(episodes[1::2], manifest.sizes, manifest.action_space, limits)


def watch(bundle: Bundle, data: Path, limits: Limits) -> list[Log]:
    """What the detectors say of other real play by the same limits, of all held-out episodes of a folder.

    Raises:
        DiamondError: recordings that are missing, or of another world.
    """
    manifest = bundle.manifest
    return control(held_out(data, manifest, IN_A_ROW), manifest.sizes, manifest.action_space, limits)


def line(rollout: Endured) -> str:
    """spawn 3: frozen - (0), flat from 412 (96), ...: the first frame of the first alarm, and the frames that fired."""
    found = rollout.log.to_json()
    words = [
        f"{name} {'-' if row['first'] is None else 'from ' + str(row['first'])} ({row['fired']})"
        for name, row in found.items()
    ]
    ended = f"; ENDED, {rollout.refusal}" if rollout.refusal else ""
    return f"spawn {rollout.spawn}: {', '.join(words)}; sharpness {rollout.to_json()['sharpness']}{ended}"


def summary(what: str, found: dict[str, dict[str, Any]], bent: dict[str, float | int | None]) -> str:
    """One line for several rollouts: their `totals` and their `lines`."""
    words = [
        f"{name} {row['fired']} of {row['judged']} frames, {row['alarms']} alarms in {row['rollouts']} rollouts"
        for name, row in found.items()
    ]
    if bent["points"]:
        words.append(
            f"lines bend by {bent['mean_px']} px in {CHORD:.0f}, {bent['bent']:.0%} of them by more than {BENT}, "
            f"and by {bent['long_mean_px']} px in {LONG_CHORD:.0f}"
        )
    return f"{what}: " + "; ".join(words)


def filled(rows: Sequence[Sequence[Pixels]]) -> list[list[Pixels]]:
    """Rows of equal length for a contact sheet: one that ended early goes on in black."""
    longest = max(map(len, rows))
    return [[*row, *[np.zeros_like(row[0])] * (longest - len(row))] for row in rows]
