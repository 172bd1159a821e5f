"""A published release: a directory with configs, one checkpoint and spawns, read as it was released.

    config/agent/csgo.yaml    sizes of the networks          spawn/N/*.npy    places to start from
    config/env/csgo.yaml      length of the action vector    model/csgo.pt    weights of both networks

Frame sizes are those of the spawns, the full resolution is the upsampler's factor times the low one, and the rate is
that of the published player: the release itself states none of them. Nothing here is tied to Counter-Strike but the
names of the files, and the meaning of a vector of 51 entries.
"""

from dataclasses import dataclass
from pathlib import Path

from engine.actions import KEYBOARD_MOUSE_51, ActionSpace
from engine.errors import DiamondError
from engine.graphs import Sizes
from engine.spawn import Spawn
from train.model import Agent, AgentConfig
from train.release_checkpoint import build_agent
from train.release_config import AGENT_YAML, read_agent_config
from train.release_spawns import low_res_size, read_release_spawn, spawn_folders

CHECKPOINT = "model/csgo.pt"
FPS = 15.0  # of the published player; the recordings it was trained on have 16
_PLAIN_KEYS = "1234567890abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Release:
    """What a release is made of, its weights and spawns not yet read.

    Attributes:
        path: its directory.
        agent: sizes of both networks and of the action vector.
        action_space: what the entries of an action vector mean.
        fps: frames a second.
        low_res: (height, width) of the denoiser's frames.
        full_res: (height, width) of the upsampler's frames; None without one.
        spawn_folders: in the order of play.
    """

    path: Path
    agent: AgentConfig
    action_space: ActionSpace
    fps: float
    low_res: tuple[int, int]
    full_res: tuple[int, int] | None
    spawn_folders: tuple[Path, ...]

    @property
    def checkpoint(self) -> Path:
        """The file of weights."""
        return self.path / CHECKPOINT

    @property
    def sizes(self) -> Sizes:
        """What the tensors of this world depend on."""
        upsampler = self.agent.upsampler
        return Sizes(
            low_res=self.low_res,
            full_res=self.full_res,
            denoiser_history=self.agent.denoiser.inner_model.num_steps_conditioning,
            upsampler_history=None if upsampler is None else upsampler.inner_model.num_steps_conditioning,
            action_size=self.action_space.size,
        )

    def spawns(self) -> tuple[Spawn, ...]:
        """Reads every spawn, in the order of play.

        Raises:
            DiamondError: naming the file that does not fit.
        """
        return tuple(
            read_release_spawn(folder, self.sizes, self.action_space) for folder in self.spawn_folders
        )


def read_release(path: str | Path) -> Release:
    """Reads a release's description: its configs, and the frame size of its first spawn.

    Args:
        path: the directory that holds config/, model/ and spawn/.

    Raises:
        DiamondError: not a release, or one that contradicts itself, naming file and field.
    """
    path = Path(path)
    _require_release(path)
    agent = read_agent_config(path)
    folders = spawn_folders(path)
    low_res = low_res_size(folders[0])
    factor = None if agent.upsampler is None else agent.upsampler.upsampling_factor
    return Release(
        path=path,
        agent=agent,
        action_space=action_space(agent.num_actions),
        fps=FPS,
        low_res=low_res,
        full_res=None if factor is None else (low_res[0] * factor, low_res[1] * factor),
        spawn_folders=folders,
    )


def load_release_agent(release: str | Path | Release) -> Agent:
    """Both networks with the released weights, float32, in evaluation mode on the CPU.

    The weights stay in the checkpoint's file and are mapped from it: keep the file in place while they are used.

    Args:
        release: a release, or its directory.

    Raises:
        DiamondError: not a release, or a checkpoint that holds anything but exactly the weights of its networks.
    """
    if not isinstance(release, Release):
        release = read_release(release)
    return build_agent(release.agent, release.checkpoint)


def action_space(num_actions: int) -> ActionSpace:
    """What a vector of this length means: the published layout for 51 entries, else one plain key an entry.

    A release does not say. Entries beyond the keys of a keyboard are reached by recorded actions only.
    """
    if num_actions == KEYBOARD_MOUSE_51.size:
        return KEYBOARD_MOUSE_51
    keys = tuple(_PLAIN_KEYS[:num_actions]) + tuple(
        f"action {i}" for i in range(len(_PLAIN_KEYS), num_actions)
    )
    labels = {key: f"action {index}" for index, key in enumerate(keys)}
    return ActionSpace(keys=keys, mouse_x=(), mouse_y=(), buttons=(), labels=labels)


def _require_release(path: Path) -> None:
    """Checks that the directory looks like a release at all, before a missing file is called damage."""
    expected = "a directory with config/, model/ and spawn/, such as csgo/ of the published repository"
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise DiamondError(f"{path}: {what}", expected)
    if not (path / AGENT_YAML).is_file():
        inside = path / "csgo"
        fix = f"give {inside}" if (inside / AGENT_YAML).is_file() else "download the release again"
        raise DiamondError(f"{path}: lacks {AGENT_YAML}", expected, fix)
    if not (path / CHECKPOINT).is_file():
        raise DiamondError(f"{path}: lacks {CHECKPOINT}", expected, "download the release again")
