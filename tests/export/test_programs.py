"""`diamond-export --target torch`: a compiled program of every graph, once; what is refused before anything is made.

The compiler itself is replaced here: compiling for real, one tiny graph, is tests/engine/torch_graph/test_programs.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")
pytest.importorskip("onnx", reason="the extra `torch` is not installed")

from engine.actions import Action
from engine.errors import DiamondError
from engine.torch_graph import bindings, programs
from engine.torch_graph.program import COMPILED, Program, exported_program, from_bytes, to_bytes
from export import job as job_module
from export.job import ExportJob, export_world


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and a compiler that leaves programs as they were exported; gives where they are kept."""

    def open_compiled(data: bytes, types: Mapping[str, int]) -> Program:
        return Program(COMPILED, types, exported_program(from_bytes(data)).run)

    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(programs, "compile_program", lambda spec, exported: to_bytes(exported))
    monkeypatch.setattr(programs, "compiled_program", open_compiled)
    return tmp_path / "home" / "programs"


def test_every_graph_is_compiled_once_and_play_takes_them(tiny_bundle: Path, compiled: Path) -> None:
    from engine.loading import load_world

    job = ExportJob(str(tiny_bundle), targets=("onnx", "torch"))
    said: list[str] = []
    export_world(job, said.append)
    assert len(list(compiled.glob("*-compiled.pt2"))) == len(list(compiled.glob("*-compiled.json"))) == 4
    assert (
        sum(": compiling for " in line for line in said)
        == sum(": compiled in " in line for line in said)
        == 4
    )
    assert said[-1].endswith("of programs")
    said.clear()
    export_world(job, said.append)
    assert sum("is compiled already" in line for line in said) == 4
    with load_world(tiny_bundle, "torch", threads=1) as world:
        assert "4 compiled" in world.describe()
    assert not list(compiled.glob("*-exported.*"))


def test_a_published_release_plays_as_with_onnx_runtime(
    published_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.loading import load_world

    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path / "home"))
    frames = []
    for backend in ("torch", "ort"):
        with load_world(published_tiny, backend, "fp32", preset="fast", seed=5, threads=1) as world:
            world.reset(0)
            frames.append(world.step(Action({"w"}, mouse_dx=30)))
    for ours, theirs in ((frames[0].low_res, frames[1].low_res), (frames[0].rgb, frames[1].rgb)):
        levels = np.abs(ours.astype(int) - theirs)
        assert levels.max() <= 1, f"max {levels.max()}, mean {levels.mean():.4f} grey levels"
        assert levels.mean() < 0.01, f"mean {levels.mean():.4f} grey levels"
    assert frames[0].rgb.shape == (150, 280, 3)


def test_a_precision_that_it_does_not_run_is_refused() -> None:
    with pytest.raises(DiamondError, match=r"--target torch with --precision int8(.|\n)*fp32, fp16, bf16"):
        ExportJob(precisions=("bf16", "int8"), targets=("onnx", "torch"))


def test_a_missing_package_is_said_before_anything_is_made(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Any:
        raise DiamondError("backend torch: ONNX cannot be imported", "the package onnx", bindings.INSTALL)

    monkeypatch.setattr(job_module, "onnx_library", missing)
    said: list[str] = []
    with pytest.raises(DiamondError, match=r"ONNX cannot be imported(.|\n)*diamond-engine\[torch\]"):
        export_world(ExportJob(str(tiny_bundle), targets=("onnx", "torch")), said.append)
    assert said == []
