"""The DIAMOND model family (Alonso et al., 2024): a denoiser and an upsampler that share one U-Net."""

from train.model.agent import Agent, AgentConfig
from train.model.denoiser import Denoiser, DenoiserConfig, InnerModelConfig

__all__ = ["Agent", "AgentConfig", "Denoiser", "DenoiserConfig", "InnerModelConfig"]
