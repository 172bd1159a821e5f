"""The one import: which TensorRT is taken, and what is said of those that cannot be."""

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from engine.errors import DiamondError
from engine.tensorrt import flavour
from engine.tensorrt.flavour import FULL_MODULE, RTX_MODULE, load_flavour
from tests.engine.tensorrt.doubles import FakeApi, Severity, fake_flavour


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    load_flavour.cache_clear()
    yield
    load_flavour.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, *modules: str, version: str = "1.7.1") -> None:
    """Makes it look as if these were installed, and only these."""
    monkeypatch.setattr(flavour, "installed", lambda: modules)
    for name in (RTX_MODULE, FULL_MODULE):
        module = ModuleType(name)
        vars(module).update({"ILogger": FakeApi.ILogger, "__version__": version})
        monkeypatch.setitem(sys.modules, name, module if name in modules else None)


@pytest.mark.parametrize(
    ("module", "version", "text"),
    [(RTX_MODULE, "1.7.1.116", "TensorRT-RTX 1.7.1.116"), (FULL_MODULE, "11.4.0.3", "TensorRT 11.4.0.3")],
)
def test_the_one_that_is_installed_is_taken(
    monkeypatch: pytest.MonkeyPatch, module: str, version: str, text: str
) -> None:
    install(monkeypatch, module, version=version)
    found = load_flavour()
    assert str(found) == text
    assert found.is_rtx == (module == RTX_MODULE)
    assert load_flavour() is found, "one log for the whole process"


def test_none_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    with pytest.raises(DiamondError, match="TensorRT is not installed") as failure:
        load_flavour()
    assert failure.value.fix == 'pip install "diamond-engine[trt]"'


def test_both_are_an_error_that_names_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, RTX_MODULE, FULL_MODULE)
    with pytest.raises(DiamondError, match="both installed") as failure:
        load_flavour()
    assert failure.value.fix.count("pip uninstall") == 2


def test_an_old_one_and_a_broken_one_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FULL_MODULE, version="10.9.0")
    with pytest.raises(DiamondError, match=r"TensorRT 10\.9\.0 is too old"):
        load_flavour()
    monkeypatch.setitem(sys.modules, FULL_MODULE, None)
    with pytest.raises(DiamondError, match="tensorrt cannot be imported"):
        load_flavour()


def test_none_and_false_become_errors_with_tensorrts_own_lines() -> None:
    api = FakeApi()
    found = fake_flavour(api)
    for result in (None, False):
        found.log.logger.log(Severity.ERROR, "Error Code 1: Myelin\n(no tactics)")
        found.log.logger.log(Severity.INFO, "Engine generation completed")
        with pytest.raises(
            DiamondError, match=r"building: TensorRT-RTX failed: Error Code 1: Myelin \(no tactics\)"
        ):
            found.require(result, "building")
    assert found.require(0, "counting") == 0
    found.log.clear()
    with pytest.raises(DiamondError, match="it gave no reason"):
        found.require(None, "building")
    found.log.logger.log(Severity.WARNING, "something odd")
    with pytest.raises(DiamondError, match="something odd"):
        found.require(None, "building")


def test_an_object_that_cannot_be_made_is_an_error_with_the_reason() -> None:
    api = FakeApi()
    api.broken.add("Builder")
    found = fake_flavour(api)
    with pytest.raises(DiamondError, match="no Builder: Error Code 9: Builder said no"):
        found.make("Builder", found.log.logger)


def test_tensorrt_rtx_is_refused_on_a_gpu_that_it_does_not_target() -> None:
    found = fake_flavour()
    assert found.target((8, 9)).name == "SM89"  # type: ignore[union-attr]
    assert found.target((12, 0)).name == "SM120"  # type: ignore[union-attr]
    with pytest.raises(
        DiamondError, match=r"compute capability 9\.0: TensorRT-RTX 1\.7\.1 does not run"
    ) as failure:
        found.target((9, 0))
    assert failure.value.expected == "a GPU of compute capability 7.5, 8.9, 12.0"
    assert "diamond-engine[trt11]" in failure.value.fix
    assert fake_flavour(is_rtx=False).target((9, 0)) is None, "TensorRT builds for the GPU that is there"


def test_the_capabilities_known_here_are_those_of_the_version_that_is_installed() -> None:
    api = pytest.importorskip(RTX_MODULE, reason="the extra `trt` is not installed")
    names = {name for name in api.ComputeCapability.__members__ if name.startswith("SM")}
    assert names == {f"SM{major}{minor}" for major, minor in flavour.RTX_CAPABILITIES}
