"""The training loop of one network: numbered stages, top to bottom.

Every random number is a function of (seed, step), so a resumed run continues bit for bit where the state was saved
(on a CPU with the same thread count). Knows recordings through SegmentSampler and pictures through sheets; the
objective is in loss.py, the files in checkpoint.py.
"""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import DiamondError
from engine.schedule import SamplerConfig
from train.checkpoint import RunInfo, load_checkpoint, save_checkpoint
from train.config import NetworkTraining
from train.distil import Teacher, teacher_sampler
from train.loss import PlayStart, SigmaDistribution, denoising_loss
from train.model import Denoiser
from train.optimizer import MuonAndAdamW, OptimizerConfig, make_optimizer
from train.parallel import ALONE, Group
from train.rollout import sample
from train.rollout_pool import RolloutPool
from train.segments import Batch, SegmentSampler, focus_on, open_episodes, openings, random_crops, to_unit
from train.warp import stretch, warp, warp_under_noise


@dataclass(frozen=True)
class Progress:
    """One line of progress. loss is the mean since the last report; rates are of this start of the run."""

    step: int
    steps: int
    loss: float
    lr: float
    grad_norm: float
    samples_per_second: float
    seconds_left: float


def train_network(
    run_dir: Path,
    info: RunInfo,
    name: str,
    *,
    resume: bool = False,
    device: str = "cpu",
    report: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = print,
    on_sheet: Callable[[Denoiser, int], None] = lambda network, step: None,
    report_every: int = 20,
    group: Group = ALONE,
) -> bool:
    """Trains `name` ("denoiser" or "upsampler") of a run to its last step. False if Ctrl-C stopped it first.

    With a `group` of several processes all of them call this; the leading one saves and draws.
    Raises DiamondError for unusable data, micro-batches that the group can't share out, a full disk, or a loss that is
    not finite (the last good checkpoint stays).
    """
    # 1. Networks and optimiser, from the seed or from the checkpoint.
    cfg: NetworkTraining = getattr(info.recipe, name)
    network_cfg = getattr(info.recipe.agent, name)
    sampler = info.recipe.presets[info.recipe.default_preset][name]
    taught = teacher_sampler(info.recipe, name)
    micro_batches = group.micro_batches(cfg.grad_accumulation)
    folder = run_dir / name
    torch.manual_seed(cfg.seed)
    network = Denoiser(network_cfg, info.recipe.agent.num_actions).to(device)
    ema = Denoiser(network_cfg, info.recipe.agent.num_actions).to(device).requires_grad_(False)
    ema.load_state_dict(network.state_dict())
    if cfg.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(network, OptimizerConfig(cfg.lr, cfg.weight_decay, cfg.eps, cfg.optimizer))
    step, saved_rollouts, teacher = 0, None, None
    if resume and (folder / "checkpoint.pt").is_file():
        saved = restore(folder, network, ema, optimizer)
        step, saved_rollouts = int(saved["step"]), saved.get("rollouts")
        if taught is not None and saved.get("teacher") is not None:
            teacher = Teacher.of(ema, taught)
            teacher.network.load_state_dict(saved["teacher"])
        say(f"{name}: resuming at step {step} of {cfg.steps}")

    # 2. Data.
    episodes, skipped = open_episodes(info.data_dir, "train")
    for line in skipped:
        say(f"skipped {line}")
    history = network_cfg.inner_model.num_steps_conditioning
    focuses = []
    if cfg.focus_fraction > 0:
        focuses += focus_on(episodes, info.action_space, cfg.focus_keys, cfg.focus_fraction)
    if cfg.opening_fraction > 0:
        focuses.append(openings(episodes, cfg.opening_fraction))
    samplers = {
        extra: SegmentSampler(
            episodes, history + 1 + extra, cfg.batch_size, cfg.seed, network_cfg.is_upsampler, focuses
        )
        for extra in {0, cfg.autoregressive_steps}
    }
    pools: dict[int, RolloutPool] = {}
    if cfg.rollout_frames and sampler is not None and not network_cfg.is_upsampler:
        for micro in micro_batches:
            rows = max(1, round(cfg.rollout_fraction * cfg.batch_size))
            pool = RolloutPool(episodes, history, rows, cfg.rollout_frames, (cfg.seed, micro))
            if saved_rollouts and not pool.restore(saved_rollouts.get(micro)):
                say(f"{name}: the saved rollouts do not fit this run's settings; they start anew")
            pools[micro] = pool
    parameters = sum(p.numel() for p in network.parameters())
    frames = sum(len(e) for e in episodes)
    say(
        f"{name}: {parameters / 1e6:.2f} M parameters, {len(episodes)} episodes, {frames} frames, on {device}"
    )

    def save(step: int) -> None:
        rollouts = group.gather({micro: pool.state() for micro, pool in pools.items()})
        if group.leads:
            state = {**state_of(network, ema, optimizer, step), "rollouts": rollouts}
            if teacher is not None:
                state["teacher"] = teacher.network.state_dict()
            save_checkpoint(folder, state)

    # 3. Steps.
    started, first_step, losses = time.monotonic(), step, []
    with stop_on_signals() as stop_requested:
        stops = 0.0  # how many of the processes were asked to stop
        while step < cfg.steps and not stops:
            extra = cfg.autoregressive_steps if step >= cfg.autoregressive_after * cfg.steps else 0
            rolling = bool(pools) and step >= cfg.rollout_after * cfg.steps
            if taught is not None and teacher is None and step >= cfg.distil_after * cfg.steps:
                teacher = Teacher.of(ema, taught)
            lr = cfg.lr * learning_rate_factor(step, cfg)
            for parameters_of in optimizer.param_groups:
                parameters_of["lr"] = lr
            optimizer.zero_grad(set_to_none=True)
            step_loss = 0.0
            for micro in micro_batches:
                index = step * cfg.grad_accumulation + micro
                if rolling:
                    batch = imagined = pools[micro].batch()
                    if len(imagined.actions) < cfg.batch_size:
                        batch = imagined.beside(samplers[0].batch(index))
                else:
                    batch = samplers[extra].batch(index)
                with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=cfg.bf16):
                    loss = batch_loss(network, batch, cfg, index, device, sampler, teacher)
                (loss / cfg.grad_accumulation).backward()
                if rolling and sampler is not None:
                    pools[micro].advance(imagine(ema, sampler, imagined, cfg, index, device), step)
                step_loss += float(loss.detach()) / cfg.grad_accumulation
            step_loss, stops = group.sum_gradients(network, (step_loss, float(stop_requested())))
            grad_norm = float(nn.utils.clip_grad_norm_(network.parameters(), cfg.max_grad_norm))
            if not (math.isfinite(step_loss) and math.isfinite(grad_norm)):
                raise DiamondError(
                    f"{name}: the loss is {step_loss} and its gradient norm {grad_norm} at step {step}",
                    expected="finite numbers",
                    fix=f"the last good checkpoint is kept in {folder}; resume with a lower --set {name}.lr",
                )
            optimizer.step()
            update_ema(ema, network, min(cfg.ema_decay, (1 + step) / (10 + step)))
            step += 1
            losses.append(step_loss)

            # 4. Reports, pictures, checkpoints.
            if step % report_every == 0 or step == cfg.steps:
                rate = (step - first_step) / (time.monotonic() - started)
                samples = rate * cfg.batch_size * cfg.grad_accumulation
                mean = sum(losses) / len(losses)
                report(Progress(step, cfg.steps, mean, lr, grad_norm, samples, (cfg.steps - step) / rate))
                losses.clear()
            if step % cfg.checkpoint_every == 0:
                save(step)
            if step % cfg.sheet_every == 0 and group.leads:
                on_sheet(ema, step)
            if group.size == 1:  # several agree on it in the next step
                stops = float(stop_requested())

    # 5. The end, or Ctrl-C.
    save(step)
    if step < cfg.steps:
        say(
            f"{name}: stopped and saved at step {step} of {cfg.steps}; "
            f"continue with: diamond-train --out {run_dir} --resume"
        )
        return False
    say(f"{name}: finished {step} steps")
    return True


def batch_loss(
    network: Denoiser,
    batch: Batch,
    cfg: NetworkTraining,
    index: int,
    device: str,
    sampler: SamplerConfig | None = None,
    teacher: Teacher | None = None,
) -> Tensor:
    """The loss of micro-batch `index`, whose draws depend on (seed, index) alone. `sampler` is how play begins, and
    `teacher` what paints the frames to come of it, if not the recording.
    """
    generator = torch.Generator(device).manual_seed(cfg.seed * 1_000_003 + index)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    sigmas = SigmaDistribution(cfg.sigma_loc, cfg.sigma_scale, cfg.sigma_min, cfg.sigma_max)
    history_sigmas = replace(sigmas, loc=cfg.history_sigma_loc, scale=cfg.history_sigma_scale)
    start = None
    if cfg.start_fraction > 0 and sampler is not None:
        start = PlayStart(cfg.start_fraction, sampler.sigma_max, sampler.initial_std, teacher)
    low_res = to_unit(batch.low_res.to(device))
    valid = batch.valid.to(device)
    if batch.full_res is None:
        actions = batch.actions.to(device)
        n = network.cfg.inner_model.num_steps_conditioning
        history = low_res[:, :n]
        if cfg.history_warp > 0:
            history = warp(history, cfg.history_warp, generator)
        if cfg.history_stretch > 0:
            history = stretch(history, cfg.history_stretch, generator)
        low_res = torch.cat((history, low_res[:, n:]), dim=1)

        def bend(frames: Tensor, sigma: Tensor) -> Tensor:
            return warp_under_noise(frames, sigma, cfg.noisy_warp, generator)

        bending = bend if cfg.noisy_warp > 0 else None
        return denoising_loss(
            network, low_res, actions, valid, draw, sigmas, history_sigmas, start=start, bend=bending
        )
    full_res = to_unit(batch.full_res.to(device))
    low_res_frames = [low_res]
    if cfg.low_res_noise > 0:
        noisy = noisy_low_res(low_res, cfg.low_res_noise, generator)
        low_res_frames = [noisy] if teacher is None else [noisy, low_res]  # a teacher sees the latter
    videos = [full_res, *(_enlarged(network, frames) for frames in low_res_frames)]
    if videos[1].shape != full_res.shape:
        sizes = [tuple(video.shape[-2:]) for video in videos]
        raise DiamondError(
            f"full-res frames are {sizes[0]}, the enlarged low-res ones {sizes[1]}",
            expected=f"full-res frames {network.cfg.upsampling_factor} times as large as the low-res ones",
        )
    if cfg.crop is not None:
        videos = random_crops(videos, cfg.crop, network.cfg.upsampling_factor or 1, (cfg.seed, index))
    full_res, enlarged, *clean = videos
    taught_from = clean[0] if clean else None
    return denoising_loss(
        network, full_res, None, valid, draw, sigmas, history_sigmas, enlarged, start, taught_from
    )


def _enlarged(network: Denoiser, low_res: Tensor) -> Tensor:
    return network.enlarge(low_res.flatten(0, 1)).unflatten(0, low_res.shape[:2])


def noisy_low_res(low_res: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Low-res frames (B, T, C, h, w) in [-1, 1] with white noise of a deviation from 0 to `most`, drawn a row, clamped.

    An upsampler that saw only recorded frames, exact to a grey level, paints a denoiser's errors as faithfully as
    edges; from noisy ones it learns what is straight (Ho 2022, "Cascaded Diffusion Models", sec. 4.2). It is not told
    how much noise there is. Not in the published training.
    """
    level = most * torch.rand((len(low_res), 1, 1, 1, 1), generator=generator, device=low_res.device)
    noise = torch.randn(low_res.shape, generator=generator, device=low_res.device)
    return (low_res + level * noise).clamp(-1, 1)


def imagine(
    network: Denoiser, sampler: SamplerConfig, batch: Batch, cfg: NetworkTraining, index: int, device: str
) -> Tensor:
    """The frame that the network would play after each history of a batch: uint8 (B, C, h, w), on the CPU."""
    # Far from the loss's seeds, so that no draw is used twice.
    generator = torch.Generator(device).manual_seed(cfg.seed * 1_000_003 + index + (1 << 40))

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    history = to_unit(batch.low_res[:, :-1].to(device)).flatten(1, 2)
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=cfg.bf16):
        frames = sample(network, sampler, history, batch.actions[:, :-1].to(device), draw)
    return ((frames.float() + 1) / 2 * 255).round().byte().cpu()


def learning_rate_factor(step: int, cfg: NetworkTraining) -> float:
    """Linear warm-up from 0, constant, then linear decay over the last `decay_fraction` of the steps."""
    warm = 1.0 if step >= cfg.warmup_steps else step / cfg.warmup_steps
    decay_steps = cfg.decay_fraction * cfg.steps
    return warm if decay_steps == 0 else warm * min(1.0, (cfg.steps - step) / decay_steps)


@torch.no_grad()
def update_ema(ema: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves the averaged parameters by 1 - decay towards the current ones, in place."""
    for average, current in zip(ema.parameters(), network.parameters(), strict=True):
        average.lerp_(current, 1 - decay)


def state_of(
    network: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer | MuonAndAdamW, step: int
) -> dict[str, Any]:
    """Everything `restore` needs, as tensors and plain values."""
    return {
        "step": step,
        "model": network.state_dict(),
        "ema": ema.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def restore(
    folder: Path, network: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer | MuonAndAdamW
) -> dict[str, Any]:
    """Loads a checkpoint into the three and returns it whole."""
    state = load_checkpoint(folder)
    try:
        network.load_state_dict(state["model"], strict=True)
        ema.load_state_dict(state["ema"], strict=True)
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise DiamondError(
            f"{folder}/checkpoint.pt does not fit this run: {str(error).splitlines()[-1].strip()}",
            expected="a checkpoint of the sizes in run.json",
        ) from error
    return state


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """While open, Ctrl-C and SIGTERM ask for a stop after the current step instead of interrupting it."""
    requested: list[int] = []
    previous = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, lambda n, frame: requested.append(n))
    except ValueError:  # not the main thread: the caller keeps its own handling
        pass
    try:
        yield lambda: bool(requested)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
