"""Sampler settings of one's own: what changes in a preset, by a YAML file and by the command line.

    denoiser: {steps: 4}                           in a file; what it leaves out stays as the preset has it
    upsampler: {s_churn: 5, s_tmax: inf}
    upsampler.s_churn=5                            on the command line

Of two changes of one setting the later counts. A file of the published repository's config/world_model_env is read
too: its names stand for ours, and its horizon counts. Nothing in a file is evaluated. Names and types are checked
here; ranges are the business of `SamplerConfig`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import DiamondError
from engine.plain_yaml import read_yaml
from engine.schedule import SamplerConfig

NETWORKS = ("denoiser", "upsampler")
HORIZON = "horizon"
FIELDS = tuple(field.name for field in dataclasses.fields(SamplerConfig))
_WHOLE = tuple(field.name for field in dataclasses.fields(SamplerConfig) if isinstance(field.default, int))

# What the published repository calls them, and what it says besides.
_PUBLISHED = {
    "diffusion_sampler_next_obs": "denoiser",
    "diffusion_sampler_upsampling": "upsampler",
    "num_steps_denoising": "steps",
}
_PASSED_OVER = ("_target_", "num_batches_to_preload")


@dataclass(frozen=True)
class Change:
    """One setting of one network; `source` says who asked for it."""

    source: str
    network: str
    field: str
    value: float


@dataclass(frozen=True)
class Tuning:
    """Changes, the later ones counting more, and the horizon of a file that names one."""

    changes: tuple[Change, ...] = ()
    horizon: int | None = None

    def applied(self, world: str, samplers: Mapping[Any, SamplerConfig]) -> dict[str, SamplerConfig]:
        """The settings of the networks that change.

        Args:
            world: its name, for errors.
            samplers: its settings so far, by network.

        Raises:
            DiamondError: the world has no such network, or a value is out of range.
        """
        changed: dict[str, SamplerConfig] = {}
        for network in dict.fromkeys(change.network for change in self.changes):
            changes = [change for change in self.changes if change.network == network]
            if network not in samplers:
                what = f"{changes[0].source}: {network}.{changes[0].field}: world {world!r} has no {network}"
                raise DiamondError(what, f"settings of {', '.join(samplers)}")
            values: dict[str, Any] = {change.field: change.value for change in changes}
            try:
                changed[network] = dataclasses.replace(samplers[network], **values)
            except DiamondError as error:
                reason = error.what.removeprefix("sampler: ")
                sources = dict.fromkeys(change.source for change in changes if change.field in reason)
                raise DiamondError(f"{', '.join(sources)}: {network}.{reason}", error.expected) from error
        return changed


def tuning(file: Path | None = None, settings: Sequence[str] = (), steps: Sequence[int] = ()) -> Tuning:
    """Puts together what was asked for; a later argument counts more.

    Args:
        file: YAML, see above.
        settings: texts such as "upsampler.s_churn=5".
        steps: steps of the denoiser, and of the upsampler.

    Raises:
        DiamondError: naming the file and the dotted field, or the text, that is wrong.
    """
    from_file = Tuning() if file is None else _read(file)
    from_steps = [Change("--steps", *both) for both in zip(NETWORKS, ["steps"] * 2, steps, strict=False)]
    changes = (*from_file.changes, *(_parse(text) for text in settings), *from_steps)
    return Tuning(changes, from_file.horizon)


def _read(path: Path) -> Tuning:
    changes: list[Change] = []
    horizon = None
    for written, name, section in _ours(f"{path}: ", read_yaml(path), (*NETWORKS, HORIZON)):
        where = f"{path}: {written}"
        if name == HORIZON:
            horizon = int(_number(where, section, whole=True))
            if horizon < 1:
                raise DiamondError(f"{where} is {horizon}", "at least 1")
        elif not isinstance(section, dict):
            raise DiamondError(f"{where} is {section!r:.100}", f"settings out of {', '.join(FIELDS)}")
        else:
            for field_written, field, value in _ours(f"{where}.", section, FIELDS):
                number = _number(f"{where}.{field_written}", value, field in _WHOLE)
                changes.append(Change(str(path), name, field, number))
    return Tuning(tuple(changes), horizon)


def _ours(where: str, mapping: Mapping[str, Any], known: Sequence[str]) -> list[tuple[str, str, Any]]:
    """Each name as it is written, as we call it, and its value."""
    found: dict[str, tuple[str, str, Any]] = {}
    for written, value in mapping.items():
        if written in _PASSED_OVER:
            continue
        name = _PUBLISHED.get(written, written)
        if name not in known:
            raise DiamondError(f"{where}{written} is unknown", f"one of {', '.join(known)}")
        if name in found:
            raise DiamondError(f"{where}{written} says what {found[name][0]} said", "one of the two")
        found[name] = written, name, value
    return list(found.values())


def _parse(text: str) -> Change:
    name, equals, value = text.partition("=")
    network, dot, field = name.partition(".")
    if not (equals and dot):
        raise DiamondError(f"--set {text}: is no setting", "NETWORK.FIELD=VALUE: upsampler.s_churn=5")
    for word, known in ((network, NETWORKS), (field, FIELDS)):
        if word not in known:
            raise DiamondError(f"--set {text}: {word!r} is unknown", f"one of {', '.join(known)}")
    return Change("--set", network, field, _number(f"--set {name}", _plain(value), field in _WHOLE))


def _plain(text: str) -> object:
    """The number that a text stands for; the text itself where it is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _number(where: str, value: object, whole: bool) -> float:
    if value in ("inf", ".inf"):
        value = math.inf
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return value if whole else float(value)
        except OverflowError:
            pass
    if isinstance(value, float) and not whole:
        return value
    evaluated = isinstance(value, str) and "${" in value
    raise DiamondError(
        f"{where} is {value!r:.100}",
        "an integer" if whole else "a number; infinity is inf",
        "write the number itself, such as inf: nothing is evaluated" if evaluated else "",
    )
