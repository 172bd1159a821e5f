"""The YAML of a published release: sizes of both networks and the length of the action vector.

The original hands these files to hydra, which constructs whatever `_target_` names. Here they are data: `_target_` is
skipped, nothing is interpolated or evaluated, and every field is taken by name, type and range. Fields of the agent
must be exactly the known ones. The env file also holds the paths and window size of its authors' machine; only
`num_actions` is read from it, and the sizes of frames are those of the spawns.
"""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from engine.errors import DiamondError
from engine.fields import Fields
from engine.graphs import CHANNELS
from engine.plain_yaml import read_yaml
from train.model import AgentConfig, DenoiserConfig, InnerModelConfig

AGENT_YAML = "config/agent/csgo.yaml"
ENV_YAML = "config/env/csgo.yaml"

_FIX = "download the release again, or put the file right"
_AGENT = ("denoiser", "upsampler", "rew_end_model", "actor_critic")
_NETWORK = ("sigma_data", "sigma_offset_noise", "noise_previous_obs", "upsampling_factor", "inner_model")
_INNER = ("img_channels", "num_steps_conditioning", "cond_channels", "depths", "channels", "attn_depths")

# Far above any network of this family; building one of a damaged file's sizes must not take forever.
MAX_LEVELS, MAX_DEPTH, MAX_CHANNELS, MAX_HISTORY, MAX_ACTIONS = 16, 64, 1 << 16, 256, 1 << 16
MAX_FACTOR = 32


def read_agent_config(release: Path) -> AgentConfig:
    """Reads both files.

    Args:
        release: the release's directory.

    Raises:
        DiamondError: naming the file and the dotted field that is missing, unknown, ill-typed or out of range.
    """
    env = _Section(release / ENV_YAML, "", read_yaml(release / ENV_YAML), ["num_actions"], more=True)
    file = release / AGENT_YAML
    agent = _Section(file, "", read_yaml(file), _AGENT)
    for name in ("rew_end_model", "actor_critic"):
        if agent.data[name] is not None:
            raise DiamondError(
                f"{file}: {name} is not null",
                "null: the world that is played has no reward model and no policy",
                "use the release's csgo directory, not another game's",
            )
    return AgentConfig(
        denoiser=_network(file, "denoiser", agent.data["denoiser"]),
        upsampler=None
        if agent.data["upsampler"] is None
        else _network(file, "upsampler", agent.data["upsampler"]),
        num_actions=env.whole("num_actions", MAX_ACTIONS),
    )


class _Section(Fields):
    """One mapping of a file, its fields taken by type; errors name the file and the dotted field."""

    def __init__(
        self, file: Path, name: str, data: Any, required: Collection[str], more: bool = False
    ) -> None:
        self.file, self.name = file, name
        if not isinstance(data, dict):
            raise DiamondError(f"{file}: {name} is {data!r:.60}", "a mapping", _fix(data))
        data = {key: value for key, value in data.items() if key != "_target_"}
        if missing := [self.dotted(key) for key in required if key not in data]:
            raise DiamondError(
                f"{file}: lacks {', '.join(missing)}", f"the fields {', '.join(required)}", _FIX
            )
        if not more and (unknown := [self.dotted(key) for key in data if key not in required]):
            raise DiamondError(f"{file}: unknown {', '.join(unknown)}", f"only {', '.join(required)}", _FIX)
        super().__init__(data, f"{file}: {name}", required, more)

    def dotted(self, field: str) -> str:
        """The field's name from the file's root."""
        return f"{self.name}.{field}" if self.name else field

    def fail(self, name: str, expected: str) -> DiamondError:
        """The error for a field whose value is not what it should be."""
        value = self.data[name]
        return DiamondError(f"{self.file}: {self.dotted(name)} is {value!r:.60}", expected, _fix(value))

    def whole(self, name: str, most: int) -> int:
        """An integer from 1 to `most`."""
        value = self.integer(name)
        if not 1 <= value <= most:
            raise self.fail(name, f"1 to {most}")
        return value

    def wholes(self, name: str, most: int) -> tuple[int, ...]:
        """One integer from 1 to `most` for each level."""
        values = self.integers(name)
        if not 1 <= len(values) <= MAX_LEVELS or not all(1 <= value <= most for value in values):
            raise self.fail(name, f"1 to {MAX_LEVELS} integers from 1 to {most}")
        return values

    def scale(self, name: str, zero: bool) -> float:
        """A finite number above 0, or also 0."""
        value = self.number(name)
        if not (value > 0 or (zero and value == 0)) or not math.isfinite(value):
            raise self.fail(name, "a finite number, 0 or more" if zero else "a finite number above 0")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.data[name]
        if not isinstance(value, bool):
            raise self.fail(name, "true or false")
        return value

    def flags(self, name: str) -> tuple[bool, ...]:
        """A list of true and false, also written 1 and 0."""
        values = self.items(name)
        if not all(isinstance(value, bool | int) and value in (0, 1) for value in values):
            raise self.fail(name, "a list of 0 and 1")
        return tuple(bool(value) for value in values)


def _network(file: Path, name: str, data: Any) -> DenoiserConfig:
    fields = _Section(file, name, data, _NETWORK)
    inner = _Section(file, f"{name}.inner_model", fields.data["inner_model"], _INNER)
    if inner.integer("img_channels") != CHANNELS:
        raise inner.fail("img_channels", f"{CHANNELS}: red, green, blue")
    if name == "denoiser" and fields.data["upsampling_factor"] is not None:
        raise fields.fail("upsampling_factor", "null: only the upsampler enlarges")
    sizes: dict[str, Any] = {
        "img_channels": CHANNELS,
        "num_steps_conditioning": inner.whole("num_steps_conditioning", MAX_HISTORY),
        "cond_channels": inner.whole("cond_channels", MAX_CHANNELS),
        "depths": inner.wholes("depths", MAX_DEPTH),
        "channels": inner.wholes("channels", MAX_CHANNELS),
        "attn_depths": inner.flags("attn_depths"),
    }
    try:
        inner_model = InnerModelConfig(**sizes)
    except DiamondError as error:  # sizes that contradict each other
        raise DiamondError(f"{file}: {inner.name}: {error.what}", error.expected, _FIX) from error
    return DenoiserConfig(
        inner_model=inner_model,
        sigma_data=fields.scale("sigma_data", zero=False),
        sigma_offset_noise=fields.scale("sigma_offset_noise", zero=True),
        noise_previous_obs=fields.flag("noise_previous_obs"),
        upsampling_factor=None if name == "denoiser" else fields.whole("upsampling_factor", MAX_FACTOR),
    )


def _fix(value: Any) -> str:
    if isinstance(value, str) and "${" in value:
        return "write the value itself: interpolations are not evaluated"
    return _FIX
