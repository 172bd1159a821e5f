"""A GPU for tests: the CPU in disguise everywhere, and the real one where there is one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import engine.cuda.compile as compile_module
import engine.cuda.runtime as runtime_module
from engine.cuda.runtime import Cuda
from engine.errors import DiamondError
from tests.engine.cuda.fake_cuda import COMPILER, FakeCuda


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """cuda-python replaced by a CPU in disguise."""
    if COMPILER is None:
        pytest.skip("the kernels run on the CPU only where g++ compiles them")
    fake = FakeCuda(tmp_path)
    for module in (runtime_module, compile_module):
        monkeypatch.setattr(module, "bindings", fake.bindings)
    return fake


@pytest.fixture(params=["cpu in disguise", pytest.param("gpu", marks=pytest.mark.gpu)])
def cuda(request: pytest.FixtureRequest) -> Iterator[Cuda]:
    """A device; tests that ask for it run on both."""
    if request.param == "gpu":
        try:
            yield Cuda()
        except DiamondError as error:
            pytest.skip(error.what)
        return
    fake: FakeCuda = request.getfixturevalue("fake")
    yield Cuda()
    assert not {name: n for name, n in fake.left.items() if name != "libraries"}, (
        "something was not given back"
    )
