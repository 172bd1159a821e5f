"""Several processes, one run: the same weights as one process, whoever is asked to stop, whatever goes wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from engine.errors import DiamondError
from tests.train.test_loop import request, weights
from train.checkpoint import load_checkpoint, read_run
from train.model import Denoiser
from train.parallel import Group, check_devices, device_of
from train.run import train_world

SETTINGS = (
    "denoiser.steps=6",
    "denoiser.checkpoint_every=3",
    "denoiser.sheet_every=6",
    "denoiser.grad_accumulation=2",
    "denoiser.rollout_frames=3",
    "denoiser.bf16=false",
    "denoiser.lr=0.003",
    "denoiser.warmup_steps=0",
)


def test_two_processes_train_what_one_does(recordings: Path, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    train_world(request(alone, recordings, settings=SETTINGS, only="denoiser"))
    train_world(request(together, recordings, settings=SETTINGS, only="denoiser", processes=2))
    ours, theirs = weights(together), weights(alone)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-5)
    info = read_run(alone)
    torch.manual_seed(info.recipe.denoiser.seed)
    start = Denoiser(info.recipe.agent.denoiser, info.recipe.agent.num_actions).state_dict()
    moved = [float((ours[f"model/{name}"] - value).abs().max()) for name, value in start.items()]
    assert max(moved) > 5e-3  # far more than they may differ by
    pools = [load_checkpoint(run / "denoiser")["rollouts"] for run in (together, alone)]
    assert sorted(pools[0]) == sorted(pools[1]) == [0, 1]
    for micro in (0, 1):
        for name in ("episode", "at", "left"):
            assert torch.equal(pools[0][micro][name], pools[1][micro][name])
    assert (together / "denoiser" / "sheets" / "step_000006.png").is_file()


def test_a_run_of_two_processes_goes_on_with_one(recordings: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_world(request(run, recordings, settings=SETTINGS, only="denoiser", processes=2))
    more = request(run, None, settings=("denoiser.steps=8",), only="denoiser", resume=True, preset=None)
    train_world(more)
    assert load_checkpoint(run / "denoiser")["step"] == 8


def test_ctrl_c_stops_all_of_them_and_saves(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = [f"--set={s}" for s in (*SETTINGS, "denoiser.steps=100000")]
    command = [sys.executable, "-m", "train.cli", "tiny", f"--data={recordings}", f"--out={out}"]
    process = subprocess.Popen(
        [*command, "--processes=2", "--threads=1", "--only=denoiser", *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for _ in range(900):
        if (out / "denoiser" / "checkpoint.pt").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)  # this process alone, as `kill` does; a terminal reaches all of them
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert f"continue with: diamond-train --out {out} --resume" in printed
    assert load_checkpoint(out / "denoiser")["step"] >= 3


def test_what_goes_wrong_in_a_process_is_one_clear_error(recordings: Path, tmp_path: Path) -> None:
    uneven = (*SETTINGS, "denoiser.grad_accumulation=3")
    with pytest.raises(DiamondError, match="grad_accumulation is 3, which 2 processes"):
        train_world(request(tmp_path / "uneven", recordings, settings=uneven, only="denoiser", processes=2))


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    from train.parallel import run_together

    with pytest.raises(DiamondError, match="training process 1 died"):
        run_together(_die_in_the_second, 2, "cpu")


def _die_in_the_second(group: Group) -> None:
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def test_micro_batches_are_shared_out_whole() -> None:
    shares = [list(Group(rank, 4).micro_batches(8)) for rank in range(4)]
    assert sorted(micro for share in shares for micro in share) == list(range(8))
    assert {len(share) for share in shares} == {2}
    with pytest.raises(DiamondError, match="which 3 processes can't share out"):
        Group(0, 3).micro_batches(8)


def test_devices_for_all_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices(2, "cuda")
    check_devices(5, "cpu")
    for size, device in ((3, "cuda"), (2, "cuda:1"), (2, "mps")):
        with pytest.raises(DiamondError, match=f"--processes {size}"):
            check_devices(size, device)
    assert device_of(Group(1, 2), "cuda") == "cuda:1"
    assert device_of(Group(1, 2), "cpu") == "cpu"
    assert device_of(Group(), "cuda") == "cuda"
