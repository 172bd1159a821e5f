"""world.json as typed, checked data: what a world is, before any of its files is opened.

A world says its own frame sizes, action space, presets and graphs; nothing elsewhere in the engine knows a
particular game. Reading is strict: a field that is missing, unknown, ill-typed or in contradiction with
another is an error that names it. docs/bundle.md describes every field. Knows no files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from engine.actions import ActionSpace
from engine.errors import DiamondError
from engine.fields import Fields
from engine.graphs import Network, Sizes, Tensors, TensorSpec, check_tensors, roles, signature
from engine.schedule import SamplerConfig

SCHEMA = 2
_FIX = "export the world again with diamond-export"
_REQUIRED = (
    *("schema", "name", "title", "fps", "low_res", "full_res", "history", "action_space", "architecture"),
    *("presets", "default_preset", "horizon", "graphs", "spawns", "actions", "files", "made_by"),
)


@dataclass(frozen=True)
class GraphEntry:
    """One graph: its file and its tensors."""

    file: str
    inputs: Tensors
    outputs: Tensors


@dataclass(frozen=True)
class FileEntry:
    """One file: its SHA-256, in hex, and its length in bytes."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class NetworkNoise:
    """The noise scales a network was trained with, see `engine.schedule.Preconditioning`."""

    sigma_data: float
    sigma_offset_noise: float


@dataclass(frozen=True)
class Preset:
    """Sampler settings of both networks; `upsampler` is None in a world without one."""

    denoiser: SamplerConfig
    upsampler: SamplerConfig | None


@dataclass(frozen=True)
class Manifest:
    """A world's description.

    Attributes:
        name: a word safe in file names. title: for people.
        fps: frames a second at which the world was recorded.
        sizes: frame sizes, history lengths, length of the action vector.
        action_space: keys, buttons, mouse bins.
        noise: noise scales, by network.
        architecture: the networks' sizes, for the exporter; the engine does not interpret them.
        presets: sampler settings by name. default_preset: the one to start with.
        horizon: number of frames after which a rollout should be reset.
        graphs: graphs by precision, then role.
        spawns: files to start from. actions: recorded action files, by name.
        files: every file but world.json.
        made_by: free record of what made the world.

    Raises:
        DiamondError: fields that contradict each other.
    """

    name: str
    title: str
    fps: float
    sizes: Sizes
    action_space: ActionSpace
    noise: Mapping[Network, NetworkNoise]
    architecture: Mapping[str, Any]
    presets: Mapping[str, Preset]
    default_preset: str
    horizon: int
    graphs: Mapping[str, Mapping[str, GraphEntry]]
    spawns: tuple[str, ...]
    actions: Mapping[str, str]
    files: Mapping[str, FileEntry]
    made_by: Mapping[str, Any]

    def __post_init__(self) -> None:
        _require(
            bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name)),
            f"name is {self.name!r}",
            "letters, digits, -_.",
        )
        _require(0 < self.fps < 1000, f"fps is {self.fps}", "more than 0, less than 1000")
        _require(self.horizon > 0, f"horizon is {self.horizon}", "at least 1")
        _require(bool(self.spawns), "there are no spawns", "at least one to start from")
        _require(
            self.default_preset in self.presets,
            f"default_preset is {self.default_preset!r}",
            f"one of the presets {sorted(self.presets)}",
        )
        for name, preset in self.presets.items():
            _require(
                (preset.upsampler is None) == (self.sizes.full_res is None),
                f"preset {name!r} and full_res disagree on whether there is an upsampler",
                "both null, or neither",
            )
        self._check_graphs()
        self._check_files()

    def samplers(self, preset: str) -> dict[Network, SamplerConfig]:
        """The sampler settings of a preset, by network.

        Raises:
            DiamondError: there is no such preset.
        """
        if preset not in self.presets:
            raise DiamondError(
                f"world {self.name!r}: has no preset {preset!r}", f"one of {list(self.presets)}"
            )
        both = self.presets[preset]
        samplers: dict[Network, SamplerConfig] = {"denoiser": both.denoiser}
        if both.upsampler is not None:
            samplers["upsampler"] = both.upsampler
        return samplers

    def _check_graphs(self) -> None:
        _require(bool(self.graphs), "there are no graphs", "at least one precision")
        for precision, graphs in self.graphs.items():
            where = f"world.json: graphs: {precision}"
            if set(graphs) != set(roles(self.sizes)):
                raise DiamondError(f"{where}: has {sorted(graphs)}", f"{sorted(roles(self.sizes))}", _FIX)
            for role, graph in graphs.items():
                conditioner = graphs[role if role.endswith("_conditioner") else f"{role}_conditioner"]
                modulation = conditioner.outputs.get("modulation", TensorSpec("", ())).shape
                if len(modulation) != 2 or modulation[1] is None:
                    raise DiamondError(
                        f"{where}: {role}: its conditioner gives no modulation (E, M)", fix=_FIX
                    )
                inputs, outputs = signature(role, self.sizes, modulation[1])
                check_tensors(f"{where}: {role}: inputs", inputs, graph.inputs, _FIX)
                check_tensors(f"{where}: {role}: outputs", outputs, graph.outputs, _FIX)

    def _check_files(self) -> None:
        used = [graph.file for graphs in self.graphs.values() for graph in graphs.values()]
        for name in (*used, *self.spawns, *self.actions.values()):
            _require(
                name in self.files,
                f"{name} is used",
                "every file of the world listed in files, with its hash",
            )
        for name in self.files:
            check_file_name(name)


def check_file_name(name: str) -> None:
    """Checks that a file's name is a plain relative path inside the bundle.

    Raises:
        DiamondError: absolute, leading out of the bundle, not in its simplest form, or world.json itself.
    """
    path = PurePosixPath(name)
    parts_ok = bool(path.parts) and not path.is_absolute() and not {"..", "."} & set(name.split("/"))
    if not parts_ok or path.as_posix() != name or set(name) & set("\\:\0") or name == "world.json":
        raise DiamondError(
            f"world.json: file name {name!r}",
            "a relative path with forward slashes that stays inside the bundle",
            "do not use this bundle unless you trust who made it",
        )


def manifest_from_json(data: object) -> Manifest:
    """Reads the parsed world.json.

    Raises:
        DiamondError: another schema version, a missing, unknown or ill-typed field, or a contradiction.
    """
    if isinstance(data, dict) and "schema" in data and data["schema"] != SCHEMA:
        raise DiamondError(
            f"world.json: schema is {data['schema']!r}",
            f"{SCHEMA}, the version that this diamond-engine reads",
            "upgrade diamond-engine, or export the world again",
        )
    fields = Fields(data, "world.json", _REQUIRED)
    action_space = ActionSpace.from_json(fields.data["action_space"])
    sizes = _sizes(fields, action_space.size)
    architecture = Fields(
        fields.data["architecture"], "world.json: architecture", ["denoiser", "upsampler"], more=True
    )
    return Manifest(
        name=fields.text("name"),
        title=fields.text("title"),
        fps=fields.number("fps"),
        sizes=sizes,
        action_space=action_space,
        noise=_noise(architecture, sizes),
        architecture=architecture.data,
        presets={name: _preset(name, preset) for name, preset in fields.mapping("presets").items()},
        default_preset=fields.text("default_preset"),
        horizon=fields.integer("horizon"),
        graphs={
            precision: _graphs(precision, graphs) for precision, graphs in fields.mapping("graphs").items()
        },
        spawns=fields.texts("spawns"),
        actions=_actions(fields.mapping("actions")),
        files={name: _file(name, entry) for name, entry in fields.mapping("files").items()},
        made_by=fields.mapping("made_by"),
    )


def _require(condition: bool, what: str, expected: str) -> None:
    if not condition:
        raise DiamondError(f"world.json: {what}", expected, _FIX)


def _sizes(fields: Fields, action_size: int) -> Sizes:
    history = Fields(fields.data["history"], "world.json: history", ["denoiser", "upsampler"])
    has_upsampler = fields.data["full_res"] is not None
    if not has_upsampler and history.data["upsampler"] is not None:
        raise history.fail("upsampler", "null, as full_res is null")
    for name in ("denoiser", "upsampler") if has_upsampler else ("denoiser",):
        if history.integer(name) < 1:
            raise history.fail(name, "at least 1 frame")
    return Sizes(
        low_res=_frame_size(fields, "low_res"),
        full_res=_frame_size(fields, "full_res") if has_upsampler else None,
        denoiser_history=history.integer("denoiser"),
        upsampler_history=history.integer("upsampler") if has_upsampler else None,
        action_size=action_size,
    )


def _frame_size(fields: Fields, name: str) -> tuple[int, int]:
    size = fields.integers(name)
    if len(size) != 2 or min(size) < 1:
        raise fields.fail(name, "[height, width] in pixels")
    return size[0], size[1]


def _noise(architecture: Fields, sizes: Sizes) -> dict[Network, NetworkNoise]:
    """The noise scales of each network; checks the upsampling factor on the way."""
    where = "world.json: architecture: "
    scales = ["sigma_data", "sigma_offset_noise"]
    denoiser = Fields(architecture.data["denoiser"], where + "denoiser", scales, more=True)
    noise: dict[Network, NetworkNoise] = {"denoiser": _network_noise(denoiser)}
    if sizes.full_res is None:
        if architecture.data["upsampler"] is not None:
            raise architecture.fail("upsampler", "null, as full_res is null")
        return noise
    upsampler = Fields(
        architecture.data["upsampler"], where + "upsampler", [*scales, "upsampling_factor"], more=True
    )
    noise["upsampler"] = _network_noise(upsampler)
    factor = upsampler.integer("upsampling_factor")
    if sizes.full_res != (sizes.low_res[0] * factor, sizes.low_res[1] * factor):
        raise DiamondError(
            f"world.json: full_res is {list(sizes.full_res)}",
            f"upsampling_factor {factor} times low_res {list(sizes.low_res)}",
            _FIX,
        )
    return noise


def _network_noise(fields: Fields) -> NetworkNoise:
    sigma_data, sigma_offset_noise = fields.number("sigma_data"), fields.number("sigma_offset_noise")
    if not 0 < sigma_data < float("inf"):
        raise fields.fail("sigma_data", "more than 0")
    if not 0 <= sigma_offset_noise < float("inf"):
        raise fields.fail("sigma_offset_noise", "0 or more")
    return NetworkNoise(sigma_data, sigma_offset_noise)


def _preset(name: str, data: object) -> Preset:
    where = f"world.json: presets: {name}"
    fields = Fields(data, where, ["denoiser", "upsampler"])
    upsampler = fields.data["upsampler"]
    return Preset(
        denoiser=SamplerConfig.from_json(fields.data["denoiser"], f"{where}: denoiser"),
        upsampler=None if upsampler is None else SamplerConfig.from_json(upsampler, f"{where}: upsampler"),
    )


def _graphs(precision: str, data: object) -> dict[str, GraphEntry]:
    if not isinstance(data, dict):
        raise DiamondError(f"world.json: graphs: {precision} is a {type(data).__name__}", "an object")
    return {role: _graph(f"world.json: graphs: {precision}: {role}", graph) for role, graph in data.items()}


def _graph(where: str, data: object) -> GraphEntry:
    fields = Fields(data, where, ["file", "inputs", "outputs"])
    inputs, outputs = (
        {
            name: TensorSpec.from_json(tensor, f"{where}: {name}")
            for name, tensor in fields.mapping(side).items()
        }
        for side in ("inputs", "outputs")
    )
    return GraphEntry(fields.text("file"), inputs, outputs)


def _actions(data: Mapping[str, Any]) -> dict[str, str]:
    fields = Fields(data, "world.json: actions", [], more=True)
    return {name: fields.text(name) for name in data}


def _file(name: str, data: object) -> FileEntry:
    fields = Fields(data, f"world.json: files: {name}", ["sha256", "bytes"])
    if not re.fullmatch(r"[0-9a-f]{64}", fields.text("sha256")):
        raise fields.fail("sha256", "64 hexadecimal digits")
    if fields.integer("bytes") < 0:
        raise fields.fail("bytes", "0 or more")
    return FileEntry(fields.text("sha256"), fields.integer("bytes"))
