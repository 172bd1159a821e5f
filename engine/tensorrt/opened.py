"""A plan that is open: what TensorRT made of it is checked once more, and it only enqueues work from then on.

Needs a GPU. TensorRT-RTX compiles its kernels now, eagerly for every new shape: lazily would mean other kernels after a
while, and a captured frame keeps those it was captured with.
"""

from collections.abc import Mapping
from typing import Any

from engine.backends.base import check_signature
from engine.errors import DiamondError
from engine.graphs import GraphSpec, TensorSpec
from engine.space import size_text
from engine.tensorrt.flavour import Flavour
from engine.tensorrt.network import DTYPES, ROWS
from engine.tensorrt.precisions import plan_types, require_plan_types


class OpenPlan:
    """A deserialised plan and its one execution context.

    Args:
        data: a plan that this engine built, see `engine.tensorrt.plan_cache`.
        stem: its name there.

    Attributes:
        spec: the graph it was made from. stem: as given.
        types: its convolutions and products by type, as the inspector tells them; empty where it doesn't.

    Raises:
        DiamondError: TensorRT cannot open it, or its tensors or types are not the graph's.
    """

    def __init__(self, flavour: Flavour, spec: GraphSpec, data: bytes, stem: str = "") -> None:
        self.spec, self.stem = spec, stem
        self._flavour = flavour
        self._rows = 0
        flavour.log.clear()
        # The runtime stays: an engine refers to it.
        self._runtime = flavour.make("Runtime", flavour.log.logger)
        self._engine = flavour.require(
            self._runtime.deserialize_cuda_engine(data),
            f"{spec}: opening its plan",
            "",
            "diamond-play --doctor",
        )
        check_signature(spec, *_signature(flavour.api, self._engine))
        self.types = self._read_back()
        self._context: Any = None
        self._kernels: Any = None

    def ready(self, free_bytes: int, kernels: bytes | None = None) -> None:
        """Sets memory aside; everything below needs it.

        Args:
            free_bytes: free memory of the GPU.
            kernels: what TensorRT-RTX compiled earlier, see `kernels`; None for nothing.

        Raises:
            DiamondError: it does not fit the GPU, or TensorRT refuses.
        """
        needed_bytes = self._engine.device_memory_size_v2
        if free_bytes < needed_bytes:
            raise DiamondError(
                f"{self.spec}: {size_text(free_bytes)} of GPU memory free",
                f"{size_text(needed_bytes)} for its intermediate results",
                "close other programs that use the GPU",
            )
        self._context = self._make_context(kernels)

    def prepare(self, rows: int) -> None:
        """Fixes every free axis at `rows`.

        Raises:
            DiamondError: more rows than plans are built for, or TensorRT refuses.
        """
        if not ROWS[0] <= rows <= ROWS[-1]:
            raise DiamondError(
                f"{self.spec}: {rows} evaluations a frame",
                f"{ROWS[0]} to {ROWS[-1]}, which its plan was built for",
                "ask for fewer steps with --steps",
            )
        if rows == self._rows:
            return
        for name, tensor in self.spec.inputs.items():
            if None in tensor.shape:
                shape = tuple(rows if axis is None else axis for axis in tensor.shape)
                taken = self._context.set_input_shape(name, shape)
                self._flavour.require(taken, f"{self.spec}: {name} of shape {shape}")
        if unknown := self._context.infer_shapes():
            raise DiamondError(f"{self.spec}: {self._flavour.name} does not know the shape of {unknown}")
        self._rows = rows

    def enqueue(self, stream: int, addresses: Mapping[str, int]) -> None:
        """Puts one evaluation into a stream.

        Raises:
            DiamondError: TensorRT refuses.
        """
        for name, address in addresses.items():
            self._flavour.require(
                self._context.set_tensor_address(name, address), f"{self.spec}: the address of {name}"
            )
        self._flavour.require(self._context.execute_async_v3(stream), f"{self.spec}: running it")

    def kernels(self) -> bytes | None:
        """What TensorRT-RTX has compiled so far, to be handed in next time; None for TensorRT 11."""
        if self._kernels is None:
            return None
        return bytes(self._flavour.require(self._kernels.serialize(), f"{self.spec}: keeping its kernels"))

    def close(self) -> None:
        """Frees it, what refers first."""
        self._context = self._kernels = None
        self._engine = None
        self._runtime = None

    def _read_back(self) -> Mapping[str, int]:
        inspector = self._flavour.require(
            self._engine.create_engine_inspector(), f"{self.spec}: inspecting its plan"
        )
        json_format = self._flavour.api.LayerInformationFormat.JSON
        types = plan_types(str(inspector.get_engine_information(json_format)))
        require_plan_types(self.spec, types)
        return types

    def _make_context(self, kernels: bytes | None) -> Any:
        doing, api = f"{self.spec}: preparing its plan", self._flavour.api
        if not self._flavour.is_rtx:
            return self._flavour.require(self._engine.create_execution_context(), doing)
        config = self._flavour.require(self._engine.create_runtime_config(), doing)
        config.dynamic_shapes_kernel_specialization_strategy = (
            api.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        config.cuda_graph_strategy = (
            api.CudaGraphStrategy.DISABLED
        )  # the whole frame is captured, not each graph
        self._kernels = self._flavour.require(config.create_runtime_cache(), doing)
        if kernels:
            self._kernels.deserialize(
                kernels
            )  # those of another GPU or version are left aside: compiled anew
        self._flavour.require(config.set_runtime_cache(self._kernels), doing)
        return self._flavour.require(self._engine.create_execution_context(config), doing)


def _signature(api: Any, engine: Any) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Inputs and outputs as the plan has them."""
    sides: tuple[dict[str, TensorSpec], dict[str, TensorSpec]] = ({}, {})
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = engine.get_tensor_dtype(name).name
        shape = tuple(None if axis < 0 else axis for axis in engine.get_tensor_shape(name))
        side = sides[0] if engine.get_tensor_mode(name) == api.TensorIOMode.INPUT else sides[1]
        side[name] = TensorSpec(DTYPES.get(dtype, dtype), shape)
    return sides
