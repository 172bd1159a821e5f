"""What a plan was made for: written, read back, and compared by name."""

import dataclasses
import json
from pathlib import Path

import pytest

from engine.errors import DiamondError
from engine.graphs import GraphSpec, signature
from engine.kept import difference, graph_sha256
from engine.tensorrt.sidecar import Circumstances, Sidecar, tensors_text
from tests.engine.tiny_world import TINY

HERE = Circumstances(
    tensorrt="TensorRT-RTX 1.7.1.116",
    recipe="1",
    gpu="NVIDIA GeForce RTX 4090",
    capability="8.9",
    driver="580.95.05, CUDA 13.0",
    cuda="13.4",
    onnx_sha256="ab" * 32,
    precision="fp16",
    tensors="x float32 (1, 3) -> y float32 (1, 3)",
)
SIDECAR = Sidecar(HERE, "cd" * 32, 2.5, {"opt_level": None}, {"network": "convolutions: 90 fp16"})


def test_a_sidecar_survives_its_file() -> None:
    assert Sidecar.from_json(SIDECAR.to_json(), "a.json") == SIDECAR


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Circumstances)])
def test_whatever_differs_is_named(name: str) -> None:
    assert difference(HERE, HERE) is None
    other = dataclasses.replace(HERE, **{name: "something else"})
    assert difference(other, HERE) == f"{name} was something else, is {getattr(HERE, name)}"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"made_for": {}}'])
def test_a_damaged_sidecar_is_an_error_that_names_it(text: bytes) -> None:
    with pytest.raises(DiamondError, match=r"a\.json"):
        Sidecar.from_json(text, "a.json")


@pytest.mark.parametrize("name", ["gpu", "tensors"])
def test_a_sidecar_of_another_version_is_an_error(name: str) -> None:
    data = json.loads(SIDECAR.to_json())
    del data["made_for"][name]
    with pytest.raises(DiamondError, match=rf"lacks \['{name}'\]"):
        Sidecar.from_json(json.dumps(data).encode(), "a.json")


def test_the_weights_beside_a_graph_are_part_of_its_hash(tmp_path: Path) -> None:
    spec = GraphSpec("denoiser", "fp16", tmp_path / "a.onnx", {}, {})
    with pytest.raises(DiamondError, match="cannot be read"):
        graph_sha256(spec)
    spec.path.write_bytes(b"graph")
    alone = graph_sha256(spec)
    (tmp_path / "a.onnx.data").write_bytes(b"weights")
    with_weights = graph_sha256(spec)
    (tmp_path / "a.onnx.data").write_bytes(b"weightz")
    assert len({alone, with_weights, graph_sha256(spec)}) == 3


def test_tensors_in_words_name_free_axes_and_their_range() -> None:
    inputs, outputs = signature("upsampler_conditioner", TINY, modulation=32)
    text = tensors_text(GraphSpec("upsampler_conditioner", "fp32", Path(), inputs, outputs), (1, 4, 128))
    assert text == (
        "c_noise float32 (any), c_noise_cond float32 (any) -> modulation float32 (any, 32); any: 1 to 128"
    )
