"""The model family against what the published code computed on tiny networks (`tests/golden`)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from train.loss import Draw, SigmaDistribution, denoising_loss
from train.model import Agent, AgentConfig, Denoiser, DenoiserConfig, InnerModelConfig
from train.optimizer import OptimizerConfig, decayed_parameters, make_optimizer

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = np.load(GOLDEN / "tiny_cases.npz", allow_pickle=False)
INFO = json.loads((GOLDEN / "tiny.json").read_text())
CONFIG = INFO["config"]


def case(name: str) -> Tensor:
    return torch.from_numpy(CASES[name])


def frames(name: str) -> Tensor:
    """uint8 0-255 -> float32 [-1, 1], as the published loader does."""
    return case(name).float().div(255).mul(2).sub(1)


def network_config(name: str) -> DenoiserConfig:
    return DenoiserConfig(
        inner_model=InnerModelConfig(**CONFIG[name]),
        sigma_data=CONFIG["sigma_data"],
        sigma_offset_noise=CONFIG["sigma_offset_noise"],
        noise_previous_obs=CONFIG["noise_previous_obs"][name],
        upsampling_factor=CONFIG["upsampling_factor"] if name == "upsampler" else None,
    )


@pytest.fixture
def agent() -> Agent:
    cfg = AgentConfig(network_config("denoiser"), network_config("upsampler"), CONFIG["num_actions"])
    agent = Agent(cfg)
    weights = np.load(GOLDEN / "tiny_weights.npz", allow_pickle=False)
    agent.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files}, strict=True)
    return agent


def recorded(network: str) -> Draw:
    """Yields the published run's draws in order, and fails on another shape or one draw too many."""
    count = len(INFO["cases"][f"train_{network}"]["noise_shapes"])
    draws = iter([case(f"train_{network}/noise{i}").float() for i in range(count)])

    def draw(shape: tuple[int, ...]) -> Tensor:
        value = next(draws)
        assert tuple(value.shape) == tuple(shape)
        return value

    draw.left = lambda: len(list(draws))  # type: ignore[attr-defined]
    return draw


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    error = (actual.double() - expected.double()).abs()
    assert error.max() <= tolerance, (
        f"max {error.max():.3g}, mean {error.mean():.3g}, allowed {tolerance:.3g}"
    )


def assert_same_grey_levels(actual: Tensor, expected_levels: Tensor) -> None:
    levels = (actual.double() + 1) / 2 * 255
    error = (levels.round() - expected_levels.double()).abs()
    assert error.max() <= 1, f"max {error.max()}"
    assert (error > 0).double().mean() <= 0.005, f"{(error > 0).double().mean():.2%} of the pixels differ"


@pytest.mark.parametrize("network", ["denoiser", "upsampler"])
def test_published_preconditioning(agent: Agent, network: str) -> None:
    model: Denoiser = getattr(agent, network)
    sigma = case(f"precond_{network}/sigma")
    sigma_cond = torch.full_like(sigma, 0.005) if network == "denoiser" else None
    pre = model.preconditioning(sigma, sigma_cond)
    for name in ("c_in", "c_out", "c_skip", "c_noise", "c_noise_cond"):
        assert_close(getattr(pre, name).flatten(), case(f"precond_{network}/{name}"), 1e-6)


def test_published_evaluations_of_the_denoiser(agent: Agent) -> None:
    x, history, act = (case(f"eval_denoiser/{n}") for n in ("x", "history", "act"))
    sigma, sigma_cond = case("eval_denoiser/sigma"), case("eval_denoiser/sigma_cond")
    with torch.no_grad():
        pre = agent.denoiser.preconditioning(sigma, sigma_cond)
        raw = agent.denoiser.raw_output(x, history, act, pre)
    assert_close(raw, case("eval_denoiser/raw"), 1e-5)
    denoised = agent.denoiser.denoise(x, sigma, sigma_cond, history, act)
    assert_same_grey_levels(denoised, ((case("eval_denoiser/denoised").double() + 1) / 2 * 255).round())


def test_published_evaluations_of_the_upsampler(agent: Agent) -> None:
    assert agent.upsampler is not None
    enlarged = agent.upsampler.enlarge(frames("eval_upsampler/low_res_u8"))
    expected_enlarged = case("eval_upsampler/low_res_bicubic")  # every 7th row, every 5th column
    assert_close(enlarged[0, :, ::7, ::5], expected_enlarged, 1e-5)
    history = torch.cat((frames("eval_upsampler/previous_u8"), enlarged), dim=1)
    x, sigma = case("eval_upsampler/x").float(), case("eval_upsampler/sigma")
    with torch.no_grad():
        pre = agent.upsampler.preconditioning(sigma, None)
        raw = agent.upsampler.raw_output(x, history, None, pre)
    expected = case("eval_upsampler/raw")  # stored as float16: compare at its own resolution
    assert_close(raw, expected, 1e-5 + float(expected.abs().max()) * 2**-11)
    denoised = agent.upsampler.denoise(x, sigma, None, history, None)
    assert_same_grey_levels(denoised, case("eval_upsampler/denoised"))


def loss_of(agent: Agent, network: str, draw: Draw) -> Tensor:
    sigmas = CONFIG["sigma_distribution"]
    distribution = SigmaDistribution(sigmas["loc"], sigmas["scale"], sigmas["sigma_min"], sigmas["sigma_max"])
    low_res, valid = frames(f"train_{network}/obs_u8"), case(f"train_{network}/mask")
    if network == "denoiser":
        return denoising_loss(
            agent.denoiser, low_res, case("train_denoiser/act"), valid, draw, distribution, distribution
        )
    assert agent.upsampler is not None
    B, T = low_res.shape[:2]
    enlarged = agent.upsampler.enlarge(low_res.flatten(0, 1)).unflatten(0, (B, T))
    return denoising_loss(
        agent.upsampler,
        frames("train_upsampler/full_u8"),
        None,
        valid,
        draw,
        distribution,
        distribution,
        enlarged,
    )


@pytest.mark.parametrize("network", ["denoiser", "upsampler"])
def test_published_training_step(agent: Agent, network: str) -> None:
    model: Denoiser = getattr(agent, network)
    info = INFO["cases"][f"train_{network}"]
    assert sorted(decayed_parameters(model)) == sorted(info["decayed"])

    optimizer = make_optimizer(model, OptimizerConfig(lr=1e-4, weight_decay=1e-2, eps=1e-8))
    draw = recorded(network)
    loss = loss_of(agent, network, draw)
    assert draw.left() == 0  # type: ignore[attr-defined]
    assert_close(loss.detach(), case(f"train_{network}/loss"), 1e-5)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    assert_close(norm, case(f"train_{network}/grad_norm"), 1e-4)
    optimizer.step()
    assert_close(model.inner_model.conv_in.weight.detach(), case(f"train_{network}/conv_in_after"), 1e-5)


def test_config_survives_json() -> None:
    cfg = AgentConfig(network_config("denoiser"), network_config("upsampler"), 51)
    assert AgentConfig.from_json(json.loads(json.dumps(cfg.to_json()))) == cfg


def test_impossible_group_widths_are_refused() -> None:
    from engine.errors import DiamondError

    with pytest.raises(DiamondError, match="group norm over 112 channels"):
        InnerModelConfig(depths=(1, 1), channels=(48, 64), attn_depths=(False, False))
