"""Networks come back out of a world's graphs as they went in."""

from pathlib import Path

import pytest
import torch

import export.layers
from engine.errors import DiamondError
from export.graphs import world_graphs
from export.layers import SMALL_GROUP
from export.onnx import export_graph
from tests.export.worlds import random_agent
from train.from_world import load_network
from train.model import Agent


def export_all(agent: Agent, world: Path) -> None:
    for definition in world_graphs(agent, (6, 8)):
        export_graph(definition, world / "fp32" / f"{definition.role}.onnx")


@pytest.mark.parametrize("small_group", [SMALL_GROUP, 200], ids=["small groups", "large groups"])
def test_weights_come_back_from_the_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_group: int
) -> None:
    monkeypatch.setattr(export.layers, "SMALL_GROUP", small_group)
    agent = random_agent(levels=2, upsampling_factor=2, sigma_data=0.3, patch_size=2)
    export_all(agent, tmp_path)
    fresh = Agent(agent.cfg)
    assert agent.upsampler is not None
    assert fresh.upsampler is not None
    load_network(tmp_path, "denoiser", fresh.denoiser)
    load_network(tmp_path, "upsampler", fresh.upsampler)
    found = fresh.state_dict()
    for name, expected in agent.state_dict().items():
        error = (found[name] - expected).abs().max()
        assert error <= 1e-6, f"{name}: max {error:.3g}"


def test_a_network_of_other_sizes_is_refused(tmp_path: Path) -> None:
    export_all(random_agent(levels=2), tmp_path)
    with pytest.raises(DiamondError, match="denoiser"):
        load_network(tmp_path, "denoiser", Agent(random_agent(levels=1).cfg).denoiser)


def test_a_world_without_that_network_is_refused(tmp_path: Path) -> None:
    export_all(random_agent(), tmp_path)
    with pytest.raises(DiamondError, match="upsampler"):
        load_network(tmp_path, "upsampler", torch.nn.Identity())  # type: ignore[arg-type]
