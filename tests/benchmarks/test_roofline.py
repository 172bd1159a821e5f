"""Work is counted as one would by hand, and as the networks' own layers say."""

from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.roofline import Peaks, Work, count, frame_work, roofline_ms
from engine.bundle import Bundle
from engine.catalog import embedded

if TYPE_CHECKING:
    from train.model import Agent, Denoiser


def save(path: Path, nodes: list[onnx.NodeProto], shapes: dict[str, list[int]], weights: list[str]) -> Path:
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    }
    graph = helper.make_graph(
        nodes,
        "test",
        [value for name, value in values.items() if name not in (*weights, "y")],
        [values["y"]],
        [
            helper.make_tensor(
                name, TensorProto.FLOAT, shapes[name], [0.0] * onnx.numpy_helper.np.prod(shapes[name])
            )
            for name in weights
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def test_a_convolution_takes_two_operations_for_every_weight_and_output_pixel(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])
    path = save(tmp_path / "c.onnx", [node], {"x": [1, 4, 8, 6], "w": [5, 4, 3, 3], "y": [1, 5, 4, 3]}, ["w"])
    assert count(path) == Work(flops=2 * 5 * 4 * 3 * (4 * 3 * 3), weight_bytes=5 * 4 * 3 * 3 * 4)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_product_takes_two_operations_for_every_output_and_inner_entry(
    tmp_path: Path, transposed: int
) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=transposed)
    shapes = {"x": [7, 3] if transposed else [3, 7], "w": [7, 5], "y": [3, 5]}
    assert count(save(tmp_path / "g.onnx", [node], shapes, ["w"])).flops == 2 * 3 * 5 * 7


def layer_flops(network: "Denoiser", device: str, size: tuple[int, int], history: int) -> float:
    """Hooks on a network's convolutions, in one evaluation; attention is counted by formula."""
    import torch
    from torch import nn

    from train.model.blocks import SelfAttention2d

    flops = 0.0

    def add(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal flops
        if isinstance(module, nn.Conv2d):
            flops += 2 * output.numel() * module.weight[0].numel()
        elif isinstance(module, SelfAttention2d):
            _, channels, height, width = output.shape
            flops += 2 * 2 * channels * (height * width) ** 2

    hooks = [module.register_forward_hook(add) for module in network.modules()]
    frames, actions = (1, history * 3, *size), torch.zeros(1, history, 51, device=device)
    is_upsampler = network.cfg.upsampling_factor is not None
    if is_upsampler:
        frames = (1, (history + 1) * 3, *size)
    level, x, past = (torch.ones(shape, device=device) for shape in ((1,), (1, 3, *size), frames))
    network.denoise(x, level, None, past, None if is_upsampler else actions)
    for hook in hooks:
        hook.remove()
    return flops


def test_the_denoiser_counts_like_its_own_layers(tiny_bundle: Path, golden_agent: "Agent") -> None:
    """Hooks on the trained network, against the exported graph."""
    flops = layer_flops(golden_agent.denoiser, "cpu", (14, 20), 4)
    assert count(Bundle.open(tiny_bundle).graph("fp32", "denoiser").path).flops == flops


@pytest.mark.parametrize(
    ("name", "size", "history", "gflop"),
    [("denoiser", (30, 56), 4, 31.8), ("upsampler", (150, 280), 1, 85.8)],
)
def test_the_published_networks_count_as_known(
    name: str, size: tuple[int, int], history: int, gflop: float
) -> None:
    """From shapes alone: no weight is made."""
    import torch

    from train.model import Agent
    from train.presets import recipe

    with torch.device("meta"), torch.no_grad():
        network = getattr(Agent(recipe("csgo").agent).eval(), name)
        assert layer_flops(network, "meta", size, history) / 1e9 == pytest.approx(gflop, rel=0.01)


def test_the_rest_moves_what_goes_into_and_out_of_every_other_node(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("Flatten", ["c"], ["y"]),
    ]
    shapes = {"x": [1, 4, 8, 6], "w": [5, 4, 1, 1], "y": [1, 5 * 8 * 6]}
    work = count(save(tmp_path / "r.onnx", nodes, shapes, ["w"]))
    assert work.rest_bytes == 4 * 2 * (4 * 8 * 6), "the activation reads and writes; a reshape moves nothing"


def test_a_frame_is_its_evaluations_and_one_run_of_the_denoisers_conditioner() -> None:
    bundle = Bundle.open(embedded("freedoom"), verify=False)

    def flops(role: str) -> float:
        return count(bundle.graph("fp32", role).path, 2).flops

    work = frame_work(bundle, "fp32", {"denoiser": 2, "upsampler": 1})
    assert work.flops == 2 * flops("denoiser") + flops("upsampler") + flops("denoiser_conditioner")


def test_the_slower_of_arithmetic_and_memory_bounds() -> None:
    peaks = Peaks(flops_per_s=1e12, bytes_per_s=1e10)
    assert roofline_ms(Work(flops=2e9, weight_bytes=10**6), peaks) == pytest.approx(2.0)
    assert roofline_ms(Work(flops=2e9, weight_bytes=10**8), peaks) == pytest.approx(10.0)
