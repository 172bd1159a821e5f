"""The plan of a graph: the one that was kept where it fits, else a new one, checked before it is kept.

Three files a plan, in the user's own directory: the plan, its sidecar, and for TensorRT-RTX the kernels it compiled.
The sidecar is written last and read first: without one, or with one that does not fit, there is no plan.
"""

import hashlib
from dataclasses import asdict

from engine.cuda.gpu import Gpu
from engine.errors import DiamondError
from engine.graphs import GraphSpec
from engine.kept import Unfit, difference, graph_sha256, kept_stem
from engine.tensorrt.building import BuiltPlan, build_plan
from engine.tensorrt.flavour import Flavour
from engine.tensorrt.network import ROWS, BuildOptions
from engine.tensorrt.opened import OpenPlan
from engine.tensorrt.plan_cache import PlanCache
from engine.tensorrt.precisions import PRECISIONS, counted
from engine.tensorrt.progress import Say
from engine.tensorrt.sidecar import NO_GPU, RECIPE, Circumstances, Sidecar, tensors_text

TIMING_CACHE = "timing.cache"


class Plans:
    """Plans for the GPU of this machine.

    Args:
        gpu: None to build ahead of time where there is none, which only TensorRT-RTX does.
        cache: where they are kept; None for the user's own directory.
        options: for those that are built.
        say: takes one line of progress at a time.
    """

    def __init__(
        self,
        flavour: Flavour,
        gpu: Gpu | None,
        cache: PlanCache | None = None,
        options: BuildOptions | None = None,
        say: Say = print,
    ) -> None:
        self.flavour, self.gpu = flavour, gpu
        self.cache = PlanCache() if cache is None else cache
        self.options = BuildOptions() if options is None else options
        self._say = say

    def obtain(self, spec: GraphSpec) -> OpenPlan:
        """The graph's plan, open but not yet ready; built first where none that fits was kept.

        Raises:
            DiamondError: it cannot be built or opened, or somebody else could have written what was kept.
        """
        _require_precision(spec)
        here = self.circumstances(spec)
        try:
            return self._open_kept(spec, here)
        except Unfit as unfit:
            self._say_why(spec, unfit)
        built, plan = self._build_and_open(spec, here)
        try:
            self._keep(spec, here, built, plan)
        except DiamondError as error:  # a full disk: the next start takes longer, this one plays
            self._say(f"{spec}: its plan is not kept: {error.what}")
        return plan

    def make(self, spec: GraphSpec, force: bool = False) -> bool:
        """Has a plan kept for the graph, and opened once where there is a GPU; gives whether it had to be built.

        Args:
            force: build even where one that fits was kept.

        Raises:
            DiamondError: as `obtain`, or it cannot be kept.
        """
        _require_precision(spec)
        here = self.circumstances(spec)
        if not force:
            try:
                if self.gpu is None:
                    self._kept(spec, here)
                else:
                    self._open_kept(spec, here).close()
                self._say(f"{spec}: has a plan already")
                return False
            except Unfit as unfit:
                self._say_why(spec, unfit)
        if self.gpu is None:
            self._keep(spec, here, self._build(spec))
        else:
            built, plan = self._build_and_open(spec, here)
            try:
                self._keep(spec, here, built, plan)
            finally:
                plan.close()
        return True

    def kernels(self, plan: OpenPlan) -> bytes | None:
        """What TensorRT-RTX compiled for a plan in earlier runs; None for nothing."""
        return self.cache.read(f"{plan.stem}.kernels")

    def keep_kernels(self, plan: OpenPlan) -> None:
        """Writes what TensorRT-RTX has compiled for a plan, where that is new; a failure is said and costs time."""
        name = f"{plan.stem}.kernels"
        try:
            kernels = plan.kernels()
            if kernels is not None and kernels != self.cache.read(name):
                self.cache.write(name, kernels)
        except DiamondError as error:
            self._say(f"{plan.spec}: its compiled kernels are not kept: {error.what}")

    def circumstances(self, spec: GraphSpec) -> Circumstances:
        """What a plan of this graph depends on, here and now."""
        gpu = self.gpu
        return Circumstances(
            tensorrt=str(self.flavour),
            recipe=RECIPE,
            gpu=NO_GPU if gpu is None else gpu.name,
            capability=NO_GPU if gpu is None else gpu.capability_text,
            driver=NO_GPU if gpu is None else gpu.driver,
            cuda=NO_GPU if gpu is None else gpu.cuda,
            onnx_sha256=graph_sha256(spec),
            precision=spec.precision,
            tensors=tensors_text(spec, ROWS),
        )

    def _kept(self, spec: GraphSpec, here: Circumstances) -> bytes:
        """The plan that was kept, not yet open.

        Raises:
            Unfit: there is none, or it is for other circumstances, or not what was written.
        """
        stem = kept_stem(spec, here.onnx_sha256)
        text = self.cache.read(f"{stem}.json")
        if text is None:
            raise Unfit
        try:
            sidecar = Sidecar.from_json(text, f"{stem}.json")
        except DiamondError as error:
            raise Unfit(error.what) from error
        if (differs := difference(sidecar.made_for, here)) is not None:
            raise Unfit(differs)
        wanted = asdict(self.options)
        if self.options != BuildOptions() and sidecar.options != wanted:  # none asked for: any will do
            raise Unfit(f"options were {sidecar.options}, are {wanted}")
        data = self.cache.read(f"{stem}.plan")
        if data is None:
            raise Unfit(f"{stem}.plan is missing")
        if hashlib.sha256(data).hexdigest() != sidecar.plan_sha256:
            raise Unfit(f"{stem}.plan is damaged")
        return data

    def _open_kept(self, spec: GraphSpec, here: Circumstances) -> OpenPlan:
        """Opens the plan that was kept; one that TensorRT refuses is unfit, not the user's to put right."""
        data = self._kept(spec, here)
        try:
            return OpenPlan(self.flavour, spec, data, kept_stem(spec, here.onnx_sha256))
        except DiamondError as error:
            raise Unfit(error.what) from error

    def _build_and_open(self, spec: GraphSpec, here: Circumstances) -> tuple[BuiltPlan, OpenPlan]:
        """A new plan, to be kept only once it has been opened, which checks it."""
        built = self._build(spec)
        return built, OpenPlan(self.flavour, spec, built.data, kept_stem(spec, here.onnx_sha256))

    def _build(self, spec: GraphSpec) -> BuiltPlan:
        target = None if self.gpu is None else self.flavour.target(self.gpu.capability)
        timing_cache = None if self.flavour.is_rtx else self.cache.read(TIMING_CACHE)
        return build_plan(self.flavour, spec, target, self.options, self._say, timing_cache)

    def _keep(
        self, spec: GraphSpec, here: Circumstances, built: BuiltPlan, opened: OpenPlan | None = None
    ) -> None:
        stem = kept_stem(spec, here.onnx_sha256)
        plan_types = "not read back: there was no GPU to open it"
        if opened is not None:
            plan_types = counted(opened.types) or "not told by TensorRT"
        self.cache.remove(f"{stem}.kernels")  # those of the plan before
        layers = {"network": built.types.in_words(), "plan": plan_types}
        sidecar = Sidecar(
            here,
            hashlib.sha256(built.data).hexdigest(),
            round(built.build_s, 1),
            asdict(self.options),
            layers,
        )
        self.cache.write(f"{stem}.plan", built.data)
        self.cache.write(f"{stem}.json", sidecar.to_json())
        if built.timing_cache is not None:
            self.cache.write(TIMING_CACHE, built.timing_cache)

    def _say_why(self, spec: GraphSpec, unfit: Unfit) -> None:
        if str(unfit):
            self._say(f"{spec}: its plan does not fit: {unfit}")


def _require_precision(spec: GraphSpec) -> None:
    if spec.precision not in PRECISIONS:
        raise DiamondError(
            f"{spec}: no plans are made in {spec.precision}",
            f"one of {', '.join(PRECISIONS)}",
            "choose another --precision, or play with --backend ort",
        )
