"""The parity gate: it lets the right bundle through, stops a wrong one, and a stopped bundle leaves no trace."""

import copy
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.bundle import Bundle
from engine.errors import DiamondError
from export import assemble, verify
from export.assemble import WorldParts, build_bundle
from export.report import Gates, evaluation_row, exceeded, picture_row, summary
from export.verify import SIGMAS, check_parity
from tests.export.worlds import exported_before, random_agent, small_parts
from train.model import Agent

pytest.importorskip("onnxruntime")


def test_the_report_lies_in_the_bundle(tiny_bundle: Path) -> None:
    report = json.loads(Bundle.open(tiny_bundle).file("fp32/parity.json").read_text())
    for network in ("denoiser", "upsampler"):
        rows = report["evaluations"][network]
        assert [row["sigma"] for row in rows] == list(SIGMAS)
        assert max(row["raw_max_error"] for row in rows) < 1e-5
    assert [len(played["frames"]) for played in report["rollouts"]] == [16, 16]
    assert "ONNX Runtime" in report["measured"]
    assert any("16 frames identical" in line or "dB or better" in line for line in summary(report))


@pytest.mark.parametrize("network", ["denoiser", "upsampler"])
def test_other_weights_are_stopped_by_the_first_evaluation(
    tiny_bundle: Path, golden_agent: Agent, network: str
) -> None:
    changed = copy.deepcopy(golden_agent)
    getattr(changed, network).inner_model.conv_out.bias += 0.001
    with pytest.raises(DiamondError, match=rf"parity gate.*{network} at sigma 0.002: raw_max_error is 0.001"):
        check_parity(tiny_bundle, changed, "fp32")


def test_a_wrong_sampler_is_stopped_by_the_rollout(
    tiny_bundle: Path, golden_agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every evaluation is right, but PyTorch plays with a preset other than the engine's."""
    plain = verify.rollout

    def other_preset(agent: Agent, samplers: Any, *rest: Any) -> Any:
        louder = {name: dataclasses.replace(cfg, initial_std=1.5) for name, cfg in samplers.items()}
        return plain(agent, louder, *rest)

    monkeypatch.setattr(verify, "rollout", other_preset)
    with pytest.raises(
        DiamondError, match=r"rollout from spawn 0, frame \d+, \w+: PSNR is [\d.]+ dB, the gate 40"
    ):
        check_parity(tiny_bundle, golden_agent, "fp32")


def test_noise_on_the_upsamplers_history_reaches_its_enlarged_frame_as_published(
    tiny_bundle: Path, golden_agent: Agent, tmp_path: Path
) -> None:
    """No published preset asks for it; PyTorch's sampler noises all frames that the upsampler reads."""
    copied = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, copied)
    document = json.loads((copied / "world.json").read_text())
    document["presets"]["fast"]["upsampler"] |= {"steps": 2, "s_cond": 0.3}
    (copied / "world.json").write_text(json.dumps(document))
    report = check_parity(copied, golden_agent, "fp32", Gates(rollout_frames=2))
    assert len(report["rollouts"][0]["frames"]) == 2


@pytest.fixture
def parts(small_graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> WorldParts:
    """A small world without an upsampler, whose graphs need not be exported again."""
    monkeypatch.setattr(assemble, "export_graph", exported_before(small_graphs))
    return small_parts(random_agent(), (6, 8))


def test_a_bundle_that_passes_is_all_that_remains(parts: WorldParts, tmp_path: Path) -> None:
    out = build_bundle(parts, tmp_path / "small")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    manifest = Bundle.open(out).manifest
    assert manifest.sizes.full_res is None
    assert sorted(manifest.files) == [
        "fp32/denoiser.onnx",
        "fp32/denoiser_conditioner.onnx",
        "fp32/parity.json",
        "spawns/0.npz",
        "spawns/1.npz",
    ]


def test_a_bundle_that_fails_leaves_nothing_behind(parts: WorldParts, tmp_path: Path) -> None:
    """The first time there was nothing, the second time a world, which stays as it was."""
    out = tmp_path / "worlds" / "small"
    impossible = Gates(raw_error=-1.0)
    with pytest.raises(DiamondError, match="does not paint what PyTorch paints") as failure:
        build_bundle(parts, out, gates=impossible)
    assert "nothing was written" in failure.value.fix
    assert list((tmp_path / "worlds").iterdir()) == []

    out.mkdir()
    (out / "world.json").write_text("an older world")
    with pytest.raises(DiamondError):
        build_bundle(parts, out, gates=impossible)
    assert (out / "world.json").read_text() == "an older world"
    assert [path.name for path in (tmp_path / "worlds").iterdir()] == ["small"]


def test_nan_never_passes_a_gate() -> None:
    good, bad = np.zeros((1, 3, 2, 2), np.float32), np.full((1, 3, 2, 2), np.nan, np.float32)
    report = {"evaluations": {"denoiser": [evaluation_row(1.0, (bad, good), (bad, good))]}, "rollouts": []}
    assert len(exceeded(report, Gates())) == 3


def test_one_grey_level_on_few_values_passes_and_two_or_many_do_not() -> None:
    raw = np.zeros((1, 3, 20, 20), np.float32)
    expected = np.full_like(raw, 10 / 127.5 - 1)

    def failures(values: int, levels: int) -> list[str]:
        denoised = expected.copy()
        denoised.reshape(-1)[:values] += levels / 127.5
        row = evaluation_row(1.0, (raw, raw), (denoised, expected))
        return exceeded({"evaluations": {"denoiser": [row]}, "rollouts": []}, Gates())

    assert failures(values=6, levels=1) == []
    assert "changed_fraction is 0.00583" in failures(values=7, levels=1)[0]
    assert "grey_levels is 2" in failures(values=1, levels=2)[0]


def test_the_start_of_a_rollout_is_held_tightly_and_the_rest_by_a_floor() -> None:
    def failures(*decibels: float | None) -> list[str]:
        frames = [{"low_res": {"psnr_db": value}} for value in decibels]
        return exceeded({"evaluations": {}, "rollouts": [{"spawn": 3, "frames": frames}]}, Gates())

    assert failures(None, *[40.0] * 7, *[26.0] * 8) == []
    assert failures(*[50.0] * 7, 39.9) == [
        "rollout from spawn 3, frame 8, low_res: PSNR is 39.9 dB, the gate 40 dB"
    ]
    assert failures(*[50.0] * 8, 24.0) == [
        "rollout from spawn 3, frame 9, low_res: PSNR is 24.0 dB, the gate 25 dB"
    ]
    assert len(failures(*[float("nan")] * 9)) == 9


def test_psnr_of_one_level_everywhere_is_48_db() -> None:
    dark, light = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)
    assert picture_row(dark, light) == {"psnr_db": 48.13, "grey_levels": 1, "changed_fraction": 1.0}
    assert picture_row(dark, dark)["psnr_db"] is None
