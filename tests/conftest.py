"""Fixtures that several rooms share: the golden networks, and the bundle exported from them, made once a session.

Imports of torch and of the exporter stay inside the fixtures, so that tests without them start at once.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from export.assemble import WorldParts
    from train.model import Agent

os.environ.setdefault("OMP_NUM_THREADS", "1")  # networks this small: threads cost more than they give

# Worlds that the person who runs the tests has made stay out of them.
os.environ["DIAMOND_ENGINE_HOME"] = tempfile.mkdtemp(prefix="diamond-engine-tests-")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden_config() -> dict[str, Any]:
    """Sizes of the golden networks."""
    config: dict[str, Any] = json.loads((GOLDEN / "tiny.json").read_text())["config"]
    return config


@pytest.fixture(scope="session")
def golden_cases() -> dict[str, np.ndarray]:
    """Inputs and results of the published code on the golden networks."""
    with np.load(GOLDEN / "tiny_cases.npz", allow_pickle=False) as cases:
        return {name: cases[name] for name in cases.files}


@pytest.fixture(scope="session")
def golden_agent(golden_config: dict[str, Any]) -> "Agent":
    """The golden networks in PyTorch; not to be changed."""
    import torch

    from train.model import Agent, AgentConfig, DenoiserConfig, InnerModelConfig

    def network(name: str) -> DenoiserConfig:
        return DenoiserConfig(
            inner_model=InnerModelConfig(**golden_config[name]),
            sigma_data=golden_config["sigma_data"],
            sigma_offset_noise=golden_config["sigma_offset_noise"],
            noise_previous_obs=golden_config["noise_previous_obs"][name],
            upsampling_factor=golden_config["upsampling_factor"] if name == "upsampler" else None,
        )

    agent = Agent(AgentConfig(network("denoiser"), network("upsampler"), golden_config["num_actions"]))
    with np.load(GOLDEN / "tiny_weights.npz", allow_pickle=False) as weights:
        agent.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files}, strict=True)
    return agent.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_parts(
    golden_agent: "Agent", golden_config: dict[str, Any], golden_cases: dict[str, np.ndarray]
) -> "WorldParts":
    """A world of the golden networks with the published presets; spawn 0 is that of the golden rollout."""
    from engine.actions import KEYBOARD_MOUSE_51
    from engine.player.recording import Recording
    from engine.spawn import Spawn
    from export.assemble import WorldParts
    from train.presets import PUBLISHED_PRESETS

    actions = golden_cases["rollout/actions"][0]
    spawn = Spawn(
        low_res=golden_cases["rollout/spawn_low_u8"][0],
        full_res=golden_cases["rollout/spawn_full_u8"][0],
        actions=golden_cases["rollout/spawn_act"][0],
        next_actions=actions,
    )
    other = Spawn(
        low_res=golden_cases["sample_denoiser_euler1/history_u8"][0],
        full_res=golden_cases["eval_upsampler/previous_u8"],
        actions=golden_cases["sample_denoiser_euler1/act"][0],
        next_actions=actions[:0],
    )
    demo = Recording(actions.astype(np.uint8), KEYBOARD_MOUSE_51, fps=16.0, seed=0, spawn=0, world="tiny")
    low_res = (golden_config["low_res"][0], golden_config["low_res"][1])
    return WorldParts(
        agent=golden_agent,
        name="tiny",
        title="The golden networks",
        fps=16.0,
        low_res=low_res,
        action_space=KEYBOARD_MOUSE_51,
        presets=PUBLISHED_PRESETS,
        default_preset="fast",
        spawns=(spawn, other),
        demo=demo,
        texts={"NOTICE": b"Random weights; nobody's pictures.\n"},
    )


@pytest.fixture(scope="session")
def tiny_bundle(tiny_parts: "WorldParts", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden networks as a bundle on disk, parity gate passed; not to be changed (copy it first)."""
    from export.assemble import build_bundle

    return build_bundle(tiny_parts, tmp_path_factory.mktemp("worlds") / "tiny")
