"""The graphs, still in PyTorch, against the networks they were made from: hoisting and swapping change nothing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.graphs import (
    DenoiserConditioner,
    DenoiserGraph,
    UpsamplerConditioner,
    UpsamplerGraph,
    adaptive_norms,
    world_graphs,
)
from export.layers import SMALL_GROUP, bicubic_matrix, group_norm
from tests.export.worlds import random_agent
from train.model import Agent, Denoiser

SIGMAS = torch.tensor([0.002, 0.3, 5.0])


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    error = (actual - expected).abs()
    assert error.max() <= tolerance, (
        f"max {error.max():.3g}, mean {error.mean():.3g}, allowed {tolerance:.3g}"
    )


def assert_same_evaluations(network: Denoiser, low_res: tuple[int, int], num_actions: int) -> None:
    """Every noise level at once through the conditioner, then one evaluation each, against the trained network."""
    torch.manual_seed(0)
    T = network.cfg.inner_model.num_steps_conditioning
    factor = network.cfg.upsampling_factor
    size = [side * (factor or 1) for side in low_res]
    x, history = torch.randn(1, 3, *size), torch.rand(1, 3 * T, *size) * 2 - 1
    small = torch.rand(1, 3, *low_res) * 2 - 1
    actions = torch.randint(0, 2, (1, T, num_actions)).float()
    pre = network.preconditioning(SIGMAS, torch.full_like(SIGMAS, 0.005))
    conditioner: nn.Module
    if factor is None:
        conditioner, graph = DenoiserConditioner(network), DenoiserGraph(network)
        modulation = conditioner(actions, pre.c_noise, pre.c_noise_cond)
        torch_history, torch_actions, more = history, actions, ()
    else:
        conditioner, graph = UpsamplerConditioner(network), UpsamplerGraph(network, low_res)
        modulation = conditioner(pre.c_noise, pre.c_noise_cond)
        noise = 0.1 * torch.randn(1, 3, *size)
        torch_history, torch_actions = torch.cat((history, network.enlarge(small) + noise), dim=1), None
        more = (small, noise)
    for index, sigma in enumerate(SIGMAS):
        one = network.preconditioning(sigma[None], torch.tensor([0.005]))
        raw = network.raw_output(x, torch_history, torch_actions, one)
        coefficients = torch.cat((one.c_in, one.c_skip, one.c_out)).flatten()
        denoised, graph_raw, *_ = graph(x, history, *more, modulation[index : index + 1], coefficients)
        assert raw.std() > 0.01, "the networks must paint something"
        assert_close(graph_raw, raw, 1e-5)
        expected = network.quantised_prediction(x, raw, one, network.origin(torch_history))
        off = (denoised - expected).abs() * 127.5
        assert off.max() < 1.5
        assert (off > 0.5).float().mean() <= 0.005


@pytest.mark.parametrize("network", ["denoiser", "upsampler"])
def test_hoisting_the_modulation_changes_nothing(golden_agent: Agent, network: str) -> None:
    assert_same_evaluations(getattr(golden_agent, network), (14, 20), num_actions=51)


@pytest.mark.parametrize("low_res", [(7, 9), (4, 5), (8, 16)])
def test_odd_frame_sizes_are_padded_as_in_training(low_res: tuple[int, int]) -> None:
    agent = random_agent(levels=3, upsampling_factor=2)
    assert_same_evaluations(agent.denoiser, low_res, agent.cfg.num_actions)
    assert agent.upsampler is not None
    assert_same_evaluations(agent.upsampler, low_res, agent.cfg.num_actions)


@pytest.mark.parametrize("patch_size", [2, 4])
def test_patches_are_cut_and_put_together_as_in_training(patch_size: int) -> None:
    upsampler = random_agent(levels=2, upsampling_factor=4, patch_size=patch_size).upsampler
    assert upsampler is not None
    assert upsampler.inner_model.conv_in.stride == (patch_size, patch_size)
    assert_same_evaluations(upsampler, (7, 9), num_actions=3)


@pytest.mark.parametrize("network", ["denoiser", "upsampler"])
def test_networks_that_predict_changes(network: str) -> None:
    agent = random_agent(levels=2, upsampling_factor=2, sigma_data=0.2, predict_change=True)
    assert_same_evaluations(getattr(agent, network), (6, 8), num_actions=3)


@pytest.mark.parametrize(("history", "num_actions"), [(1, 3), (6, 17)])
def test_other_histories_and_action_spaces(history: int, num_actions: int) -> None:
    agent = random_agent(levels=2, history=history, num_actions=num_actions)
    assert_same_evaluations(agent.denoiser, (6, 8), num_actions)


def test_another_sigma_data_is_folded_into_the_first_convolution() -> None:
    assert_same_evaluations(random_agent(sigma_data=0.3).denoiser, (6, 8), num_actions=3)


@pytest.mark.parametrize("size", [(5, 7), (64, 70)], ids=["small", "large"])
@pytest.mark.parametrize("channels", [16, 32, 96])
def test_group_norm_is_pytorchs_in_both_forms(channels: int, size: tuple[int, int]) -> None:
    assert (min(channels, 32) * size[0] * size[1] > SMALL_GROUP) == (size == (64, 70))
    x = torch.randn(1, channels, *size) * 3 + 10  # far from zero, where a variance from means loses digits
    gain, shift = torch.randn(2, 1, channels, 1, 1)
    expected = F.group_norm(x, max(1, channels // 32), gain.flatten(), shift.flatten(), eps=1e-5)
    assert_close(group_norm(x, gain, shift), expected, 3e-5)


def test_group_norm_of_a_constant_picture_is_finite() -> None:
    ones = torch.ones(1, 16, 1, 1)
    assert group_norm(torch.full((1, 16, 64, 70), 1234.567), ones, ones).isfinite().all()


@pytest.mark.parametrize("factor", [2, 5])
def test_bicubic_matrices_enlarge_as_pytorch_does(factor: int) -> None:
    image = torch.rand(1, 3, 6, 11) * 2 - 1
    enlarged = bicubic_matrix(6, factor) @ image @ bicubic_matrix(11, factor).T
    assert_close(enlarged, F.interpolate(image, scale_factor=float(factor), mode="bicubic"), 1e-6)


def test_making_graphs_does_not_change_the_networks(golden_agent: Agent) -> None:
    before = {name: tensor.clone() for name, tensor in golden_agent.state_dict().items()}
    for definition in world_graphs(golden_agent, (14, 20)):
        assert definition.inputs
    after = golden_agent.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_the_modulation_holds_gains_then_shifts_of_every_norm_in_order(golden_agent: Agent) -> None:
    network = golden_agent.denoiser
    c_noise, action = torch.tensor([-0.5]), torch.zeros(1, 4, 51)
    modulation = DenoiserConditioner(network)(action, c_noise, c_noise)
    cond = network.inner_model.conditioning(c_noise, c_noise, action)
    start = 0
    for _, norm in adaptive_norms(network):
        scale, shift = norm.linear(cond).chunk(2, dim=1)
        assert_close(modulation[:, start : start + norm.channels], 1 + scale, 1e-6)
        assert_close(modulation[:, start + norm.channels : start + 2 * norm.channels], shift, 1e-6)
        start += 2 * norm.channels
    assert start == modulation.shape[1]
    assert np.isfinite(modulation.numpy()).all()
