"""The door: options arrive, errors have the right exit code, and nothing heavy is imported to say so."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.player.launch import PlayConfig

ROOT = Path(__file__).parents[2]


def diamond_play(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine.cli", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, env={"COLUMNS": "200"}
    )


def test_importing_the_door_imports_no_window_no_video_and_no_network_library() -> None:
    code = "import sys, engine.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "typer" in loaded
    assert not loaded & {"pyglet", "av", "torch", "onnxruntime", "tqdm", "numpy", "PIL"}


def test_rendering_imports_no_window_library() -> None:
    code = "import sys, engine.player.launch; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert not set(done.stdout.split()) & {"pyglet", "av", "torch", "onnxruntime", "PIL"}


def test_help_names_every_option() -> None:
    done = diamond_play("--help")
    assert done.returncode == 0
    for option in ("backend", "precision", "threads", "preset", "steps", "seed", "spawn", "fps", "record"):
        assert f"--{option} " in done.stdout
    for option in ("headless", "frames", "actions", "mouse-multiplier", "size"):
        assert f"--{option} " in done.stdout
    for option in ("sampler", "set", "horizon", "replay", "doctor", "no-cuda-graph"):
        assert f"--{option} " in done.stdout
    for weaker in ("--preset", "--sampler", "--set"):
        assert f"counts more than {weaker}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere"], "nowhere"),
        (["--steps", "many"], "--steps many"),
        (["--headless", "a.avi"], "not an mp4"),
        (["--bogus"], "--bogus"),
        (["--set", "denoiser.step=3"], "'step' is unknown"),
        (["--sampler", "none.yaml"], "none.yaml: cannot be read"),
        (["--spawn", "99"], "--spawn 99: world 'freedoom' has 10 spawns"),
        (["--horizon", "-3"], "--horizon is -3"),
        (["--frames", "x"], "--frames"),
    ],
)
def test_what_the_user_must_change_exits_with_2_and_no_traceback(arguments: list[str], reason: str) -> None:
    done = diamond_play(*arguments)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_every_option_arrives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    typer_testing = pytest.importorskip("typer.testing")
    from engine import cli
    from engine.player import launch

    seen: list[PlayConfig] = []
    monkeypatch.setattr(launch, "play", seen.append)
    monkeypatch.chdir(tmp_path)
    text = (
        "csgo --backend ort --precision int8 --threads 3 --no-cuda-graph --preset quality --steps 4,2"
        " --seed 5 --spawn 6 --fps 7.5 --sampler s.yaml --set denoiser.rho=5 --set upsampler.s_churn=5 --horizon 80"
        " --mouse-multiplier 8 --size 2 --record r.npz --actions a.npz --headless h.mp4 --frames 9"
    )
    result = typer_testing.CliRunner().invoke(cli.app, text.split())
    assert result.exit_code == 0, result.output
    assert typer_testing.CliRunner().invoke(cli.app, ["--replay"]).exit_code == 0
    assert seen.pop() == PlayConfig(replay=True)
    assert seen == [
        PlayConfig(
            world="csgo",
            backend="ort",
            precision="int8",
            threads=3,
            cuda_graph=False,
            preset="quality",
            sampler=Path("s.yaml"),
            settings=("denoiser.rho=5", "upsampler.s_churn=5"),
            steps=(4, 2),
            seed=5,
            spawn=6,
            horizon=80,
            fps=7.5,
            record=Path("r.npz"),
            headless=Path("h.mp4"),
            frames=9,
            actions=Path("a.npz"),
            mouse_multiplier=8.0,
            size=2,
        )
    ]
