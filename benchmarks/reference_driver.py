"""The original DIAMOND implementation as a process that plays frames on request: what ours is measured against.

Started by `benchmarks.reference` beside a checkout of the published repository (branch csgo), whose networks and
sampler it imports; nothing of it is copied here. Its modules want packages that playing does not need, so stand-ins
take the place of the two names that the networks' files import from elsewhere.

Weights, spawn, actions, history handling and preset are the release's. In eager mode every draw comes from our named
noise (`engine.noise`), so that both must paint the same frames; compiled, it draws its own, and only the time counts.

    stdin     one line a request: the number of frames to play
    stdout    one line of JSON an answer: {"frame_ms": [...], "frames": "FILE.npz"};
              arrays low_res and full_res in it, uint8 (N, H, W, 3)
"""

import importlib
import json
import sys
import time
import types
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.noise import SeededNoise
from train.model import DenoiserConfig
from train.presets import PUBLISHED_PRESETS
from train.release import Release, read_release


class NamedDraws:
    """Gives the original's random numbers the names that ours have, by where in the sampler they are asked for."""

    def __init__(self, seed: int) -> None:
        self.noise = SeededNoise(seed)
        self.network, self.frame, self.step = "", 0, 0
        self.began = self.in_history = False

    def begin(self, network: str, frame: int) -> None:
        """The next draws are for this network's next frame."""
        self.network, self.frame, self.step, self.began = network, frame, 0, False

    def draw(self, shape: tuple[int, ...], device: Any) -> Tensor:
        """The next draw."""
        if self.in_history and shape[-2:] == (1, 1):
            return torch.zeros(shape, device=device)  # the offset noise of training, times 0 in play
        what = f"step{self.step}/{'history' if self.in_history else 'churn'}" if self.began else "init"
        self.began = True
        values = self.noise.normal(f"{self.network}/{what}", shape, self.frame)
        return torch.from_numpy(values.copy()).to(device)


class Original:
    """The published networks and samplers, playing one spawn."""

    def __init__(self, checkout: Path, release: Path, preset: str, seed: int, compiled: bool) -> None:
        self.models = _import_models(checkout)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        described = read_release(release)
        weights = torch.load(described.checkpoint, map_location=self.device, weights_only=True)
        self.draws = NamedDraws(seed)
        self.samplers = {
            name: self._sampler(described, name, weights, preset) for name in ("denoiser", "upsampler")
        }
        assert described.agent.upsampler is not None, "the published world has one"
        self.factor = float(described.agent.upsampler.upsampling_factor or 1)
        if compiled:
            for sampler in self.samplers.values():
                sampler.sample = torch.compile(sampler.sample, mode="reduce-overhead")
        else:
            torch.randn = self._randn  # type: ignore[assignment]
            torch.randn_like = self._randn_like  # type: ignore[assignment]
        spawn = described.spawns()[0]
        assert spawn.full_res is not None
        self.low_res, self.full_res = self._frames(spawn.low_res), self._frames(spawn.full_res)
        self.actions = torch.from_numpy(spawn.actions.copy())[None].to(self.device)
        self.script = np.concatenate([spawn.actions[-1:], spawn.next_actions])
        self.frame = 0

    def play(self) -> tuple[float, np.ndarray, np.ndarray]:
        """One frame: milliseconds, and the pictures (h, w, 3) and (H, W, 3), uint8."""
        action = torch.from_numpy(self.script[self.frame % len(self.script)])
        began = time.perf_counter()
        self.actions[0, -1] = action.to(self.device)
        self.draws.begin("denoiser", self.frame)
        small, _ = self.samplers["denoiser"].sample(self.low_res, self.actions)
        enlarged = F.interpolate(small, scale_factor=self.factor, mode="bicubic")[:, None]
        self.draws.begin("upsampler", self.frame)
        large, _ = self.samplers["upsampler"].sample(torch.cat((self.full_res, enlarged), dim=1), None)
        self.low_res = torch.cat((self.low_res[:, 1:], small[:, None]), dim=1)
        self.full_res = torch.cat((self.full_res[:, 1:], large[:, None]), dim=1)
        self.actions = self.actions.roll(-1, dims=1)
        pictures = [self._picture(image) for image in (small, large)]  # waits for the GPU
        frame_ms = (time.perf_counter() - began) * 1e3
        self.frame += 1
        return frame_ms, pictures[0], pictures[1]

    def _sampler(self, release: Release, name: str, weights: dict[str, Tensor], preset: str) -> Any:
        config = getattr(release.agent, name)
        network = self.models.Denoiser(self._network_config(config, release.agent.num_actions))
        mine = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(name)}
        network.load_state_dict(mine, strict=True)
        network = network.to(self.device).eval().requires_grad_(False)
        self._watch(network)
        settings = PUBLISHED_PRESETS[preset][name]
        assert settings is not None
        return self.models.DiffusionSampler(
            network,
            self.models.DiffusionSamplerConfig(
                *(settings.steps, settings.sigma_min, settings.sigma_max, int(settings.rho), settings.order),
                *(settings.s_churn, settings.s_tmin, settings.s_tmax, settings.s_noise, settings.s_cond),
            ),
        )

    def _network_config(self, config: DenoiserConfig, num_actions: int) -> Any:
        inner = {**asdict(config.inner_model), "num_actions": num_actions}
        assert inner.pop("patch_size") == 1, "a release holds no other"
        inner |= {
            name: [int(value) for value in inner[name]] for name in ("depths", "channels", "attn_depths")
        }
        return self.models.DenoiserConfig(
            self.models.InnerModelConfig(**inner),
            config.sigma_data,
            config.sigma_offset_noise,
            config.noise_previous_obs,
            config.upsampling_factor,
        )

    def _watch(self, network: Any) -> None:
        """Tells the draws where in the sampler they are: a step ends with its first evaluation (Heun's second has a
        batch of noise levels), and the history's noise has a method of its own."""
        denoise, apply_noise = network.denoise, network.apply_noise

        def watched_denoise(x: Tensor, sigma: Tensor, *rest: Any) -> Tensor:
            self.draws.step += sigma.ndim == 0
            return denoise(x, sigma, *rest)  # type: ignore[no-any-return]

        def watched_noise(*arguments: Any, **named: Any) -> Tensor:
            self.draws.in_history = True
            try:
                return apply_noise(*arguments, **named)  # type: ignore[no-any-return]
            finally:
                self.draws.in_history = False

        network.denoise, network.apply_noise = watched_denoise, watched_noise

    def _randn(self, *shape: Any, device: Any = None, **_: Any) -> Tensor:
        sizes = shape[0] if isinstance(shape[0], tuple | list) else shape
        return self.draws.draw(tuple(sizes), device)

    def _randn_like(self, like: Tensor, **_: Any) -> Tensor:
        return self.draws.draw(tuple(like.shape), like.device)

    def _frames(self, pixels: np.ndarray) -> Tensor:
        frames = torch.from_numpy(pixels.copy()).to(self.device)
        return frames.float().div(255).mul(2).sub(1)[None]

    def _picture(self, image: Tensor) -> np.ndarray:
        return ((image[0] + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()


def _import_models(checkout: Path) -> Any:
    """The package models.diffusion of the checkout, without the rest of its repository."""
    for name, wanted in (("data", "Batch"), ("utils", "LossAndLogs")):
        stand_in = types.ModuleType(name)
        setattr(stand_in, wanted, object)
        sys.modules[name] = stand_in
    package = types.ModuleType("models")
    package.__path__ = [str(checkout / "src" / "models")]
    sys.modules["models"] = package
    return importlib.import_module("models.diffusion")


def main(checkout: str, release: str, preset: str, seed: str, threads: str, mode: str, folder: str) -> None:
    """Plays what is asked for until stdin ends."""
    torch.set_num_threads(int(threads))
    original = Original(Path(checkout), Path(release), preset, int(seed), mode == "compiled")
    answers = sys.stdout
    sys.stdout = sys.stderr  # nothing but answers on stdout
    print(json.dumps({"device": str(original.device), "torch": torch.__version__}), file=answers, flush=True)
    for request, line in enumerate(sys.stdin):
        with torch.no_grad():
            played = [original.play() for _ in range(int(line))]
        path = Path(folder) / f"{request}.npz"
        np.savez(path, low_res=[p[1] for p in played], full_res=[p[2] for p in played])
        answer = {"frame_ms": [p[0] for p in played], "frames": str(path)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
