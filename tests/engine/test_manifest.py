"""world.json: every field is needed, typed, and held against the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.manifest import SCHEMA
from tests.engine.tiny_world import edit, world_json

MakeWorld = Callable[..., Path]


@pytest.mark.parametrize("schema", [0, SCHEMA - 1, SCHEMA + 1, str(SCHEMA), None])
def test_another_schema_version_is_refused_before_anything_else(
    make_world: MakeWorld, schema: object
) -> None:
    world = make_world()
    edit(world, lambda document: document.update(schema=schema, a_field_of_the_future=1))
    with pytest.raises(DiamondError, match="schema is"):
        Bundle.open(world)


@pytest.mark.parametrize("name", sorted(world_json() | {"files": {}}))
def test_every_field_is_required(make_world: MakeWorld, name: str) -> None:
    world = make_world()
    edit(world, lambda document: document.pop(name))
    with pytest.raises(DiamondError, match=rf"world\.json: lacks \['{name}'\]"):
        Bundle.open(world)


def change_in(*path: str, to: object) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = to

    return change


GRAPH = ("graphs", "fp32", "denoiser")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (change_in("surprise", to=1), r"unknown fields \['surprise'\]"),
        (change_in("name", to="../evil"), "name is '../evil'"),
        (change_in("fps", to="15"), "fps is '15'"),
        (change_in("fps", to=0), "fps is 0"),
        (change_in("horizon", to=0), "horizon is 0"),
        (change_in("low_res", to=[14]), "low_res is"),
        (change_in("low_res", to=[14, -20]), "low_res is"),
        (change_in("full_res", to=[70, 101]), "full_res is .70, 101."),
        (change_in("full_res", to=None), "full_res is null"),
        (change_in("history", "denoiser", to=0), "denoiser is 0"),
        (change_in("history", "upsampler", to=None), "upsampler is None"),
        (change_in("action_space", "keys", to=["w"]), "forbidden pair"),
        (change_in("architecture", "denoiser", "sigma_data", to=0), "sigma_data is 0"),
        (change_in("architecture", "denoiser", to={}), "lacks"),
        (change_in("architecture", "upsampler", to=None), "is null"),
        (change_in("architecture", "upsampler", "upsampling_factor", to=4), "upsampling_factor 4"),
        (change_in("default_preset", to="best"), "default_preset is 'best'"),
        (change_in("presets", "fast", "upsampler", to=None), "disagree on whether there is an upsampler"),
        (change_in("presets", "fast", "denoiser", "steps", to=0), "steps is 0"),
        (change_in("presets", "fast", "denoiser", "extra", to=0), "presets: fast: denoiser: unknown"),
        (change_in("graphs", to={}), "no graphs"),
        (change_in("graphs", "fp32", to=[]), "fp32 is a list"),
        (change_in("graphs", "fp32", "critic", to={}), "critic: lacks"),
        (change_in(*GRAPH, "file", to="elsewhere.onnx"), "elsewhere.onnx is used"),
        (change_in(*GRAPH, "inputs", "x", "shape", to=[1, 3, 14, 21]), r"x is float32 \(1, 3, 14, 21\)"),
        (change_in(*GRAPH, "inputs", "x", "dtype", to="float16"), "x is float16"),
        (change_in(*GRAPH, "inputs", "modulation", "shape", to=[1, 33]), "modulation is"),
        (change_in(*GRAPH, "inputs", "x", "shape", to=[1, 3, 14, True]), "shape is"),
        (change_in(*GRAPH, "outputs", to={}), "has the tensors"),
        (change_in("spawns", to=[]), "no spawns"),
        (change_in("spawns", to=["spawns/9.npz"]), "spawns/9.npz is used"),
        (change_in("actions", "demo", to="actions/demo.npz"), "actions/demo.npz is used"),
        (change_in("actions", "demo", to=7), "demo is 7"),
        (change_in("files", "spawns/0.npz", "sha256", to="00"), "64 hexadecimal digits"),
        (change_in("files", "spawns/0.npz", "bytes", to=-1), "bytes is -1"),
        (change_in("made_by", to="me"), "made_by is 'me'"),
    ],
)
def test_a_wrong_field_is_refused(
    make_world: MakeWorld, change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    world = make_world()
    edit(world, change)
    with pytest.raises(DiamondError, match=complaint):
        Bundle.open(world)


def test_a_missing_graph_is_refused(make_world: MakeWorld) -> None:
    world = make_world()
    edit(world, lambda document: document["graphs"]["fp32"].pop("upsampler"))
    with pytest.raises(DiamondError, match="graphs: fp32: has"):
        Bundle.open(world)
