"""TensorRT on a real GPU: the frames that `ort` paints, in the precision asked for, and NaN never hidden.

Bounds: fp32 evaluations differ from ONNX Runtime's by one grey level on at most 0.5 % of the values; low ones by half a
level on average; 16 frames stay above 35 dB. Set on a machine without a GPU, from the other backends' bounds: a first
run on one may have to move them, in the open.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.backends import open_backend
from engine.backends.base import Backend
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.loading import load_world
from engine.tensorrt.precisions import PRECISIONS
from tests.engine.backends.typed_world import evaluate, rollout, worst_db, write_typed_bundle
from tests.engine.doubles import assert_same_picture

pytestmark = pytest.mark.gpu
LOW = tuple(name for name in PRECISIONS if name != "fp32")


@pytest.fixture(scope="session")
def works() -> None:
    """Skips where TensorRT cannot run, before anything is exported for these tests."""
    try:
        open_backend("trt").close()
    except DiamondError as error:
        pytest.skip(error.what)


@pytest.fixture(scope="module", autouse=True)
def home(works: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Plans of these tests, built once."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("DIAMOND_ENGINE_HOME", str(home))
        yield home


@pytest.fixture
def trt() -> Iterator[Backend]:
    backend = open_backend("trt")
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def typed_bundle(works: None, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with graphs in fp16 and bf16 as well."""
    pytest.importorskip("onnx", reason="typed graphs are made with onnx")
    return write_typed_bundle(tiny_bundle, tmp_path_factory.mktemp("typed") / "tiny", LOW)


def test_the_probe_computes(trt: Backend) -> None:
    trt.probe()


@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_an_fp32_evaluation_is_that_of_onnx_runtime(trt: Backend, typed_bundle: Path, role: str) -> None:
    assert_same_picture(
        evaluate(trt, typed_bundle, "fp32", role), evaluate(open_backend("ort"), typed_bundle, "fp32", role)
    )


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_a_low_evaluation_is_within_half_a_grey_level_of_fp32(
    trt: Backend, typed_bundle: Path, precision: str, role: str
) -> None:
    low = evaluate(trt, typed_bundle, precision, role)
    levels = np.abs(low - evaluate(open_backend("ort"), typed_bundle, "fp32", role)) * 127.5
    assert levels.mean() < 0.5, f"max {levels.max():.1f}, mean {levels.mean():.3f} grey levels"


@pytest.mark.parametrize("rows", [1, 13, 128])
def test_a_conditioner_takes_any_number_of_rows_that_plans_are_built_for(
    trt: Backend, typed_bundle: Path, rows: int
) -> None:
    spec = Bundle.open(typed_bundle).graph("fp32", "upsampler_conditioner")
    levels = {name: np.linspace(-1, 1, rows, dtype=np.float32) for name in spec.inputs}
    ours, theirs = (backend.load(spec).run(levels)["modulation"] for backend in (trt, open_backend("ort")))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("role", ["denoiser", "upsampler"])
def test_nan_comes_out_as_nan(trt: Backend, typed_bundle: Path, precision: str, role: str) -> None:
    graph = trt.load(Bundle.open(typed_bundle).graph(precision, role))
    inputs = {
        name: np.zeros(tensor.shape, np.float32)  # type: ignore[arg-type]
        for name, tensor in graph.spec.inputs.items()
    }
    inputs["x"][:] = np.nan
    inputs["coefficients"][:] = 1
    assert np.isnan(graph.run(inputs)["denoised"]).all()


@pytest.mark.parametrize("cuda_graph", [True, False])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_rollout_stays_close_to_that_of_onnx_runtime(
    typed_bundle: Path, precision: str, cuda_graph: bool
) -> None:
    ours = rollout(load_world(typed_bundle, "trt", precision, seed=5, cuda_graph=cuda_graph), 16)
    theirs = rollout(load_world(typed_bundle, "ort", "fp32", seed=5), 16)
    assert worst_db(ours, theirs) > 35


def test_the_second_start_builds_nothing_and_keeps_kernels(
    typed_bundle: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        capsys.readouterr()
        load_world(typed_bundle, "trt", "fp16").close()
    assert "building" not in capsys.readouterr().out
    plans = home / "plans"
    assert list(plans.glob("*.kernels")) or (plans / "timing.cache").is_file()


def test_a_corrupt_plan_is_named_and_built_again(
    typed_bundle: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_world(typed_bundle, "trt", "fp16").close()
    plan = next((home / "plans").glob("denoiser-fp16-*.plan"))
    plan.write_bytes(plan.read_bytes()[:1000])
    load_world(typed_bundle, "trt", "fp16").close()
    assert f"{plan.name} is damaged" in capsys.readouterr().out
