"""Named recipes: `freedoom` (the world in the package), `csgo` (the published sizes), `tiny` (tests, a minute)."""

from engine.errors import DiamondError
from engine.schedule import SamplerConfig
from train.config import NetworkTraining, WorldRecipe
from train.model import AgentConfig, DenoiserConfig, InnerModelConfig

PUBLISHED_UPSAMPLING = SamplerConfig(
    steps=10, sigma_min=1.0, sigma_max=5.0, s_churn=10.0, s_tmin=1.0, s_tmax=5.0, s_noise=0.9
)
PUBLISHED_DEFAULT = "fast"  # of the published player
PUBLISHED_PRESETS: dict[str, dict[str, SamplerConfig | None]] = {
    "fast": {
        "denoiser": SamplerConfig(steps=1, s_cond=0.005),
        "upsampler": SamplerConfig(
            steps=1, sigma_min=1.0, sigma_max=5.0, order=2, s_churn=10.0, s_tmin=1.0, s_tmax=5.0, s_noise=0.9
        ),
    },
    "quality": {"denoiser": SamplerConfig(steps=3, s_cond=0.005), "upsampler": PUBLISHED_UPSAMPLING},
}

# Differs from the paper's release: worlds of this size are sharper from the full sigma_max of noise.
SMALL_WORLD_PRESETS: dict[str, dict[str, SamplerConfig | None]] = {
    "fast": {
        "denoiser": SamplerConfig(steps=2, sigma_min=0.3, s_cond=0.005, initial_std=5.0),
        "upsampler": SamplerConfig(steps=1, sigma_min=1.0, initial_std=5.0),
    },
    "quality": {
        "denoiser": SamplerConfig(steps=4, sigma_min=0.1, s_cond=0.005, initial_std=5.0),
        "upsampler": SamplerConfig(steps=3, sigma_min=0.02, initial_std=5.0),
    },
}


# From noise that no frame's brightness shows through: otherwise a rollout fades, see docs/freedoom.md.
FREEDOOM_PRESETS: dict[str, dict[str, SamplerConfig | None]] = {
    "fast": {
        **SMALL_WORLD_PRESETS["fast"],
        "denoiser": SamplerConfig(steps=3, sigma_min=0.3, sigma_max=20.0, s_cond=0.005, initial_std=20.0),
    },
    "quality": {
        **SMALL_WORLD_PRESETS["quality"],
        "denoiser": SamplerConfig(steps=4, sigma_min=0.1, sigma_max=20.0, s_cond=0.005, initial_std=20.0),
    },
}


def _agent(denoiser: InnerModelConfig, upsampler: InnerModelConfig) -> AgentConfig:
    """Both networks in the published arrangement: 51 actions, enlargement by 5, noise on the denoiser's history."""
    return AgentConfig(
        DenoiserConfig(denoiser),
        DenoiserConfig(upsampler, noise_previous_obs=False, upsampling_factor=5),
        num_actions=51,
    )


def _freedoom() -> WorldRecipe:
    return WorldRecipe(
        name="freedoom",
        title="A court with Freedoom's weapons",
        agent=_agent(
            InnerModelConfig(4, 256, (2, 2, 2), (96, 64, 96), (False, False, True), patch_size=2),
            # Patches of 2x2: 0.2 of the time that a U-Net over 150x280 pixels with 16 channels takes.
            InnerModelConfig(1, 128, (1, 1, 1, 1), (16, 32, 64, 64), (False,) * 4, patch_size=2),
        ),
        denoiser=NetworkTraining(
            steps=8_000,
            batch_size=16,
            grad_accumulation=4,
            optimizer="muon",  # from the same weights, in the same minutes, ahead of AdamW; see docs/freedoom.md
            lr=1.2e-3,
            decay_fraction=0.35,
            max_grad_norm=1.0,
            sigma_loc=0.5,  # few-step sampling lives at high noise
            sigma_scale=1.4,
            start_fraction=0.3,
            focus_fraction=0.3,
            focus_keys=("left click", "a", "d"),  # held in 11, 9 and 11 % of the recorded frames
            opening_fraction=0.2,  # or a wall that fills the view seldom ends; see docs/freedoom.md
            history_sigma_loc=-2.5,
            history_warp=0.4,  # this and the next two: or lines that it bent stay bent; see docs/freedoom.md
            history_stretch=0.1,
            noisy_warp=0.4,
        ),
        upsampler=NetworkTraining(
            steps=6_000,
            batch_size=8,
            grad_accumulation=2,
            optimizer="muon",
            lr=1e-3,
            decay_fraction=0.5,
            max_grad_norm=1.0,
            crop=(86, 136),  # padded to whole levels as the whole frame is: 43x68 patches as 75x140, modulo 8
            sigma_loc=-0.3,
            sigma_max=2.5,  # the first level of play is the rows' of start_fraction alone
            start_fraction=0.6,
            low_res_noise=0.14,  # or it paints the denoiser's wavering as faithfully as edges; see docs/freedoom.md
            distil="quality",
            distil_after=0.6,
        ),
        presets=FREEDOOM_PRESETS,
        default_preset="fast",
    )


def _csgo() -> WorldRecipe:
    return WorldRecipe(
        name="csgo",
        title="Counter-Strike: Global Offensive",
        agent=_agent(
            InnerModelConfig(4, 2048, (2, 2, 2, 2), (128, 256, 512, 1024), (False, False, True, True)),
            InnerModelConfig(1, 2048, (2, 2, 2, 2), (64, 64, 128, 256), (False, False, False, True)),
        ),
        # 600 epochs of 400 steps each, as published.
        denoiser=NetworkTraining(steps=240_000, batch_size=16, grad_accumulation=8, autoregressive_steps=4),
        upsampler=NetworkTraining(steps=240_000, batch_size=4, grad_accumulation=8, autoregressive_steps=1),
        presets=PUBLISHED_PRESETS,
        default_preset=PUBLISHED_DEFAULT,
    )


def _tiny() -> WorldRecipe:
    training = NetworkTraining(steps=20, batch_size=2, warmup_steps=2, checkpoint_every=5, sheet_every=10)
    return WorldRecipe(
        name="tiny",
        title="A world for tests",
        agent=_agent(
            InnerModelConfig(4, 32, (1, 1), (8, 16), (False, True)),
            InnerModelConfig(1, 16, (1, 1, 1, 1), (8, 8, 8, 16), (False,) * 4),
        ),
        denoiser=training,
        upsampler=training,
        presets=SMALL_WORLD_PRESETS,
        default_preset="fast",
    )


RECIPES = {"freedoom": _freedoom, "csgo": _csgo, "tiny": _tiny}


def recipe(name: str) -> WorldRecipe:
    """The recipe called `name`. Raises DiamondError with the list of names."""
    if name not in RECIPES:
        raise DiamondError(f"unknown training preset {name!r}", expected="one of " + ", ".join(RECIPES))
    return RECIPES[name]()
