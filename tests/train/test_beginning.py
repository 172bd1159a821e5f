"""`--from`: a run begins with the weights of a world or of another run, and says what does not fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.catalog import embedded
from engine.errors import DiamondError
from tests.train.test_loop import request
from train.beginning import Beginning
from train.checkpoint import load_checkpoint, read_run
from train.from_world import load_network
from train.loop import train_network
from train.model import Denoiser
from train.run import prepare_run, train_world


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "trained"
    train_world(request(run, recordings, only="denoiser"))
    return run


def test_from_a_run_its_averaged_weights_are_taken(trained: Path, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    info = prepare_run(request(out, recordings, only="denoiser", begin_from=str(trained)))
    began, average = load_checkpoint(out / "denoiser"), load_checkpoint(trained / "denoiser")["ema"]
    assert began["step"] == 0
    assert not began["optimizer"]["state"]
    for part in ("model", "ema"):
        assert all(torch.equal(began[part][key], average[key]) for key in average)
    assert train_network(out, info, "denoiser", resume=True, say=lambda line: None)
    assert load_checkpoint(out / "denoiser")["step"] == info.recipe.denoiser.steps


def test_from_a_world_by_its_name(recordings: Path, tmp_path: Path) -> None:
    info = prepare_run(request(tmp_path / "run", recordings, preset="freedoom", begin_from="freedoom"))
    for name in ("denoiser", "upsampler"):
        network = Denoiser(getattr(info.recipe.agent, name), info.recipe.agent.num_actions)
        load_network(embedded("freedoom"), name, network)
        found = load_checkpoint(tmp_path / "run" / name)["model"]
        assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())


def test_what_does_not_fit_is_said_and_nothing_is_written(
    trained: Path, recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for source, changes, message in (
        ("freedoom", {}, r"its denoiser has cond_channels 256 instead of 32, depths"),
        (str(trained), {"preset": "freedoom"}, r"its denoiser has cond_channels 32 instead of 256"),
        ("nowhere", {}, "nowhere"),
        (str(recordings), {}, "world.json"),
        (str(trained), {}, "train the upsampler first"),  # the run of the fixture has none yet
    ):
        with pytest.raises(DiamondError, match=message):
            prepare_run(request(out, recordings, begin_from=source, **changes))
    assert not out.exists()


def test_a_trained_network_is_not_overwritten(trained: Path, recordings: Path) -> None:
    before = (trained / "denoiser" / "checkpoint.pt").read_bytes()
    with pytest.raises(DiamondError, match="holds a trained denoiser"):
        prepare_run(
            request(trained, None, resume=True, settings=(), only="denoiser", begin_from=str(trained))
        )
    assert (trained / "denoiser" / "checkpoint.pt").read_bytes() == before


def test_other_actions_are_refused(trained: Path) -> None:
    info = read_run(trained)
    other = replace(info.action_space, mouse_x=(-999, *info.action_space.mouse_x[1:]))
    with pytest.raises(DiamondError, match="other actions than the recordings"):
        Beginning(str(trained)).networks(replace(info, action_space=other), ["denoiser"])
    assert list(Beginning(str(trained)).networks(info, ["denoiser"])) == ["denoiser"]


def test_a_world_without_that_network_is_said(trained: Path) -> None:
    info = read_run(trained)
    beginning = Beginning(str(trained))
    beginning.agent = replace(beginning.agent, upsampler=None)
    with pytest.raises(DiamondError, match="has no upsampler"):
        beginning.networks(info, ["denoiser", "upsampler"])
