"""A published release -> a bundle: what `diamond-export csgo` does.

Reads the release strictly (`train.release`), gives it the presets of the published player, and hands all of it to
`export.assemble`. Nothing here is tied to Counter-Strike but the name it goes by.
"""

import hashlib
from pathlib import Path

from engine.errors import DiamondError
from engine.hub import REPO
from engine.space import free_disk_bytes, memory_text, require_disk, size_text
from engine.spawn import Spawn
from export.assemble import WorldParts
from export.options import Say
from train.presets import PUBLISHED_DEFAULT, PUBLISHED_PRESETS
from train.release import CHECKPOINT, Release, load_release_agent, read_release

MEMORY_FACTOR = 3.0  # of the weights in fp32, at the peak of the conversion: docs/csgo.md
NAME, TITLE = "csgo", "Counter-Strike: Global Offensive"


def parts_from_release(path: Path, say: Say, name: str | None = None, title: str | None = None) -> WorldParts:
    """The world of a release: its networks, presets and every spawn.

    Args:
        path: the directory that holds config/, model/ and spawn/.
        say: takes one line of progress at a time.
        name, title: of the world; None for those of the published one.

    Raises:
        DiamondError: not a release, or one that contradicts itself, naming file and field.
    """
    release = read_release(path)
    spawns = release.spawns()
    agent = load_release_agent(release)
    millions = sum(weight.numel() for weight in agent.parameters()) / 1e6
    say(f"{path}: {millions:.1f} M weights, {len(spawns)} spawns, {_sizes(release)}")
    return WorldParts(
        agent=agent,
        name=name or NAME,
        title=title or TITLE,
        fps=release.fps,
        low_res=release.low_res,
        action_space=release.action_space,
        presets={
            preset: {
                net: cfg if net == "denoiser" or agent.upsampler else None for net, cfg in samplers.items()
            }
            for preset, samplers in PUBLISHED_PRESETS.items()
        },
        default_preset=PUBLISHED_DEFAULT,
        spawns=spawns,
        made_by={"release": _origin(path), "checkpoint_sha256": checkpoint_sha256(path)},
    )


def state_cost(parts: WorldParts, out: Path, say: Say) -> None:
    """Says what the conversion is about to take.

    Raises:
        DiamondError: the disk is too small for it.
    """
    weights_bytes = sum(4 * weight.numel() for weight in parts.agent.state_dict().values())
    disk_bytes = round(1.05 * weights_bytes) + sum(_pixels(spawn) for spawn in parts.spawns)
    say(
        f"converting {size_text(weights_bytes)} of weights: {memory_text(MEMORY_FACTOR * weights_bytes)}; "
        f"{size_text(disk_bytes)} of disk, {size_text(free_disk_bytes(out))} free"
    )
    require_disk(out.parent, disk_bytes, "the world", "free some space, or choose another --out")


def checkpoint_sha256(release: Path) -> str:
    """SHA-256 of the weights' file, in hex.

    Raises:
        DiamondError: it cannot be read.
    """
    path = release / CHECKPOINT
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DiamondError(f"{path}: cannot be read: {error.strerror}", "the release's weights") from error


def _origin(release: Path) -> str:
    """Repository and commit of a release in the Hugging Face cache; else the directory's name."""
    snapshot = release.parent
    if snapshot.parent.name == "snapshots":
        return f"{REPO}@{snapshot.name}"
    return release.resolve().name


def _pixels(spawn: Spawn) -> int:
    return spawn.low_res.nbytes + (0 if spawn.full_res is None else spawn.full_res.nbytes)


def _sizes(release: Release) -> str:
    sizes = [release.low_res] if release.full_res is None else [release.low_res, release.full_res]
    return "frames of " + " and ".join(f"{height}x{width}" for height, width in sizes)
