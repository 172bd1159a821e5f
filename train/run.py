"""One training run from its command line: prepares the run directory, then trains each network in turn."""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from engine.actions import ActionSpace
from engine.errors import DiamondError
from train.beginning import Beginning, save_step_0
from train.checkpoint import NETWORKS, RunInfo, read_run, write_run
from train.config import WorldRecipe, override
from train.loop import Progress, train_network
from train.model import Denoiser
from train.parallel import ALONE, Group, check_devices, device_of, run_together
from train.presets import recipe
from train.segments import open_episodes
from train.sheets import denoiser_sheet, save_sheet, upsampler_sheet


@dataclass(frozen=True)
class RunRequest:
    """What the user asked of diamond-train."""

    preset: str | None
    out: Path
    data: Path | None
    resume: bool
    only: str | None
    settings: tuple[str, ...]
    device: str
    threads: int
    processes: int = 1
    begin_from: str | None = None


def train_world(request: RunRequest) -> None:
    """Trains the networks of a run. Raises DiamondError for anything the user must change."""
    device = choose_device(request.device)
    if request.processes > 1:
        check_devices(request.processes, device)
    info = prepare_run(request)
    work = partial(_train_networks, request, info, device)
    if request.processes > 1:
        run_together(work, request.processes, device)
    else:
        work(ALONE)


def _train_networks(request: RunRequest, info: RunInfo, device: str, group: Group) -> None:
    """One process's part of a run: the networks in turn, until the end or a stop."""
    if request.threads > 0:
        torch.set_num_threads(request.threads)
    elif group.size > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // group.size))
    device = device_of(group, device)
    for name in NETWORKS if request.only is None else (request.only,):
        if getattr(info.recipe.agent, name) is None:
            continue
        if group.leads:
            finished = _train_with_progress(request.out, info, name, device, group)
        else:
            finished = train_network(
                request.out, info, name, resume=True, device=device, say=lambda line: None, group=group
            )
        if not finished:
            return
    if group.leads:
        print(f"next: diamond-export {request.out} --out WORLD")


def choose_device(name: str) -> str:
    """A device that PyTorch can use; `auto` prefers CUDA. Raises DiamondError if it can't be used."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise DiamondError(
            f"--device {name} can't be used: {str(error).splitlines()[0]}", fix="--device cpu"
        ) from error
    return name


def prepare_run(request: RunRequest) -> RunInfo:
    """Reads the run to resume, or writes the description of a new one from the recordings."""
    exists = (request.out / "run.json").is_file()
    if request.resume or (exists and request.only is not None):
        info = read_run(request.out)
        if request.data is not None:
            info = replace(info, data_dir=request.data.resolve())
        if request.settings:
            info = replace(info, recipe=override(info.recipe, list(request.settings)))
        return _begin(request, info)
    if exists:
        raise DiamondError(
            f"{request.out} already holds a run", fix="add --resume to continue it, or choose another --out"
        )
    if request.preset is None or request.data is None:
        raise DiamondError(
            "a new run needs a preset and --data", fix="diamond-train freedoom --data DIR --out RUN"
        )
    chosen = override(recipe(request.preset), list(request.settings))
    episodes, _ = open_episodes(request.data, "train")
    meta = episodes[0].meta
    for episode in episodes:
        same = (meta.low_res_size, meta.full_res_size, meta.action_space, meta.fps)
        if (
            episode.meta.low_res_size,
            episode.meta.full_res_size,
            episode.meta.action_space,
            episode.meta.fps,
        ) != same:
            raise DiamondError(f"{episode.path}: other sizes, actions or fps than {episodes[0].path}")
    space = ActionSpace.from_json(json.loads(meta.action_space))
    if space.size != chosen.agent.num_actions:
        chosen = replace(chosen, agent=replace(chosen.agent, num_actions=space.size))
    if chosen.agent.upsampler is not None and meta.full_res_size is None:
        chosen = replace(chosen, agent=replace(chosen.agent, upsampler=None), upsampler=None)
        print("the recordings have no full-resolution frames: training a world without an upsampler")
    _require_whole_patches(chosen, meta.low_res_size, meta.full_res_size)
    info = RunInfo(
        recipe=chosen,
        data_dir=request.data.resolve(),
        fps=meta.fps,
        low_res=meta.low_res_size,
        full_res=meta.full_res_size if chosen.agent.upsampler is not None else None,
        action_space=space,
        world=meta.world,
    )
    return _begin(request, info)


def _begin(request: RunRequest, info: RunInfo) -> RunInfo:
    """Writes the description of a run, and the checkpoints that it is to begin from, if any."""
    if request.begin_from is None:
        write_run(request.out, info)
        return info
    names = [
        name
        for name in (NETWORKS if request.only is None else (request.only,))
        if getattr(info.recipe, name) is not None
    ]
    for name in names:
        if (request.out / name / "checkpoint.pt").exists():
            raise DiamondError(
                f"--from {request.begin_from}: {request.out} holds a trained {name}", fix="another --out"
            )
    networks = Beginning(request.begin_from).networks(info, names)
    write_run(request.out, info)
    save_step_0(request.out, info, networks)
    return info


def _require_whole_patches(
    recipe: WorldRecipe, low_res: tuple[int, int], full_res: tuple[int, int] | None
) -> None:
    for name, frames in (("denoiser", low_res), ("upsampler", full_res)):
        network, training = getattr(recipe.agent, name), getattr(recipe, name)
        if network is None or frames is None:
            continue
        patch = network.inner_model.patch_size
        for what, size in (("frames", frames), ("crops", training.crop or frames)):
            if size[0] % patch or size[1] % patch:
                raise DiamondError(
                    f"{name}: {what} of {size[0]}x{size[1]} do not divide into patches of {patch}x{patch}",
                    expected=f"heights and widths that are multiples of {patch}",
                    fix=f"--set {name}.crop=[80,140]" if what == "crops" else "record frames of another size",
                )


def _train_with_progress(run_dir: Path, info: RunInfo, name: str, device: str, group: Group) -> bool:
    folder = run_dir / name
    held_out = _held_out(info.data_dir)
    writer = _tensorboard(folder)
    sampler = info.recipe.presets[info.recipe.default_preset][name]

    steps = getattr(info.recipe, name).steps
    # Without tqdm's own rate, which would count the steps before a resume.
    shape = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
    with tqdm(total=steps, desc=name, dynamic_ncols=True, bar_format=shape) as bar:

        def report(progress: Progress) -> None:
            bar.n = progress.step
            left = (
                f"{progress.seconds_left / 3600:.1f} h"
                if progress.seconds_left > 5400
                else f"{progress.seconds_left / 60:.0f} min"
            )
            bar.set_postfix_str(
                f"loss {progress.loss:.4f}, {progress.samples_per_second:.1f} samples/s, {left} left"
            )
            if writer is not None:
                writer.add_scalar("loss", progress.loss, progress.step)
                writer.add_scalar("learning_rate", progress.lr, progress.step)
                writer.add_scalar("gradient_norm", progress.grad_norm, progress.step)
                writer.add_scalar("samples_per_second", progress.samples_per_second, progress.step)

        def on_sheet(network: Denoiser, step: int) -> None:
            if not held_out or sampler is None:
                return
            if name == "denoiser":
                picture = denoiser_sheet(network, sampler, held_out)
            else:
                picture = upsampler_sheet(network, sampler, held_out)
            save_sheet(folder / "sheets" / f"step_{step:06d}.png", picture)
            if writer is not None:
                writer.add_image("rollout", picture, step, dataformats="HWC")

        finished = train_network(
            run_dir,
            info,
            name,
            resume=True,
            device=device,
            report=report,
            say=lambda line: tqdm.write(line),
            on_sheet=on_sheet,
            group=group,
        )
    if writer is not None:
        writer.close()
    return finished


def _held_out(data_dir: Path, count: int = 3) -> list:
    try:
        return open_episodes(data_dir, "test")[0][:count]
    except DiamondError:
        return []


def _tensorboard(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
