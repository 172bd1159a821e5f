"""Programs are made once, kept, compared before they are loaded, and made again where something differs."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
pytest.importorskip("onnx", reason="the extra `torch` is not installed")

from engine import space  # noqa: E402
from engine.errors import DiamondError  # noqa: E402
from engine.torch_graph import program, programs  # noqa: E402
from engine.torch_graph.device import Device  # noqa: E402
from engine.torch_graph.program import COMPILED, EXPORTED, Program  # noqa: E402
from engine.torch_graph.programs import Circumstances, Programs, Sidecar  # noqa: E402
from tests.engine.torch_graph.small_graphs import one_node, product  # noqa: E402

SIDECAR = Sidecar(Circumstances(*"abcdefgh"), "cd" * 32, 2.5, {"fp32": 90})


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, said: list[str]) -> Programs:
    return Programs(Device(threads=1), tmp_path / "programs", said.append)


def modulation(ready: Program, rows: int = 3) -> np.ndarray:
    levels = torch.arange(rows, dtype=torch.float32)
    with torch.inference_mode():
        (result,) = ready.run(levels, levels + 1)
    return result.numpy()


def expected(rows: int = 3, factor: float = 2.0) -> np.ndarray:
    levels = np.arange(rows, dtype=np.float32)
    return np.stack([levels, levels + 1], 1) @ ((np.arange(12).reshape(2, 6) - 4) * factor)


def kept(store: Programs, ending: str) -> Path:
    (path,) = store.files.folder.glob(f"*{ending}")
    return path


def never(*arguments: Any) -> Any:
    raise AssertionError("a program was made")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_program_computes_its_graph_for_any_number_of_rows(
    tmp_path: Path, store: Programs, precision: str
) -> None:
    ready = store.obtain(product(tmp_path / "graph.onnx", precision))
    assert (ready.form, dict(ready.types)) == (EXPORTED, {precision: 1})
    for rows in (1, 2, 17, 3):
        np.testing.assert_array_equal(modulation(ready, rows), expected(rows))


def test_the_second_start_loads_what_the_first_kept(
    tmp_path: Path, store: Programs, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = product(tmp_path / "graph.onnx")
    store.obtain(spec)
    assert said == ["upsampler_conditioner (fp32): making its program, once"]
    monkeypatch.setattr(programs, "export", never)
    ready = store.obtain(spec)
    np.testing.assert_array_equal(modulation(ready), expected())
    assert dict(ready.types) == {"fp32": 1}
    assert len(said) == 1


def test_another_graph_is_another_program(tmp_path: Path, store: Programs) -> None:
    store.obtain(product(tmp_path / "graph.onnx"))
    ready = store.obtain(product(tmp_path / "graph.onnx", factor=3.0))
    np.testing.assert_array_equal(modulation(ready), expected(factor=3.0))


def changed(field: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        sidecar = json.loads(path.read_text())
        sidecar["made_for"][field] = "something else"
        path.write_text(json.dumps(sidecar))

    return change


@pytest.mark.parametrize(
    ("ending", "spoil", "reason"),
    [
        *(
            pytest.param(".json", changed(field.name), f"{field.name} was something else, is ", id=field.name)
            for field in dataclasses.fields(Circumstances)
        ),
        pytest.param(".json", lambda path: path.write_text("{"), "not valid JSON", id="half a sidecar"),
        pytest.param(".json", lambda path: path.write_text("{}"), r"lacks \['made_for'", id="an empty one"),
        pytest.param(".pt2", lambda path: path.unlink(), r"\.pt2 is missing", id="no program"),
        pytest.param(
            ".pt2", lambda path: path.write_bytes(path.read_bytes()[:-9]), r"\.pt2 is damaged", id="cut off"
        ),
    ],
)
def test_what_does_not_fit_is_named_and_made_again(
    tmp_path: Path, store: Programs, said: list[str], ending: str, spoil: Callable[[Path], None], reason: str
) -> None:
    import re

    spec = product(tmp_path / "graph.onnx")
    store.obtain(spec)
    spoil(kept(store, ending))
    np.testing.assert_array_equal(modulation(store.obtain(spec)), expected())
    assert re.search(f"its exported program does not fit: .*{reason}", said[1]), said
    assert said[2:] == [said[0]]
    store.obtain(spec)
    assert len(said) == 3, "what was made again fits"


def test_a_program_that_pytorch_refuses_is_made_again(
    tmp_path: Path, store: Programs, said: list[str]
) -> None:
    """Intact as written, and still no program: as from a PyTorch that writes another format under the same number."""
    import hashlib

    spec = product(tmp_path / "graph.onnx")
    store.obtain(spec)
    kept(store, ".pt2").write_bytes(b"no program")
    sidecar = json.loads(kept(store, ".json").read_text())
    sidecar["program_sha256"] = hashlib.sha256(b"no program").hexdigest()
    kept(store, ".json").write_text(json.dumps(sidecar))
    np.testing.assert_array_equal(modulation(store.obtain(spec)), expected())
    assert ".pt2: PyTorch refuses it: " in said[1]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes say nothing on this system")
@pytest.mark.parametrize("ending", [".pt2", ".json"])
def test_a_file_that_others_may_write_is_not_opened(tmp_path: Path, store: Programs, ending: str) -> None:
    spec = product(tmp_path / "graph.onnx")
    store.obtain(spec)
    kept(store, ending).chmod(0o666)
    with pytest.raises(DiamondError, match=r"others may write it(.|\n)*opening a program runs what it holds"):
        store.obtain(spec)


def test_a_full_disk_keeps_nobody_from_playing(
    tmp_path: Path, store: Programs, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "free_disk_bytes", lambda path: 1000)
    ready = store.obtain(product(tmp_path / "graph.onnx"))
    np.testing.assert_array_equal(modulation(ready), expected())
    assert "its program is not kept: " in said[1]
    assert "1.00 kB free" in said[1]
    assert store.files.size_bytes() == 0


def test_int8_is_refused_with_the_precisions_that_run(tmp_path: Path, store: Programs) -> None:
    spec = dataclasses.replace(product(tmp_path / "graph.onnx"), precision="int8")
    for ask in (store.obtain, store.make):
        with pytest.raises(DiamondError, match=r"does not run int8(.|\n)*one of fp32, fp16, bf16"):
            ask(spec)


@pytest.mark.parametrize(("written", "asked"), [("fp32", "bf16"), ("fp16", "fp32"), ("bf16", "fp16")])
def test_a_graph_of_other_types_than_asked_for_is_refused(
    tmp_path: Path, store: Programs, written: str, asked: str
) -> None:
    spec = dataclasses.replace(product(tmp_path / "graph.onnx", written), precision=asked)
    with pytest.raises(DiamondError, match=rf"\({asked}\): its .*products have other types: 1 {written}"):
        store.obtain(spec)


def test_a_graph_that_cannot_be_converted_names_the_file(tmp_path: Path, store: Programs) -> None:
    with pytest.raises(DiamondError, match=r"erf\.onnx: node 'the_node', operator Erf"):
        store.obtain(one_node(tmp_path / "erf.onnx", "Erf"))


def test_a_sidecar_survives_its_file() -> None:
    assert Sidecar.from_json(SIDECAR.to_json(), "a.json") == SIDECAR


# Compiled ones.


def has_compiler() -> bool:
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
    except Exception:
        return False
    return True


@pytest.mark.skipif(not has_compiler(), reason="PyTorch finds no C++ compiler")
def test_a_compiled_program_is_kept_taken_first_and_computes_the_same(
    tmp_path: Path, store: Programs, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = product(tmp_path / "graph.onnx")
    assert store.make(spec)
    assert "compiling for CPU, 1 thread" in said[0]
    monkeypatch.setattr(programs, "compile_program", never)
    assert not store.make(spec)
    ready = store.obtain(spec)
    assert (ready.form, dict(ready.types)) == (COMPILED, {"fp32": 1})
    for rows in (1, 5, 2):
        np.testing.assert_allclose(modulation(ready, rows), expected(rows), rtol=1e-6)
    # Another machine: the plain program is made instead, and the message says what helps.
    monkeypatch.setattr(store.device, "hardware", "another CPU")
    assert store.obtain(spec).form == EXPORTED
    assert "compiled program does not fit: hardware was" in said[-2]
    assert said[-2].endswith("diamond-export WORLD --target torch compiles it again")


def test_a_compiler_that_fails_is_an_error_that_says_so(
    tmp_path: Path, store: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("\nNo working C++ compiler found\nand a long story")

    monkeypatch.setattr(program, "compiler_library", lambda: SimpleNamespace(aoti_compile_and_package=fail))
    with pytest.raises(
        DiamondError, match=r"cannot compile it: RuntimeError: No working C\+\+ compiler found\."
    ):
        store.make(product(tmp_path / "graph.onnx"))
    assert store.files.size_bytes() == 0
