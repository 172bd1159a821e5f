"""Growth: the wider network computes what the narrow one did, and its new channels learn."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.errors import DiamondError
from tests.train.test_loop import request
from train import run as run_module
from train.checkpoint import load_average, load_checkpoint, read_run
from train.config import WorldRecipe
from train.growth import can_grow, grow
from train.loop import train_network
from train.model import Denoiser, DenoiserConfig, InnerModelConfig
from train.presets import recipe
from train.run import prepare_run, train_world


def sizes(channels: tuple[int, ...], upsampling_factor: int | None = None) -> DenoiserConfig:
    inner = InnerModelConfig(2, 32, (2, 1, 1), channels, (False, True, False), patch_size=2)
    return DenoiserConfig(inner, upsampling_factor=upsampling_factor)


def random_network(cfg: DenoiserConfig) -> Denoiser:
    """Every weight drawn: the layers that begin with zeros would hide what they do."""
    network = Denoiser(cfg, num_actions=5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1)
    return network


def raw(network: Denoiser) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    frames = 2 + int(network.cfg.is_upsampler)
    x = torch.randn((2, 3, 6, 10), generator=generator)
    history = torch.randn((2, 3 * frames, 6, 10), generator=generator)
    actions = None if network.cfg.is_upsampler else torch.eye(5)[:4].reshape(2, 2, 5)
    sigma, sigma_cond = torch.tensor([0.5, 4.0]), torch.tensor([0.1, 0.2])
    return network.raw_output(x, history, actions, network.preconditioning(sigma, sigma_cond))


@pytest.mark.parametrize("factor", [None, 5])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((64, 64, 96), (96, 64, 96)),  # a level boundary that had no projection gets one
        ((32, 64, 64), (64, 96, 128)),
        ((64, 32, 64), (64, 32, 96)),
        ((16, 32, 32), (16, 32, 64)),  # what is no whole group of a norm stays, and so does what is beside it
        ((32, 32, 32), (32, 32, 32)),
    ],
)
def test_a_grown_network_computes_the_same(
    before: tuple[int, ...], after: tuple[int, ...], factor: int | None
) -> None:
    torch.manual_seed(0)
    narrow, wide = random_network(sizes(before, factor)), random_network(sizes(after, factor))
    assert raw(wide).sub(raw(narrow)).abs().max() > 0.1 or before == after
    grow(narrow, wide)
    with torch.no_grad():
        expected = raw(narrow)
        assert (raw(wide) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_what_reads_new_channels_learns() -> None:
    torch.manual_seed(0)
    narrow, wide = random_network(sizes((32, 32, 32))), Denoiser(sizes((64, 32, 32)), num_actions=5)
    grow(narrow, wide)
    raw(wide).square().mean().backward()
    leaving = wide.inner_model.conv_out.weight
    assert leaving.grad is not None
    assert torch.equal(leaving[:, 32:], torch.zeros_like(leaving[:, 32:]))
    assert (leaving.grad[:, 32:].abs().amax(dim=(0, 2, 3)) > 0).all()


def test_what_does_not_grow() -> None:
    narrow = sizes((64, 64, 96))
    assert can_grow(narrow, sizes((96, 64, 128)))
    for other in (
        sizes((32, 64, 96)),  # narrower
        replace(narrow, sigma_data=1.0),
        replace(narrow, inner_model=replace(narrow.inner_model, depths=(2, 2, 1))),
    ):
        assert not can_grow(narrow, other)
    for before, after in (
        ((16, 16, 32), (32, 16, 32)),  # part of a norm's group
        ((32, 16, 16), (64, 16, 16)),  # concatenated with part of one
        ((16, 16, 32), (16, 16, 64)),
    ):
        assert not can_grow(sizes(before), sizes(after))
    with pytest.raises(DiamondError, match="don't grow"):
        grow(Denoiser(narrow, 5), Denoiser(sizes((32, 64, 96)), 5))


def test_levels_that_become_as_wide_as_each_other_are_refused() -> None:
    with pytest.raises(DiamondError, match="no projection"):
        grow(Denoiser(sizes((32, 64, 64)), 5), Denoiser(sizes((64, 64, 64)), 5))


def test_a_run_begins_with_a_grown_network(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_width(channels: tuple[int, ...]) -> WorldRecipe:
        tiny = recipe("tiny")
        inner = replace(tiny.agent.denoiser.inner_model, channels=channels)
        return replace(
            tiny, agent=replace(tiny.agent, denoiser=replace(tiny.agent.denoiser, inner_model=inner))
        )

    monkeypatch.setattr(run_module, "recipe", lambda name: of_width((32, 32)))
    train_world(request(tmp_path / "narrow", recordings, only="denoiser"))
    monkeypatch.setattr(run_module, "recipe", lambda name: of_width((64, 32)))
    out = tmp_path / "wide"
    info = prepare_run(request(out, recordings, only="denoiser", begin_from=str(tmp_path / "narrow")))

    networks = []
    for folder in (tmp_path / "narrow", out):
        agent = read_run(folder).recipe.agent
        network = Denoiser(agent.denoiser, agent.num_actions)
        load_average(folder / "denoiser", network)
        networks.append(network)
    x, history = torch.randn(2, 3, 6, 8), torch.randn(2, 12, 6, 8)
    actions = torch.zeros(2, 4, info.recipe.agent.num_actions)
    level = torch.tensor([0.5, 4.0])
    with torch.no_grad():
        narrow, wide = (n.denoise(x, level, level / 10, history, actions) for n in networks)
    assert (narrow - wide).abs().max() <= 1.01 / 255 * 2
    assert train_network(out, info, "denoiser", resume=True, say=lambda line: None)
    assert load_checkpoint(out / "denoiser")["step"] == info.recipe.denoiser.steps
