"""`engine` is numpy and the standard library until a backend is opened."""

import json
import subprocess
import sys

import pytest

import engine

HEAVY = {
    *("torch", "onnxruntime", "onnx", "tensorrt", "tensorrt_rtx_bindings", "cuda", "openvino", "scipy"),
    *("pyglet", "aiohttp", "av", "PIL", "typer", "click", "tqdm", "safetensors", "train", "export"),
}


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code`."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(result.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "code",
    [
        "import engine",
        "from engine import *",
        "import engine.loading, engine.world, engine.catalog, engine.backends, engine.backends.ort",
    ],
)
def test_importing_the_engine_pulls_in_no_heavy_library(code: str) -> None:
    assert modules_after(code) & HEAVY == set()


def test_importing_the_package_alone_does_not_even_pull_in_numpy() -> None:
    assert "numpy" not in modules_after("import engine")


def test_every_public_name_exists_and_no_other() -> None:
    for name in engine.__all__:
        assert getattr(engine, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'load_wrold'"):
        engine.load_wrold  # noqa: B018
