"""The objective's own additions: changes instead of frames, and rows that begin as play does."""

import torch

from tests.export.worlds import random_agent
from train.loss import Draw, PlayStart, SigmaDistribution, denoising_loss
from train.model import Denoiser

LEVELS = SigmaDistribution()


def changing(sigma_data: float = 0.2) -> Denoiser:
    return random_agent(levels=2, sigma_data=sigma_data, predict_change=True).denoiser


def drawing(seed: int = 0) -> Draw:
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=generator)


def silent(network: Denoiser) -> Denoiser:
    """One that answers nothing, as a network does before training."""
    torch.nn.init.zeros_(network.inner_model.conv_out.weight)
    assert network.inner_model.conv_out.bias is not None
    torch.nn.init.zeros_(network.inner_model.conv_out.bias)
    return network


def test_a_network_that_knows_nothing_repeats_the_newest_frame() -> None:
    network = silent(changing())
    history = torch.rand(1, 2 * 3, 6, 8) * 2 - 1
    newest = history[:, -3:]
    noisy = 5.0 * torch.randn(1, 3, 6, 8)
    predicted = network.denoise(noisy, torch.tensor([5.0]), None, history, torch.zeros(1, 2, 3))
    assert (predicted - newest).abs().max() < 0.05  # 5 / sigma_data: hardly anything of the noise is left
    plain = silent(random_agent(levels=2).denoiser)
    far = plain.denoise(noisy, torch.tensor([5.0]), None, history, torch.zeros(1, 2, 3))
    assert (far - newest).abs().mean() > 0.3  # the paper's would answer grey


def test_repeating_a_still_picture_costs_nothing_and_a_moving_one_its_motion() -> None:
    network = silent(changing(sigma_data=0.2))
    still = (torch.rand(1, 1, 3, 6, 8) * 1.8 - 0.9).expand(4, 3, 3, 6, 8)
    moved = still.clone()
    moved[:, 2] += 0.2
    actions, valid = torch.zeros(4, 3, 3), torch.ones(4, 3, dtype=torch.bool)
    quiet = SigmaDistribution(loc=-20.0, scale=0.0, sigma_min=1e-6, sigma_max=1e-6)
    start = PlayStart(1.0, sigma=50.0, std=50.0)

    def loss(frames: torch.Tensor) -> float:
        network_loss = denoising_loss(network, frames, actions, valid, drawing(), LEVELS, quiet, start=start)
        return float(network_loss)

    # In units of sigma_data squared; what is left of a still picture is the offset noise on the history, 0.1.
    assert loss(still) < 0.35
    assert 0.8 < loss(moved) - loss(still) < 1.2


def test_rows_that_begin_as_play_does_hold_no_frame() -> None:
    sigma, noisy = torch.full((2000,), 0.3), torch.full((2000, 1, 2, 2), 7.0)
    levels, frames, begun = PlayStart(0.25, sigma=5.0, std=4.0).mix_in(sigma, noisy, drawing())
    assert (begun == (levels == 5.0)).all()
    assert 0.2 < begun.float().mean() < 0.3
    assert (levels[~begun] == sigma[~begun]).all()
    assert (frames[~begun] == 7).all()
    assert abs(float(frames[begun].mean())) < 0.3
    assert abs(float(frames[begun].std()) - 4) < 0.2
    for fraction, expected in ((0.0, 0.0), (1.0, 1.0)):
        levels, *_ = PlayStart(fraction, 5.0, 4.0).mix_in(sigma, noisy, drawing())
        assert (levels == 5.0).float().mean() == expected
