"""docs/episodes.md shows a writer; what it writes is a valid recording."""

import os
import re
import subprocess
import sys
from pathlib import Path

from train.data.report import validate

ROOT = Path(__file__).parents[3]


def test_the_documented_writer_writes_a_valid_recording(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/episodes.md").read_text(), re.S)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=environment, check=True, timeout=60)
    result = validate(tmp_path / "my-game")
    assert (result.episodes, result.frames, result.broken) == (1, 20, [])
