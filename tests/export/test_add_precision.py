"""New precisions of a world: close to fp32, gated, written whole, and without PyTorch."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from engine import load_world
from engine.bundle import Bundle
from engine.bundle_writer import write_bundle
from engine.errors import DiamondError
from export import calibration, int8, low_precision, onnx_file, typed
from export.add_precision import add_precisions
from export.precision_gates import GATES

pytest.importorskip("onnxruntime")


def quiet(line: str) -> None:
    pass


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def both(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world with fp16 and bf16 added in place."""
    world = tmp_path_factory.mktemp("typed") / "small"
    shutil.copytree(small_world, world)
    return add_precisions(world, world, ["fp32", "fp16", "bf16", "fp16"], quiet)


def test_the_fp32_files_stay_bit_for_bit(small_world: Path, both: Path) -> None:
    before, after = contents(small_world), contents(both)
    assert {name: after[name] for name in before if name != "world.json"} == {
        name: content for name, content in before.items() if name != "world.json"
    }
    assert Bundle.open(both).precisions == ("fp32", "fp16", "bf16")
    assert [path.name for path in both.parent.iterdir()] == [both.name]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_each_precision_has_its_report(both: Path, precision: str) -> None:
    report = json.loads(Bundle.open(both).file(f"{precision}/parity.json").read_text())
    assert precision in report["measured"]
    assert "emulated" in report["measured"]
    assert report["gates"]["frames"] == GATES[precision].frames == 64
    assert [len(played["frames"]) for played in report["rollouts"]] == [64, 64]
    assert report["layers"]["denoiser"][f"Conv {precision}"] > 0
    for rows in report["evaluations"].values():
        assert 0 < max(row["raw_error"] for row in rows) <= GATES[precision].raw_error


def test_the_delivered_fp16_world_plays_close_to_fp32(both: Path) -> None:
    frames = {}
    for precision in ("fp32", "fp16"):
        with load_world(both, "ort", precision) as world:
            world.reset(0)
            frames[precision] = [world.step(action).rgb.astype(int) for action in world.next_actions[:4]]
    error = np.abs(np.subtract(frames["fp16"], frames["fp32"]))
    assert error.mean() < 1, f"max {error.max()}, mean {error.mean():.3f} grey levels"


def test_a_precision_made_again_gives_the_same_files(both: Path, tmp_path: Path) -> None:
    again = add_precisions(both, tmp_path / "again", ["bf16"], quiet)
    old, new = contents(both), contents(again)
    assert set(old) == set(new)
    assert [name for name in old if old[name] != new[name] and name != "world.json"] == []


def test_a_damaged_conversion_is_stopped_and_leaves_the_world_as_it_was(
    small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(model: onnx.ModelProto, precision: str) -> None:
        typed.make_typed(model, precision)
        for weight in model.graph.initializer:
            if weight.name == "conv_out.weight":
                weight.raw_data = (np.frombuffer(weight.raw_data, np.float16) * np.float16(1.02)).tobytes()

    monkeypatch.setattr(low_precision, "make_typed", damaged)
    world = tmp_path / "small"
    shutil.copytree(small_world, world)
    with pytest.raises(DiamondError, match=r"parity gate.*denoiser at sigma \S+: raw_error is") as failure:
        add_precisions(world, world, ["fp16"], quiet)
    assert "nothing was written" in failure.value.fix
    assert contents(world) == contents(small_world)
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_norm_statistics_in_fp16_are_stopped(
    small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = typed.low_nodes

    def norms_too(graph: onnx.GraphProto) -> set[int]:
        norms = {index for index, node in enumerate(graph.node) if node.op_type == "InstanceNormalization"}
        return plain(graph) | norms

    monkeypatch.setattr(typed, "low_nodes", norms_too)
    with pytest.raises(DiamondError, match=r"its layers are .* InstanceNormalization fp16"):
        add_precisions(small_world, tmp_path / "out", ["fp16"], quiet)
    assert not list(tmp_path.iterdir())


def test_a_conversion_that_stays_fp32_is_stopped(
    small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would pass every comparison."""
    monkeypatch.setattr(low_precision, "make_typed", lambda model, precision: None)
    with pytest.raises(DiamondError, match=r"its layers are \d+ Gemm fp32"):
        add_precisions(small_world, tmp_path / "out", ["bf16"], quiet)


def test_weights_beside_the_graphs_change_nothing(
    small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the published sizes: weights in files of their own, of the fp32 graphs and of those made from them."""
    monkeypatch.setattr(onnx_file, "EXTERNAL_TENSOR_BYTES", 512)
    for module in (low_precision, int8, calibration):
        monkeypatch.setattr(module, "save", partial(onnx_file.save, external_above_bytes=1000))
    document = json.loads((small_world / "world.json").read_text())
    files: dict[str, Path | bytes] = {name: small_world / name for name in document.pop("files")}
    for entry in document["graphs"]["fp32"].values():
        written = onnx_file.save(onnx.load(small_world / entry["file"]), tmp_path / entry["file"], 1000)
        files |= {f"fp32/{path.name}": path for path in written}
    world = write_bundle(tmp_path / "world", document, files)

    bundle = Bundle.open(add_precisions(world, world, ["fp16", "int8"], quiet))
    for name in ("fp32/denoiser", "fp16/denoiser", "fp16/upsampler_conditioner", "int8/upsampler"):
        assert f"{name}.onnx.data" in bundle.manifest.files
    for precision in ("fp32", "fp16", "int8"):
        with load_world(world, "ort", precision) as beside, load_world(small_world, "ort") as inside:
            beside.reset(0)
            inside.reset(0)
            action = inside.next_actions[0]
            error = np.abs(np.subtract(beside.step(action).rgb, inside.step(action).rgb, dtype=np.int64))
            assert error.mean() < (2 if precision == "int8" else 1)


def test_an_unknown_precision_and_a_world_without_fp32_are_refused(small_world: Path, tmp_path: Path) -> None:
    with pytest.raises(DiamondError, match="precision 'fp8': unknown"):
        add_precisions(small_world, tmp_path / "out", ["fp8"], quiet)
    world = tmp_path / "small"
    shutil.copytree(small_world, world)
    document = json.loads((world / "world.json").read_text())
    document["graphs"]["fp99"] = document["graphs"].pop("fp32")
    (world / "world.json").write_text(json.dumps(document))
    with pytest.raises(DiamondError, match="has graphs in fp99 only"):
        add_precisions(world, tmp_path / "out", ["fp16"], quiet)


def test_importing_it_pulls_in_no_torch() -> None:
    code = "import export.add_precision, sys; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
