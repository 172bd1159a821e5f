"""The emulation rounds where the delivered graph rounds, and as much; and why there has to be one."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.emulated import emulate
from export.typed import LOW_TYPES, NUMPY_TYPES, make_typed

ort = pytest.importorskip("onnxruntime")
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(1, 4, 6, 6)).astype(np.float32)
WEIGHTS = [(RANDOM.normal(size=(4, 4, 1, 1)) / 2).astype(np.float32) for _ in range(3)]


def silu_chain() -> onnx.ModelProto:
    """Three 1x1 convolutions, each followed by x * sigmoid(x); the last result times 1, in fp32."""
    nodes, tensor = [], "x"
    for index in range(3):
        conv, gate, tensor = f"conv{index}", f"gate{index}", f"silu{index}"
        source = "x" if index == 0 else f"silu{index - 1}"
        nodes += [
            helper.make_node("Conv", [source, f"w{index}"], [conv]),
            helper.make_node("Sigmoid", [conv], [gate]),
            helper.make_node("Mul", [conv, gate], [tensor]),
        ]
    nodes += [
        helper.make_node("Conv", [tensor, "w0"], ["last"]),
        helper.make_node("Mul", ["last", "one"], ["y"]),
    ]
    weights = {f"w{index}": weight for index, weight in enumerate(WEIGHTS)} | {"one": np.ones(1, np.float32)}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, X.shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def by_hand(precision: str, between: bool) -> np.ndarray:
    """The chain in numpy, with weights and input rounded, and the results between operators if asked."""

    def rounded(values: np.ndarray) -> np.ndarray:
        return values.astype(NUMPY_TYPES[precision]).astype(np.float32)

    step = rounded if between else (lambda values: values)
    y = rounded(X)
    for weight in WEIGHTS:
        y = step(np.einsum("oi,nihw->nohw", rounded(weight[..., 0, 0]), y))
        y = step(y * step(1 / (1 + np.exp(-y))))
    return step(np.einsum("oi,nihw->nohw", rounded(WEIGHTS[0][..., 0, 0]), y))


def run(model: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": X})[0])


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_emulation_rounds_every_result_as_numpy_does(precision: str) -> None:
    model = silu_chain()
    make_typed(model, precision)
    emulate(model)
    onnx.checker.check_model(model, full_check=True)
    expected, unrounded = by_hand(precision, between=True), by_hand(precision, between=False)
    got = run(model)
    step = np.abs(expected).max() * {"fp16": 2.0**-10, "bf16": 2.0**-7}[precision]
    assert np.abs(got - expected).max() <= step, "one value may round the other way"
    assert np.abs(got - expected).mean() < 0.1 * np.abs(got - unrounded).mean()


def test_emulated_bf16_is_eight_times_as_far_from_fp32_as_fp16() -> None:
    """Both round to nearest; bf16 keeps 8 bits, fp16 11."""
    errors = {}
    for precision in ("fp16", "bf16"):
        model = silu_chain()
        make_typed(model, precision)
        emulate(model)
        errors[precision] = np.abs(run(model) - run(silu_chain())).mean()
    assert 6 < errors["bf16"] / errors["fp16"] < 11


def test_onnx_runtime_itself_would_leave_out_the_roundings_of_fp16() -> None:
    """Why fp16 is emulated too. When this fails, ONNX Runtime's CPU has learnt fp16, and need not be helped."""
    model = silu_chain()
    make_typed(model, "fp16")
    got = run(model)
    to_unrounded = np.abs(got - by_hand("fp16", between=False)).mean()
    assert to_unrounded < 0.5 * np.abs(got - by_hand("fp16", between=True)).mean()


@pytest.mark.parametrize("role", ["denoiser", "upsampler", "denoiser_conditioner"])
def test_nothing_but_casts_is_low_in_an_emulated_graph(tiny_bundle: Path, role: str) -> None:
    model = onnx.load(tiny_bundle / "fp32" / f"{role}.onnx")
    make_typed(model, "bf16")
    delivered = [node.op_type for node in model.graph.node if node.op_type != "Cast"]
    emulate(model)
    onnx.checker.check_model(model, full_check=True)
    assert [n.op_type for n in model.graph.node if n.op_type not in ("Cast", "Identity")] == delivered
    assert not [weight.name for weight in model.graph.initializer if weight.data_type in LOW_TYPES.values()]
    for node in model.graph.node:
        if node.op_type == "Cast" and node.attribute[0].i in LOW_TYPES.values():
            readers = [other.op_type for other in model.graph.node if node.output[0] in other.input]
            assert readers == ["Cast"]
