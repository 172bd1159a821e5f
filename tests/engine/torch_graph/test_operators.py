"""Every ONNX operator as PyTorch computes it, against ONNX Runtime; what is not supported is named, not guessed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
pytest.importorskip("onnxruntime", reason="no ONNX Runtime to compare with")

from engine.backends import open_backend  # noqa: E402
from engine.errors import DiamondError  # noqa: E402
from engine.torch_graph.convert import graph_module  # noqa: E402
from engine.torch_graph.operators import OPERATORS  # noqa: E402
from tests.engine.torch_graph.small_graphs import one_node, random_inputs, write  # noqa: E402

IMAGE = (1, 4, 6, 5)
RNG = np.random.default_rng(7)


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


def case(operator: str, **more: Any) -> Any:
    """One operator with settings; the id tells what is particular."""
    told = more.pop("id", "")
    return pytest.param(operator, more, id=f"{operator} {told}".strip())


def image(operator: str, shape: tuple[int, ...], **more: Any) -> Any:
    return case(operator, inputs=[IMAGE], outputs=[shape], **more)


CASES = [
    *(
        case(name)
        for name in ("Abs", "Cos", "Exp", "Floor", "Identity", "Neg", "Reciprocal", "Relu", "Sigmoid")
    ),
    *(case(name) for name in ("Sin", "Sqrt", "Tanh")),
    *(case(name, inputs=[(2, 3), (2, 3)]) for name in ("Add", "Sub", "Mul", "Div", "Max", "Min")),
    *(
        case(name, inputs=[(2, 3), (1, 3)], constants=[numbers(2, 1)], id="of three, broadcast")
        for name in ("Max", "Min")
    ),
    case("Add", inputs=[(2, 3)], constants=[np.float32(0.5)], id="a number"),
    case("Pow", constants=[np.float32(2)]),
    case("Cast", attributes={"to": 1}),
    case("Clip", constants=[np.float32(-0.5), np.float32(0.25)]),
    case("Clip", constants=[None, np.float32(0.25)], id="above only"),
    case("Clip", id="without bounds"),
    case("Concat", inputs=[(2, 3), (2, 1)], attributes={"axis": 1}, outputs=[(2, 4)]),
    case("Concat", inputs=[(2, 3), (1, 3)], attributes={"axis": -2}, outputs=[(3, 3)], id="from behind"),
    image("Conv", (1, 2, 6, 5), constants=[numbers(2, 4, 3, 3), numbers(2)], attributes={"pads": [1] * 4}),
    image("Conv", (1, 2, 4, 3), constants=[numbers(2, 4, 3, 3)], id="no bias, no pads"),
    image(
        "Conv",
        (1, 4, 4, 3),
        constants=[numbers(4, 2, 3, 2), numbers(4)],
        attributes={"strides": [2, 2], "pads": [1, 0, 2, 1], "group": 2, "kernel_shape": [3, 2]},
        id="strides, groups, pads on one side",
    ),
    image(
        "Conv",
        (1, 1, 2, 3),
        constants=[numbers(1, 4, 3, 2)],
        attributes={"dilations": [2, 2]},
        id="dilated",
    ),
    image("DepthToSpace", (1, 1, 12, 10), attributes={"blocksize": 2, "mode": "CRD"}),
    case("Gemm", inputs=[(2, 3)], constants=[numbers(3, 4), numbers(4)], outputs=[(2, 4)]),
    case(
        "Gemm",
        constants=[numbers(4, 3), numbers(4)],
        attributes={"transB": 1},
        outputs=[(2, 4)],
        id="a linear layer",
    ),
    case("Gemm", constants=[numbers(4, 3)], attributes={"transB": 1}, outputs=[(2, 4)], id="no bias"),
    case(
        "Gemm",
        inputs=[(3, 2)],
        constants=[numbers(4, 3), numbers(2, 4)],
        attributes={"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0},
        outputs=[(2, 4)],
        id="all attributes",
    ),
    image(
        "InstanceNormalization",
        IMAGE,
        constants=[numbers(4), numbers(4)],
        attributes={"epsilon": 0.1},
    ),
    case("MatMul", inputs=[(2, 3), (3, 4)], outputs=[(2, 4)]),
    case("MatMul", inputs=[(5, 1, 2, 3), (4, 3, 2)], outputs=[(5, 4, 2, 2)], id="a batch, broadcast"),
    image("Pad", (1, 4, 9, 6), constants=[np.array([0, 0, 1, 0, 0, 0, 2, 1])]),
    image(
        "Pad",
        (1, 5, 5, 5),
        constants=[np.array([1, -1, 0, 0]), np.float32(3), np.array([1, -2])],
        id="a value, axes, cropping",
    ),
    image("ReduceMean", (1, 4, 6), constants=[np.array([-1])], attributes={"keepdims": 0}),
    image("ReduceMean", (1, 1, 6, 1), constants=[np.array([1, 3])], id="two axes, kept"),
    image("ReduceMean", (1, 1, 1, 1), id="all"),
    image("ReduceMean", IMAGE, attributes={"noop_with_empty_axes": 1}, id="none"),
    image("Reshape", (1, 2, 60), constants=[np.array([1, 2, -1])], attributes={"allowzero": 1}),
    image(
        "Resize",
        (1, 4, 18, 10),
        constants=[None, np.array([1, 1, 3, 2], np.float32)],
        attributes={"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    image("Resize", (1, 4, 12, 10), constants=[None, np.array([1, 1, 2, 2], np.float32)], id="by default"),
    image("Slice", (1, 2, 6, 2), constants=[np.array(a) for a in ([1, 0], [3, 9999], [1, -1], [1, 3])]),
    image("Slice", (1, 4, 6, 5), constants=[np.array([0, -4]), np.array([1, 4])], id="no axes, no steps"),
    image("Softmax", IMAGE),
    image("Softmax", IMAGE, attributes={"axis": 1}, id="over channels"),
    case(
        "Split",
        inputs=[IMAGE],
        constants=[np.array([1, 3])],
        attributes={"axis": 1},
        outputs=[(1, 1, 6, 5), (1, 3, 6, 5)],
        id="into given sizes",
    ),
    case(
        "Split",
        inputs=[(5,)],
        attributes={"num_outputs": 3},
        outputs=[(2,), (2,), (1,)],
        id="the last one smaller",
    ),
    case("Squeeze", inputs=[(1, 3, 1)], constants=[np.array([0, -1])], outputs=[(3,)]),
    case("Transpose", outputs=[(3, 2)]),
    image("Transpose", (1, 6, 5, 4), attributes={"perm": [0, 2, 3, 1]}, id="perm"),
    case("Unsqueeze", constants=[np.array([-1, 0])], outputs=[(1, 2, 3, 1)]),
]


def computed(spec: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the converted module computes."""
    with torch.inference_mode():
        results = graph_module(spec)(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    return {name: result.numpy() for name, result in zip(spec.outputs, results, strict=True)}


@pytest.mark.parametrize(("operator", "settings"), CASES)
def test_an_operator_computes_what_onnx_runtime_computes(
    tmp_path: Path, operator: str, settings: dict[str, Any]
) -> None:
    spec = one_node(tmp_path / "one.onnx", operator, **settings)
    inputs = random_inputs(spec)
    if operator == "Sqrt":
        inputs = {name: np.abs(array) for name, array in inputs.items()}
    expected = open_backend("ort", threads=1).load(spec).run(inputs)
    for name, ours in computed(spec, inputs).items():
        np.testing.assert_allclose(ours, expected[name], atol=2e-6, rtol=2e-6)
        assert ours.dtype == np.float32


def test_every_operator_has_a_case() -> None:
    assert {case.values[0] for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize("low", ["float16", "bfloat16"])
def test_a_cast_rounds_to_the_nearest(tmp_path: Path, low: str) -> None:
    from onnx import TensorProto, helper

    type_ = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[low]
    nodes = [
        helper.make_node("Cast", ["x"], ["low"], to=type_),
        helper.make_node("Cast", ["low"], ["y"], to=TensorProto.FLOAT),
    ]
    spec = write(tmp_path / "cast.onnx", nodes, {"x": (2, 3)}, {"y": (2, 3)})
    x = np.array([[1.001, -3.14159, 65000.0], [1e-3, 0.1, -0.0]], np.float32)
    rounded = torch.from_numpy(x).to(getattr(torch, low)).float().numpy()
    np.testing.assert_array_equal(computed(spec, {"x": x})["y"], rounded)
    assert (rounded != x).any()


@pytest.mark.parametrize("operator", ["Clip", "Max", "Min"])
def test_nan_comes_through(tmp_path: Path, operator: str) -> None:
    spec = one_node(tmp_path / "one.onnx", operator, constants=[np.float32(-1), np.float32(1)])
    assert np.isnan(computed(spec, {"x0": np.full((2, 3), np.nan, np.float32)})["y0"]).all()


@pytest.mark.parametrize(
    ("operator", "settings", "message"),
    [
        ("Erf", {}, "this operator is not supported"),
        ("Conv", {"attributes": {"auto_pad": "SAME_UPPER"}}, "attribute auto_pad is 'SAME_UPPER'"),
        ("Softmax", {"attributes": {"mystery": 3}}, "attribute mystery is not understood"),
        ("Resize", {"attributes": {"mode": "linear"}}, "attribute mode is 'linear'"),
        ("Resize", {"attributes": {"nearest_mode": "floor"}}, "attribute nearest_mode is 'floor'"),
        ("DepthToSpace", {"attributes": {"blocksize": 2}}, "attribute mode is DCR"),
        (
            "Reshape",
            {"constants": [np.array([0, -1])]},
            r"to \(0, -1\), where 0 stands for an axis of the input",
        ),
        ("Slice", {"constants": [np.array([n]) for n in (5, 0, 1, -1)]}, "a step of -1"),
        ("Cast", {"attributes": {"to": 3}}, "attribute to is 3"),
        ("Split", {"attributes": {"num_outputs": 7}}, "attribute num_outputs is 7"),
        ("Pad", {"constants": [np.array([0, 1])]}, "2 pads for 4 axes"),
        ("Reshape", {"inputs": [IMAGE, (2,)], "constants": []}, r"input 1 \(x1\) is computed"),
        ("Concat", {"attributes": {"axis": 9}}, "PyTorch refuses it: "),
    ],
)
def test_what_is_not_supported_is_named_with_node_operator_and_file(
    tmp_path: Path, operator: str, settings: dict[str, Any], message: str
) -> None:
    settings = {"inputs": [IMAGE], "outputs": [IMAGE], **settings}
    if operator == "Conv":
        settings["constants"] = [numbers(4, 4, 3, 3)]
    if operator == "Resize":
        settings["constants"] = [None, np.array([1, 1, 2, 2], np.float32)]
    spec = one_node(tmp_path / "one.onnx", operator, **settings)
    with pytest.raises(DiamondError, match=rf"one\.onnx: node 'the_node', operator {operator}: {message}"):
        graph_module(spec)
