"""The checkpoint of a published release into networks, strictly and without unpickling anything but weights.

PyTorch's `weights_only` unpickler builds tensors and plain containers and refuses the rest before it runs. The
networks are made without memory of their own (on the meta device) and then take the file's tensors as they are, mapped
from the disk: the 1.5 GB of the full model are read once, by whoever computes with them, and never copied here.
"""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engine.errors import DiamondError
from train.model import Agent, AgentConfig

_FIX = "download the release again, from a source you trust"
_EXPECTED = "a PyTorch checkpoint that holds the weights of the networks and nothing else"
_NAMES_SHOWN = 3


def build_agent(config: AgentConfig, path: Path) -> Agent:
    """Networks of these sizes with exactly the checkpoint's weights.

    Args:
        config: sizes.
        path: the checkpoint; must stay in place while the weights are used.

    Returns:
        The agent in evaluation mode on the CPU, float32, without gradients.

    Raises:
        DiamondError: what the checkpoint holds that it should not, or lacks.
    """
    agent = empty_agent(config)
    weights = _read_weights(path)
    _require_fit(path, weights, agent.state_dict())
    agent.load_state_dict(weights, strict=True, assign=True)
    return agent.eval().requires_grad_(False)


def empty_agent(config: AgentConfig) -> Agent:
    """Networks of these sizes without weights: names and shapes only."""
    with torch.device("meta"), _WithoutDrawing():
        return Agent(config)


class _WithoutDrawing(TorchFunctionMode):
    """Leaves out the normal draws that modules start from: without memory they are for nothing, and PyTorch would
    import its compiler for them (a thousand modules, seconds)."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.init.normal_ or func is Tensor.normal_:
            return args[0] if args else (kwargs or {})["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


def _read_weights(path: Path) -> dict[str, Tensor]:
    _require_plain_archive(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged or hostile file can fail in any way; none of them is a defect here
        raise DiamondError(f"{path}: {_what_failed(error)}", _EXPECTED, _FIX) from error
    if not isinstance(state, dict):
        raise DiamondError(f"{path}: holds a {type(state).__name__}", _EXPECTED, _FIX)
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or not value.is_floating_point():
            raise DiamondError(f"{path}: {name!r:.60} is not a weight: a {_kind(value)}", _EXPECTED, _FIX)
    # The original plays in float32, whatever the file holds; float32 stays mapped.
    return {name: value.float() for name, value in state.items()}


def _require_plain_archive(path: Path) -> None:
    """Checks that the file is a whole archive as `torch.save` writes it: uncompressed, so no larger inside."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise DiamondError(f"{path}: is a compressed archive", _EXPECTED, _FIX)
    except OSError as error:
        raise DiamondError(f"{path}: cannot be read: {error.strerror or error}", _EXPECTED) from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DiamondError(
            f"{path}: is not a PyTorch checkpoint, or only a part of one ({path.stat().st_size} bytes)",
            _EXPECTED,
            _FIX,
        ) from error


def _require_fit(path: Path, weights: dict[str, Tensor], sizes: dict[str, Tensor]) -> None:
    """Compares names and shapes with the networks', and says briefly how they differ."""
    lacking = [name for name in sizes if name not in weights]
    unknown = [name for name in weights if name not in sizes]
    differing = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(size.shape)}"
        for name, size in sizes.items()
        if name in weights and weights[name].shape != size.shape
    ]
    complaints = [("lacks", lacking), ("has unknown", unknown), ("has other sizes:", differing)]
    if said := [f"{verb} {_brief(names)}" for verb, names in complaints if names]:
        networks = sorted({name.split(".")[0] for name in weights}) or ["none"]
        raise DiamondError(
            f"{path}: does not fit the release's config: {'; '.join(said)} (networks found: {', '.join(networks)})",
            f"the {len(sizes)} weights of {' and '.join(sorted({name.split('.')[0] for name in sizes}))}",
            _FIX,
        )


def _brief(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")


def _kind(value: object) -> str:
    return f"tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _what_failed(error: Exception) -> str:
    """PyTorch's reason, without its advice to load the file unsafely."""
    if found := re.search(r"GLOBAL (\S+)", str(error)):
        return f"holds more than weights: it refers to {found[1].rstrip('.')}; nothing of it was run"
    if isinstance(error, pickle.UnpicklingError):
        return "is damaged, or holds more than weights; nothing of it was run"
    lines = str(error).strip().splitlines()
    return f"cannot be read as weights: {lines[0] if lines else type(error).__name__}"
