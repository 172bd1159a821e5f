"""Muon beside AdamW: which parameters it moves, by how much, and that it stops and goes on like any other."""

import pytest
import torch
from torch import nn

from engine.errors import DiamondError
from train.optimizer import MuonAndAdamW, OptimizerConfig, make_optimizer
from train.presets import recipe

LR, DECAY = 1e-3, 1e-2


class Layers(nn.Module):
    """One of each kind: the entry and exit of the frames, a hidden convolution, a hidden linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, 8, 3)
        self.hidden = nn.Conv2d(8, 16, 3)
        self.linear = nn.Linear(16, 12)
        self.conv_out = nn.Conv2d(16, 3, 3)


def layers(channels_last: bool = False) -> Layers:
    torch.manual_seed(0)
    network = Layers()
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def with_gradients(network: Layers, seed: int) -> Layers:
    torch.manual_seed(seed)
    for p in network.parameters():
        p.grad = torch.randn(p.shape).to(
            memory_format=torch.channels_last if p.ndim == 4 else torch.contiguous_format
        )
    return network


def optimizer_of(network: Layers) -> MuonAndAdamW:
    optimizer = make_optimizer(network, OptimizerConfig(LR, DECAY, name="muon"))
    assert isinstance(optimizer, MuonAndAdamW)
    return optimizer


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_hidden_weight_moves_by_an_orthogonal_matrix_of_adamws_size(channels_last: bool) -> None:
    network = with_gradients(layers(channels_last), seed=1)
    optimizer = optimizer_of(network)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    optimizer.step()
    for name in ("hidden.weight", "linear.weight"):
        now, then = dict(network.named_parameters())[name].detach(), before[name]
        step = (then * (1 - LR * DECAY) - now).flatten(1) / LR
        size = 0.2 * max(step.shape) ** 0.5
        singular = torch.linalg.svdvals(step) / size
        assert 0.5 < singular.min(), "five iterations bring every singular value near 1"
        assert singular.max() < 1.3
        # The nearest orthogonal matrix to the gradient itself (the first momentum is a multiple of it).
        u, _, v = torch.linalg.svd(gradients[name].flatten(1), full_matrices=False)
        alignment = nn.functional.cosine_similarity(step.flatten(), (u @ v).flatten(), dim=0)
        assert alignment > 0.97, f"{name}: {alignment}"


def test_everything_else_moves_as_adamw_alone_would_move_it() -> None:
    both, alone = with_gradients(layers(), seed=1), with_gradients(layers(), seed=1)
    optimizer_of(both).step()
    make_optimizer(alone, OptimizerConfig(LR, DECAY)).step()
    moved_alike = {
        name for name, p in both.named_parameters() if torch.equal(p, dict(alone.named_parameters())[name])
    }
    assert moved_alike == {n for n, _ in both.named_parameters()} - {"hidden.weight", "linear.weight"}


def test_it_goes_on_where_its_state_was_saved() -> None:
    whole, stopped = layers(True), layers(True)
    first = optimizer_of(whole)
    for seed in (1, 2):
        with_gradients(whole, seed)
        first.step()
    before = optimizer_of(with_gradients(stopped, 1))
    before.step()
    after = optimizer_of(stopped)
    after.load_state_dict(before.state_dict())
    with_gradients(stopped, 2)
    after.step()
    for name, p in whole.named_parameters():
        assert torch.equal(p, dict(stopped.named_parameters())[name]), name


def test_gradients_are_forgotten_by_both() -> None:
    network = with_gradients(layers(), seed=1)
    optimizer_of(network).zero_grad()
    assert all(p.grad is None for p in network.parameters())


def test_the_state_of_adamw_is_refused() -> None:
    network = with_gradients(layers(), seed=1)
    adamw = make_optimizer(network, OptimizerConfig(LR))
    adamw.step()
    with pytest.raises(KeyError):
        optimizer_of(network).load_state_dict(adamw.state_dict())


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(DiamondError, match="optimizer is 'sgd'"):
        type(recipe("tiny").denoiser)(steps=1, batch_size=1, optimizer="sgd")
