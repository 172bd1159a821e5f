"""Training as its users meet it: a run, a stop, a resume, and everything that can go wrong on the way."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import train.checkpoint
import train.loop
from engine.errors import DiamondError
from train.checkpoint import load_agent, load_checkpoint, read_run
from train.loop import train_network
from train.run import RunRequest, prepare_run, train_world
from train.segments import SegmentSampler, open_episodes

SETTINGS = (
    "denoiser.steps=8",
    "denoiser.checkpoint_every=4",
    "denoiser.sheet_every=8",
    "denoiser.autoregressive_steps=1",
)
UPSAMPLER = ("upsampler.steps=4", "upsampler.sheet_every=4", "upsampler.crop=[40,60]")


def request(out: Path, data: Path | None, **changes: object) -> RunRequest:
    fields = {
        "preset": "tiny",
        "out": out,
        "data": data,
        "resume": False,
        "only": None,
        "settings": SETTINGS + UPSAMPLER,
        "device": "cpu",
        "threads": 1,
    }
    return RunRequest(**{**fields, **changes})  # type: ignore[arg-type]


def weights(run: Path, name: str = "denoiser") -> dict[str, torch.Tensor]:
    state = load_checkpoint(run / name)
    moments = {f"{i}/{k}": v for i, s in state["optimizer"]["state"].items() for k, v in s.items()}
    return {
        **{f"model/{k}": v for k, v in state["model"].items()},
        **{f"ema/{k}": v for k, v in state["ema"].items()},
        **moments,
    }


def assert_identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, f"{len(different)} of {len(a)} tensors differ: {different[:3]}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    train_world(request(run, recordings))
    return run


def test_a_run_leaves_both_networks_sheets_and_scalars(finished: Path) -> None:
    agent = load_agent(finished)
    assert agent.upsampler is not None
    assert all(torch.isfinite(p).all() for p in agent.parameters())
    for name, step in (("denoiser", 8), ("upsampler", 4)):
        assert (finished / name / "sheets" / f"step_{step:06d}.png").stat().st_size > 500
        assert list((finished / name / "tensorboard").iterdir())
    info = read_run(finished)
    assert (info.fps, info.low_res, info.full_res, info.world) == (17.5, (16, 24), (80, 120), "squares")


def test_resuming_continues_bit_for_bit(finished: Path, recordings: Path, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    info = prepare_run(request(run, recordings))
    reports = []

    def stop_after_five(progress: object) -> None:
        reports.append(progress)
        if len(reports) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    assert not train_network(
        run, info, "denoiser", report=stop_after_five, report_every=1, say=lambda line: None
    )
    assert load_checkpoint(run / "denoiser")["step"] == 5
    assert train_network(run, info, "denoiser", resume=True, say=lambda line: None)
    assert_identical(weights(run), weights(finished))


def test_ctrl_c_saves_and_says_how_to_resume(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "train.cli",
        "tiny",
        "--data",
        str(recordings),
        "--out",
        str(out),
        "--threads",
        "1",
    ]
    process = subprocess.Popen(
        [*command, "--set", "denoiser.steps=100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for _ in range(600):
        if (out / "denoiser" / "checkpoint.pt").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert f"continue with: diamond-train --out {out} --resume" in printed
    assert load_checkpoint(out / "denoiser")["step"] >= 5


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = prepare_run(request(tmp_path / "run", recordings))
    real, calls = train.loop.batch_loss, []

    def poisoned(*args: object) -> torch.Tensor:
        calls.append(1)
        loss = real(*args)  # type: ignore[arg-type]
        return loss * float("nan") if len(calls) == 7 else loss

    monkeypatch.setattr(train.loop, "batch_loss", poisoned)
    with pytest.raises(DiamondError, match=r"loss is nan .* at step 6"):
        train_network(tmp_path / "run", info, "denoiser", say=lambda line: None)
    state = load_checkpoint(tmp_path / "run" / "denoiser")
    assert state["step"] == 4
    assert all(torch.isfinite(v).all() for v in state["model"].values())


def test_a_broken_episode_is_skipped_and_reported(recordings: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(recordings, data)
    victim = data / "train" / "episode_000001.safetensors"
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    said: list[str] = []
    info = prepare_run(request(tmp_path / "run", data))
    assert train_network(tmp_path / "run", info, "denoiser", say=said.append)
    assert any("skipped" in line and "episode_000001" in line for line in said)
    assert any("2 episodes" in line for line in said)


def test_a_full_disk_keeps_the_previous_checkpoint(
    finished: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "denoiser"
    shutil.copytree(finished / "denoiser", folder)
    before = (folder / "checkpoint.pt").read_bytes()

    def full(state: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train.checkpoint.torch, "save", full)
    with pytest.raises(DiamondError, match="No space left on device"):
        train.checkpoint.save_checkpoint(folder, {"step": 9})
    assert (folder / "checkpoint.pt").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint.pt", "sheets", "tensorboard"]


@pytest.mark.parametrize("damage", ["empty", "cut", "pickle"])
def test_a_damaged_checkpoint_is_one_clear_error(finished: Path, tmp_path: Path, damage: str) -> None:
    import pickle

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    path = run / "denoiser" / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "pickle": pickle.dumps(print)}[damage])
    with pytest.raises(DiamondError, match=r"checkpoint\.pt can't be read"):
        load_agent(run)


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DiamondError, match="not a run directory"):
        load_agent(tmp_path)


def test_a_run_is_never_overwritten_by_accident(finished: Path, recordings: Path) -> None:
    with pytest.raises(DiamondError, match="already holds a run"):
        prepare_run(request(finished, recordings))


def test_settings_are_checked(recordings: Path, tmp_path: Path) -> None:
    for setting, message in (
        ("denoiser.stepz=3", "not a setting"),
        ("denoiser.steps=many", "wrong kind of value"),
        ("denoiser.steps=0", "expected|at least 1"),
        ("denoiser.crop=[1,2,3]", "wrong kind of value"),
    ):
        with pytest.raises(DiamondError, match=message):
            prepare_run(request(tmp_path / "x", recordings, settings=(setting,)))
    assert not (tmp_path / "x").exists()


def test_a_batch_depends_on_seed_and_step_alone(recordings: Path) -> None:
    episodes, _ = open_episodes(recordings, "train")
    first = SegmentSampler(episodes, 5, 6, seed=3, full_res=True)
    second = SegmentSampler(episodes, 5, 6, seed=3, full_res=True)
    for step in (7, 2):
        a, b = first.batch(step), second.batch(step)
        assert torch.equal(a.low_res, b.low_res)
        assert torch.equal(a.actions, b.actions)
    assert not torch.equal(first.batch(1).low_res, first.batch(2).low_res)


def test_padding_is_black_and_marked_invalid(recordings: Path) -> None:
    episodes, _ = open_episodes(recordings, "train")
    sampler = SegmentSampler(episodes, 12, 64, seed=0, full_res=False)
    batch = sampler.batch(0)
    assert not batch.valid.all()
    assert batch.valid[:, -1].all()
    assert batch.low_res[~batch.valid].max() == 0
    assert batch.actions[~batch.valid].max() == 0


def test_training_learns_the_squares(recordings: Path, tmp_path: Path) -> None:
    settings = (
        "denoiser.steps=60",
        "denoiser.lr=0.003",
        "denoiser.batch_size=8",
        "denoiser.sheet_every=1000",
    )
    info = prepare_run(request(tmp_path / "run", recordings, settings=settings))
    losses: list[float] = []
    train_network(
        tmp_path / "run",
        info,
        "denoiser",
        report=lambda p: losses.append(p.loss),
        report_every=10,
        say=lambda line: None,
    )
    assert losses[-1] < 0.8 * losses[0], losses
