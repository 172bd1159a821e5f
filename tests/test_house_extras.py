"""Promises about a small installation: a missing extra is one clear message that names it, never a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("module", "arguments", "missing", "extra"),
    [
        ("train.cli", ["tiny", "--data", "d", "--out", "r"], "torch", "train"),
        ("export.cli", ["run", "--out", "w"], "torch", "export"),
        ("export.cli", ["csgo"], "torch", "export"),  # before anything is downloaded
        ("export.cli", ["csgo"], "huggingface_hub", "hub"),
        ("train.data.cli", ["stats", "d"], "PIL", "doom"),
        ("train.data.cli", ["validate", "d"], "PIL", "doom"),
    ],
)
def test_a_missing_extra_is_named(
    module: str, arguments: list[str], missing: str, extra: str, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    code = f"import sys; sys.modules[{missing!r}] = None; sys.path.insert(0, {str(ROOT)!r})"
    code += f"\nsys.argv[1:] = {arguments!r}\nfrom {module} import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr
