"""The doctor: what it finds, in order, and the one command beside everything that stands in the way."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import doctor, native
from engine.cuda.gpu import Gpu
from engine.doctor import Finding, examine, report
from engine.errors import DiamondError
from engine.tensorrt import flavour
from tests.engine.doubles import NumpyBackend

ROOT = Path(__file__).parents[2]
GPU = Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 * 10**9, "580.95.05, CUDA 13.0", "13.4")


class FakeCuda:
    capability = (8, 9)


def no_gpu() -> None:
    raise DiamondError("CUDA: there is no NVIDIA driver here", "one", "install the driver")


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, one backend that works, no wheel that clashes, empty caches."""
    monkeypatch.setenv("DIAMOND_ENGINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(doctor, "Cuda", no_gpu)
    monkeypatch.setattr(doctor, "driver_version", lambda: None)
    monkeypatch.setattr(doctor, "BACKENDS", ("auto", "numpy"))
    monkeypatch.setattr(doctor, "open_backend", lambda name: NumpyBackend())
    monkeypatch.setattr(doctor, "_version", {"cuda-python": "13.4.4", "onnxruntime": "1.32.0"}.get)
    monkeypatch.setattr(flavour, "installed", lambda: ("tensorrt_rtx_bindings",))


def findings() -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine()}


def test_a_machine_without_a_gpu_says_so_and_how_to_get_on() -> None:
    found = findings()
    assert found["GPU"] == Finding(
        "GPU", "not usable: CUDA: there is no NVIDIA driver here", "install the driver"
    )
    assert found["driver"].text == "none found"
    assert found["CUDA"].text == "cuda-python 13.4.4"
    assert "clash" not in found


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "Cuda", FakeCuda)
    monkeypatch.setattr(doctor, "describe_gpu", lambda cuda: GPU)
    found = findings()
    assert found["GPU"].text == "NVIDIA GeForce RTX 4090, compute capability 8.9, 24.00 GB"
    assert found["driver"].text == "580.95.05, CUDA 13.0"
    assert found["CUDA"].text == "runtime 13.4, cuda-python 13.4.4"


def test_a_backend_that_works_is_described_and_one_that_does_not_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert findings()["backend numpy"].text == "usable: numpy double; runs fp32"

    def missing(name: str) -> None:
        raise DiamondError("backend numpy: not installed", "it", "pip install numpy")

    monkeypatch.setattr(doctor, "open_backend", missing)
    assert findings()["backend numpy"] == Finding(
        "backend numpy", "not usable: not installed", "pip install numpy"
    )


def test_a_backend_that_opens_and_cannot_compute_is_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(NumpyBackend):
        def probe(self) -> None:
            raise DiamondError("backend numpy: computed nonsense", "3", "buy another")

    monkeypatch.setattr(doctor, "open_backend", lambda name: Broken())
    assert findings()["backend numpy"].text == "not usable: computed nonsense"
    assert findings()["backend numpy"].fix == "buy another"


@pytest.mark.parametrize(
    ("kernels", "expected"),
    [
        (("AVX2", "", ""), "convolutions in fp32 for AVX2, used by backend ort"),
        (
            ("AVX-512", "AVX-512 with bf16", "AVX-512 with VNNI and bf16"),
            "convolutions in fp32 for AVX-512, bf16 for AVX-512 with bf16, int8 for AVX-512 with VNNI and bf16, "
            "used by backend ort",
        ),
    ],
)
def test_native_operators_are_named(
    monkeypatch: pytest.MonkeyPatch, kernels: tuple[str, ...], expected: str
) -> None:
    monkeypatch.setattr(native, "missing", lambda: "")
    monkeypatch.setattr(native, "kernels", lambda products="fp32": kernels[native.PRODUCTS.index(products)])
    found = findings()["native"]
    assert found.text == expected
    assert found.fix == ""


def test_native_operators_that_were_never_compiled_come_with_the_way_to_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(native.SWITCH, raising=False)
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "operators.so")
    native._found.cache_clear()
    try:
        found = findings()["native"]
    finally:
        native._found.cache_clear()
    assert found.text == "none: not compiled when the package was installed; backend ort is slower"
    assert "C++ compiler" in found.fix
    assert "pip install --force-reinstall" in found.fix


def test_native_operators_that_were_turned_off_need_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.SWITCH, "off")
    for library in (native.LIBRARY, Path("nowhere")):
        monkeypatch.setattr(native, "LIBRARY", library)
        found = findings()["native"]
        assert found.text == "none: DIAMOND_NATIVE=off; backend ort is slower"
        assert found.fix == "", library


def test_a_native_library_that_cannot_be_loaded_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(native.SWITCH, raising=False)
    library = tmp_path / "operators.so"
    library.write_bytes(b"no library")
    monkeypatch.setattr(native, "LIBRARY", library)
    native._found.cache_clear()
    try:
        text = findings()["native"].text
    finally:
        native._found.cache_clear()
    assert text.startswith("none: operators.so cannot be loaded: ")


def test_wheels_that_overwrite_each_other_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda wheel: "1.32.0")
    clash = findings()["clash"]
    assert clash.text == "onnxruntime and onnxruntime-gpu overwrite each other's files"
    assert clash.fix.startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install ")


@pytest.mark.parametrize(
    ("capability", "uninstalled"), [((8, 9), "tensorrt-cu13"), ((9, 0), "tensorrt-rtx-cu13-libs")]
)
def test_of_two_tensorrts_the_one_that_does_not_fit_the_gpu_goes(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], uninstalled: str
) -> None:
    monkeypatch.setattr(flavour, "installed", lambda: ("tensorrt_rtx_bindings", "tensorrt"))
    monkeypatch.setattr(FakeCuda, "capability", capability)
    monkeypatch.setattr(doctor, "Cuda", FakeCuda)
    monkeypatch.setattr(doctor, "describe_gpu", lambda cuda: GPU)
    clash = findings()["clash"]
    assert "both installed" in clash.text
    assert uninstalled in clash.fix.split()


def test_cache_sizes_and_how_to_be_rid_of_them(tmp_path: Path) -> None:
    assert findings()["plans"].text == f"{tmp_path / 'home' / 'plans'}: 0 bytes, nothing yet"
    (tmp_path / "home" / "plans").mkdir(parents=True)
    (tmp_path / "home" / "plans" / "a.plan").write_bytes(bytes(2000))
    text = findings()["plans"].text
    assert (
        text
        == f"{tmp_path / 'home' / 'plans'}: 2.00 kB; to be rid of them: rm -r {tmp_path / 'home' / 'plans'}"
    )


def test_programs_of_pytorch_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "programs"
    assert findings()["programs"].text == f"{folder}: 0 bytes, nothing yet"
    folder.mkdir(parents=True)
    (folder / "a.pt2").write_bytes(bytes(3000))
    assert findings()["programs"].text == f"{folder}: 3.00 kB; to be rid of them: rm -r {folder}"


def test_the_report_has_one_column_of_subjects() -> None:
    lines = report().splitlines()
    width = max(len(name) for name in findings())
    assert all(line[width] == " " and line[width + 1] != " " for line in lines)
    assert any(line.strip() == "fix: install the driver" for line in lines)


def test_the_door_prints_the_report_of_this_machine(tmp_path: Path) -> None:
    code = "from engine.cli import main; import sys; sys.argv = ['diamond-play', '--doctor']; main()"
    run: Callable[..., Any] = subprocess.run
    done = run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for subject in (
        "system",
        "GPU",
        "driver",
        "CUDA",
        "backend trt",
        "backend torch",
        "backend ort",
        "native",
        "worlds",
        "plans",
        "programs",
    ):
        assert any(line.startswith(subject) for line in done.stdout.splitlines()), subject
