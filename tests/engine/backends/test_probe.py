"""The probe: a backend proves itself by computing something of which the result is known."""

from base64 import b64encode

import numpy as np
import pytest

from engine.backends import open_backend, probe
from engine.backends.base import Arrays, Backend, Graph
from engine.errors import DiamondError
from engine.graphs import GraphSpec


class OneGraph(Graph):
    def __init__(self, spec: GraphSpec, y: np.ndarray | Exception) -> None:
        super().__init__(spec)
        self.y = y

    def _run(self, inputs: Arrays) -> Arrays:
        if isinstance(self.y, Exception):
            raise self.y
        return {"y": self.y}

    def _close(self) -> None:
        pass


class OneResult(Backend):
    """Computes `y`, whatever it is asked."""

    name = "one"
    precisions = ("fp32",)

    def __init__(self, y: np.ndarray | Exception) -> None:
        super().__init__()
        self.y = y

    def describe(self) -> str:
        return "one result"

    def _load(self, spec: GraphSpec) -> Graph:
        return OneGraph(spec, self.y)


def test_the_right_result_passes() -> None:
    right = (probe._X @ probe._W).astype(np.float32)
    OneResult(right).probe()


def test_a_wrong_result_is_refused_with_both() -> None:
    with pytest.raises(DiamondError, match=r"backend one: computed \[\[0\.0, 0\.0, 0\.0\]\]"):
        OneResult(np.zeros((1, 3), np.float32)).probe()


def test_whatever_a_runtime_raises_is_a_reason_not_a_crash() -> None:
    with pytest.raises(DiamondError, match="backend one: cannot compute here: RuntimeError: no kernel image"):
        OneResult(RuntimeError("no kernel image")).probe()


@pytest.mark.parametrize("name", ["torch", "ort", "openvino"])
def test_backends_that_work_here_pass(name: str) -> None:
    pytest.importorskip({"ort": "onnxruntime"}.get(name, name))
    open_backend(name).probe()


def test_the_model_is_the_product_that_it_says_it_is() -> None:
    onnx = pytest.importorskip("onnx", reason="the probe's graph was made with onnx")
    helper, float_ = onnx.helper, onnx.TensorProto.FLOAT
    rows = [helper.make_tensor_value_info(name, float_, [1, 3]) for name in ("x", "y")]
    weights = [onnx.numpy_helper.from_array(probe._W, "w")]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "probe", rows[:1], rows[1:], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    made = model.SerializeToString(deterministic=True)
    assert b64encode(made) == b64encode(probe._MODEL)
