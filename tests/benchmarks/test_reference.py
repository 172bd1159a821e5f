"""Ours beside the original repository: the same frames from the same draws, and clear words where that can't be.

The test that runs the original needs a checkout of it (branch csgo), named by DIAMOND_REFERENCE.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reference import Beside, ReferenceProcess, play_beside
from benchmarks.reference_driver import NamedDraws
from engine import load_world
from engine.errors import DiamondError
from engine.noise import SeededNoise
from export.job import ExportJob, export_world
from tests.conftest import GOLDEN
from tests.train.releases import cropped_golden_release

RELEASE = GOLDEN / "published_tiny"


def test_draws_get_the_names_that_ours_have() -> None:
    draws, noise, shape = NamedDraws(7), SeededNoise(7), (1, 3, 2, 2)

    def assert_is(name: str, drawn: object) -> None:
        np.testing.assert_array_equal(drawn, noise.normal(name, shape, 5))  # type: ignore[arg-type]

    draws.begin("upsampler", 5)
    assert_is("upsampler/init", draws.draw(shape, None))
    assert_is("upsampler/step0/churn", draws.draw(shape, None))
    draws.in_history = True
    assert not draws.draw((1, 3, 1, 1), None).any(), "the offset noise of training is none in play"
    assert_is("upsampler/step0/history", draws.draw(shape, None))
    draws.in_history = False
    draws.step += 1
    assert_is("upsampler/step1/churn", draws.draw(shape, None))
    draws.begin("denoiser", 5)
    assert_is("denoiser/init", draws.draw(shape, None))


def test_something_else_than_a_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DiamondError, match="is no checkout of the original"):
        ReferenceProcess(tmp_path, RELEASE, "fast", 1)


def test_an_original_that_cannot_start_says_why(tmp_path: Path) -> None:
    package = tmp_path / "src" / "models" / "diffusion"
    package.mkdir(parents=True)
    (package / "diffusion_sampler.py").touch()
    (package / "__init__.py").write_text("raise RuntimeError('another branch')")
    with pytest.raises(DiamondError, match="the original ended: RuntimeError: another branch"):
        ReferenceProcess(tmp_path, RELEASE, "fast", 1)


def test_the_ratio_is_that_of_the_medians() -> None:
    beside = Beside(original_ms=[30.0, 10.0, 20.0], ours_ms=[5.0, 100.0, 4.0], psnr_db=[None, 60.0, 70.0])
    assert beside.ratio == 4.0
    assert beside.to_json()["psnr_db_worst"] == 60.0


@pytest.mark.parametrize("preset", ["fast", "quality"])
def test_the_original_paints_the_same_frames(tmp_path: Path, preset: str) -> None:
    checkout = os.environ.get("DIAMOND_REFERENCE")
    if not checkout:
        pytest.skip("DIAMOND_REFERENCE names no checkout of the original")
    cropped = cropped_golden_release(tmp_path / "release")
    out = export_world(ExportJob(str(cropped), tmp_path / "world"), lambda line: None)
    with (
        load_world(out, preset=preset, seed=0) as world,
        ReferenceProcess(Path(checkout), cropped, preset, 1) as original,
    ):
        beside = play_beside(world, original, blocks=3, frames=4)
    assert len(beside.psnr_db) == 16
    with (
        load_world(out, preset=preset, seed=1) as world,
        ReferenceProcess(Path(checkout), cropped, preset, 1) as o,
    ):
        with pytest.raises(DiamondError, match="dB between the original's and ours"):
            play_beside(world, o, blocks=1, frames=1)
