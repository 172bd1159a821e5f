"""Compiles the native operators (docs/native.md) while the package is built or installed, where a C++ compiler is.

Without one, or on a system they are not written for, the package is built without them, says so, and plays all the
same, more slowly. `CXX` names the compiler; `DIAMOND_NATIVE=off` leaves them out.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path("engine/native")
LIBRARY = SOURCES / "operators.so"
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
FLAGS += ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
AVX512 = ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"]
INT8 = [*AVX512, "-mavx512vnni", "-mavx512bf16", "-Wno-uninitialized", "-Wno-maybe-uninitialized"]
KERNELS = {  # by machine: the name of a set of kernels, and the flags of its instructions
    "x86_64": {
        "avx512_bf16": [*AVX512, "-mavx512bf16", "-DDIAMOND_BF16"],
        "avx512": AVX512,
        "avx2": ["-mavx2", "-mfma"],
    },
    "aarch64": {"neon": []},
    "arm64": {"neon": []},
}


class NativeOperators(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the compiled operators to a wheel, or to the checkout of an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files."""
        library = Path(self.root) / LIBRARY
        try:
            compile_operators(Path(self.root) / SOURCES, library)
        except NotBuilt as error:
            library.unlink(missing_ok=True)
            self.app.display_warning(f"without native operators: {error}")
            return
        build_data["artifacts"].append(str(LIBRARY))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


class NotBuilt(Exception):
    """Why there will be no native operators."""


def compile_operators(sources: Path, library: Path) -> None:
    """Compiles `sources` to `library`, which is replaced only by a whole one.

    Raises:
        NotBuilt: the reason, for people.
    """
    if os.environ.get("DIAMOND_NATIVE") == "off":
        raise NotBuilt("DIAMOND_NATIVE=off")
    kernels = KERNELS.get(platform.machine())
    if sys.platform not in ("linux", "darwin") or kernels is None:
        raise NotBuilt(f"they are not written for {sys.platform} on {platform.machine()}")
    named = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if named is None:
        raise NotBuilt("no C++ compiler here, such as g++")
    compiler = shlex.split(named)
    revision = f'-DDIAMOND_SOURCES="{sources_sha256(sources)}"'
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            ["kernels.cpp", f"{folder}/{name}.o", f"-DDIAMOND_KERNELS={name}", *flags]
            for name, flags in kernels.items()
        ]
        jobs += [["int8.cpp", f"{folder}/int8.o", *INT8]] if platform.machine() == "x86_64" else []
        jobs += [[f"{name}.cpp", f"{folder}/{name}.o", revision] for name in ("dispatch", "operators")]
        with ThreadPoolExecutor() as pool:
            list(
                pool.map(
                    lambda job: _run(*compiler, *FLAGS, *job[2:], "-c", str(sources / job[0]), "-o", job[1]),
                    jobs,
                )
            )
        static = ["-static-libgcc", "-static-libstdc++"] if sys.platform == "linux" else []
        made = library.with_suffix(".new")
        _run(*compiler, "-shared", *static, "-o", str(made), *(job[1] for job in jobs))
        made.replace(library)


def sources_sha256(sources: Path) -> str:
    """Of the C++ files, their names included: `engine.native` computes the same, to find an outdated library."""
    digest = hashlib.sha256()
    for path in sorted((*sources.glob("*.cpp"), *sources.glob("*.hpp"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NotBuilt(f"{command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise NotBuilt(f"{command[0]} failed:\n{done.stderr.strip()[-2000:]}")
