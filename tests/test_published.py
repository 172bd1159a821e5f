"""`diamond-play csgo` as a newcomer types it: fetched from a hub, made once, played, replayed, and then at home here.

The release is the golden one with its frames cropped (attention over its full frames takes seconds), on a double of
the Hugging Face hub; everything runs in processes of its own.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from engine.player.recording import Recording
from tests.conftest import GOLDEN
from tests.engine.hub_double import HubDouble, serving
from tests.train.releases import cropped_golden_release

pytest.importorskip("av", reason="video needs the extra `record`")
pytest.importorskip("huggingface_hub", reason="fetching needs the extra `hub`")
pytest.importorskip("onnxscript", reason="converting needs the extra `export`")
ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = "csgo/model/csgo.pt"


def release_files(release: Path) -> dict[str, bytes]:
    """The release as the repository has it, with a file beside it that nobody needs."""
    files = {"README.md": b"another game\n", "atari/model.pt": b"not for us"}
    for path in sorted(release.rglob("*")):
        if path.is_file():
            files[f"csgo/{path.relative_to(release)}"] = path.read_bytes()
    return files


@dataclass
class Newcomer:
    """A user with an empty home directory, and a hub on the network."""

    home: Path
    hub: HubDouble
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """diamond-play or diamond-export, in the home directory, without a display."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
        kept.pop("DISPLAY", None)
        environment = kept | {
            "HOME": str(self.home),
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DIAMOND_ENGINE_HOME": str(self.home / "worlds-home"),
            "PYTHONPATH": str(ROOT),
            **self.environment,
        }
        module = {"diamond-play": "engine.cli", "diamond-export": "export.cli"}[program]
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    @property
    def world(self) -> Path:
        return self.home / "worlds-home" / "worlds" / "csgo"


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """Has played `csgo` once: the first attempt was cut off in the middle of the weights."""
    home = tmp_path_factory.mktemp("newcomer")
    files = release_files(cropped_golden_release(tmp_path_factory.mktemp("hub") / "release"))
    double = HubDouble(files, cut={CHECKPOINT: 200_000})
    with serving(double):
        yield Newcomer(home, double)


def frames(video: Path) -> np.ndarray:
    """The frames of a video, int (N, H, W, 3)."""
    import av

    with av.open(video) as container:
        return np.array([f.to_ndarray(format="rgb24") for f in container.decode(video=0)], dtype=int)


def test_a_cut_download_is_named_and_nothing_half_made_is_used(newcomer: Newcomer) -> None:
    done = newcomer.run("diamond-play", "csgo", "--headless", "cut.mp4", "--frames", "2")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error:") == 1
    assert "csgo/model/csgo.pt is missing" in done.stderr
    assert "Traceback" not in done.stderr
    assert not newcomer.world.exists()
    assert not (newcomer.home / "cut.mp4").exists()


def test_the_next_try_makes_the_world_and_plays_it(newcomer: Newcomer) -> None:
    newcomer.hub.cut.clear()
    done = newcomer.run(
        "diamond-play", "csgo", "--headless", "first.mp4", "--frames", "4", "--record", "a.npz"
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    for words in (
        "to download",
        "free in",
        "of memory",
        "parity gate",
        "denoiser: 1 Euler step",
        "upsampler:",
    ):
        assert words in said, f"{words!r} in\n{said}"
    assert said.index("to download") < said.index("of memory") < said.index("parity gate")
    assert (newcomer.home / "first.mp4").stat().st_size > 1000
    asked = newcomer.hub.requested_names()
    assert CHECKPOINT in asked
    assert all(name.startswith("csgo/") for name in asked), asked


def test_later_starts_need_neither_network_nor_torch(newcomer: Newcomer) -> None:
    blocked = newcomer.home / "blocked"
    for name in ("torch", "huggingface_hub", "onnx"):
        (blocked / name).mkdir(parents=True)
        (blocked / name / "__init__.py").write_text(f"raise ImportError('{name} is not needed here')")
    without = Newcomer(
        newcomer.home,
        newcomer.hub,
        {"PYTHONPATH": os.pathsep.join([str(blocked), str(ROOT)]), "HF_ENDPOINT": "http://127.0.0.1:9"},
    )
    requests = len(newcomer.hub.requests)
    done = without.run("diamond-play", "csgo", "--headless", "again.mp4", "--actions", "a.npz")
    shutil.rmtree(blocked)
    assert done.returncode == 0, done.stderr
    assert len(newcomer.hub.requests) == requests
    assert frames(newcomer.home / "again.mp4").shape == frames(newcomer.home / "first.mp4").shape
    difference = np.abs(frames(newcomer.home / "again.mp4") - frames(newcomer.home / "first.mp4"))
    assert difference.mean() < 3, (
        "the encoder is not deterministic to the bit, but the same frames look the same"
    )


def test_the_recorded_human_drives_the_world_at_the_quality_preset(newcomer: Newcomer) -> None:
    done = newcomer.run(
        *("diamond-play", "csgo", "--replay", "--spawn", "1", "--preset", "quality", "--horizon", "3"),
        *("--headless", "replay.mp4", "--frames", "3", "--record", "replay.npz"),
    )
    assert done.returncode == 0, done.stderr
    assert "quality (3 + 10 steps)" in done.stdout
    assert "upsampler: 10 Euler steps, sigma 5 -> 1, churn 10 x 0.9 in [1, 5]" in done.stdout
    recording = Recording.load(newcomer.home / "replay.npz")
    folder = GOLDEN / "published_tiny" / "spawn" / "1"
    human = np.concatenate([np.load(folder / "act.npy")[-1:], np.load(folder / "next_act.npy")])
    np.testing.assert_array_equal(recording.actions, human[:3])
    assert recording.sampling is not None
    assert recording.sampling.networks["upsampler"].s_churn == 10


def test_options_of_the_published_world_are_refused_with_another(newcomer: Newcomer) -> None:
    done = newcomer.run("diamond-play", "freedoom", "--offline", "--headless", "x.mp4")
    assert done.returncode == 2
    assert "--offline with the world 'freedoom'" in done.stderr


def test_a_precision_that_is_not_there_yet_is_refused_with_the_command_that_makes_it(
    newcomer: Newcomer,
) -> None:
    done = newcomer.run("diamond-play", "csgo", "--precision", "fp16", "--headless", "x.mp4", "--frames", "1")
    assert done.returncode == 2
    assert "diamond-export csgo --precision fp16" in done.stderr
