"""From a world's sizes and both schedules to the program of a frame: what `World.step` does, launch by launch.

The order of launches and of float32 operations is that of `engine.sampler`; a test interprets the program and holds it
against `World.step`, bit for bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.errors import DiamondError
from engine.graphs import CHANNELS, GraphSpec, Network
from engine.manifest import NetworkNoise
from engine.program.launches import (
    COEFFICIENTS,
    NOISE,
    NOT_FINITE,
    OFFSETS,
    AddNoise,
    Buffer,
    CheckFinite,
    Clear,
    Copy,
    Download,
    Draw,
    EulerStep,
    Evaluate,
    FrameProgram,
    HeunStep,
    HeunTrial,
    Kind,
    Launch,
    Pack,
    Roll,
    SetNoise,
    Upload,
    View,
)
from engine.sampler import ENLARGED_NOISE
from engine.schedule import Evaluation, SamplerConfig, Step, conditioning, evaluations

ALIGNED = 64  # elements of 4 bytes: TensorRT wants the addresses of tensors 256-byte aligned


@dataclass(frozen=True)
class Plan:
    """One network and its schedule.

    Attributes:
        network, conditioner: what will be evaluated.
        scales: the network's noise scales.
        config: the sampler's settings.
    """

    network: GraphSpec
    conditioner: GraphSpec
    scales: NetworkNoise
    config: SamplerConfig

    @property
    def steps(self) -> tuple[Step, ...]:
        """The schedule laid out."""
        return evaluations(self.config, self.scales.sigma_data, self.scales.sigma_offset_noise)


@dataclass(frozen=True, eq=False)
class Built:
    """A program, and the numbers that its coefficient buffer must hold: float32, as long as the buffer."""

    program: FrameProgram
    coefficients: npt.NDArray[np.float32]


def build(plans: Mapping[Network, Plan], table_size: int | None) -> Built:
    """Lays out a frame.

    Args:
        plans: by network, "denoiser" first.
        table_size: length of the noise table, which stays on the device; None where each frame brings its own draws.

    Raises:
        DiamondError: a draw longer than the table.
    """
    builder = _Builder()
    actions = builder.shape_of(plans["denoiser"].conditioner, "action")
    _, T, A = actions
    histories: dict[Network, str] = {"denoiser": "history/low_res", "upsampler": "history/full_res"}
    pixels: dict[Network, str] = {"denoiser": "pixels/low_res", "upsampler": "pixels/full_res"}

    # 1. The action goes into the newest slot.
    builder.buffer("action", (A,), kind="input")
    builder.buffer("history/actions", actions, kind="state")
    builder.buffer(NOT_FINITE, (len(plans),), "int32", "output")
    builder.do(Upload("action"), Upload(OFFSETS), *(() if table_size else (Upload(NOISE),)))
    builder.do(Clear(NOT_FINITE))
    builder.do(Copy(View("action", 0, (A,)), View("history/actions", (T - 1) * A, (A,))))

    # 2. The denoiser paints the next frame; 3. the upsampler enlarges it.
    for flag, (name, plan) in enumerate(plans.items()):
        builder.buffer(histories[name], builder.shape_of(plan.network, "history"), kind="state")
        builder.network(name, plan, histories[name])
        builder.do(CheckFinite(f"{name}/denoised", flag))

    # 4. The histories roll, and the frame becomes pixels.
    for name in plans:
        builder.do(Roll(histories[name], f"{name}/denoised"))
    builder.do(Roll("history/actions", "action"))
    for name, plan in plans.items():
        _, _, H, W = builder.shape_of(plan.network, "x")
        builder.buffer(pixels[name], (H, W, CHANNELS), "uint8", "output")
        builder.do(Pack(f"{name}/denoised", pixels[name]), Download(pixels[name]))
    builder.do(Download(NOT_FINITE))
    return builder.built(tuple(plans), table_size)


class _Builder:
    """A program in the making."""

    def __init__(self) -> None:
        self._buffers: dict[str, Buffer] = {}
        self._evaluations: dict[str, int] = {}
        self._draws: list[Draw] = []
        self._setup: list[Launch] = []
        self._frame: list[Launch] = []
        self._coefficients: list[np.float32] = []

    def buffer(
        self, name: str, shape: tuple[int, ...], dtype: str = "float32", kind: Kind = "scratch"
    ) -> str:
        self._buffers[name] = Buffer(name, shape, dtype, kind)
        return name

    def do(self, *launches: Launch) -> None:
        self._frame += launches

    @staticmethod
    def shape_of(spec: GraphSpec, tensor: str) -> tuple[int, ...]:
        shape = spec.inputs[tensor].shape
        assert None not in shape, f"{tensor} of {spec} has a dynamic axis"
        return tuple(axis for axis in shape if axis is not None)

    # Numbers and noise.

    def _number(self, value: float | np.float32) -> int:
        self._coefficients.append(np.float32(value))
        return len(self._coefficients) - 1

    def _vector(self, values: npt.ArrayLike) -> View:
        """An aligned vector in the coefficient buffer."""
        vector = np.asarray(values, np.float32)
        self._coefficients += [np.float32(0)] * (-len(self._coefficients) % ALIGNED)
        start = len(self._coefficients)
        self._coefficients += list(vector)
        return View(COEFFICIENTS, start, vector.shape)

    def _draw(self, name: str, shape: tuple[int, ...]) -> int:
        self._draws.append(Draw(name, shape))
        return len(self._draws) - 1

    # One network's share of a frame.

    def network(self, name: str, plan: Plan, history: str) -> None:
        x_shape, history_shape = (self.shape_of(plan.network, tensor) for tensor in ("x", "history"))
        x = self.buffer(f"{name}/x", x_shape)
        denoised = self.buffer(f"{name}/denoised", x_shape)
        rows = self._modulation(name, plan)

        self.do(SetNoise(x, self._draw(f"{name}/init", x_shape), self._number(plan.config.initial_std)))
        inputs = {"history": View(history, 0, history_shape)}
        enlarged = ENLARGED_NOISE in plan.network.inputs
        if enlarged:
            buffer = self.buffer(f"{name}/{ENLARGED_NOISE}", x_shape)
            inputs |= {"low_res": View("denoiser/denoised", 0, self.shape_of(plan.network, "low_res"))}
            inputs |= {ENLARGED_NOISE: View(buffer, 0, x_shape)}
            (self._setup if plan.config.s_cond == 0 else self._frame).append(Clear(buffer))
        if plan.config.s_cond > 0:
            noisy = View(self.buffer(f"{name}/noisy_history", history_shape), 0, history_shape)
            self.do(Copy(inputs["history"], noisy))
            inputs["history"] = noisy

        def evaluate(evaluation: Evaluation, at: str) -> None:
            told = self._vector([evaluation.c_in, evaluation.c_skip, evaluation.c_out])
            bound = {"x": View(at, 0, x_shape), **inputs, "coefficients": told}
            bound["modulation"] = self._row(name, rows[evaluation.row])
            self.do(Evaluate(plan.network.role, bound, {"denoised": View(denoised, 0, x_shape)}))

        steps = plan.steps
        for step in steps:
            if step.churn_std > 0:
                draw = self._draw(f"{name}/step{step.index}/churn", x_shape)
                self.do(AddNoise(x, draw, 0, self._number(step.churn_std)))
            if step.s_cond > 0:
                self._disturb(name, step, history_shape, x_shape if enlarged else None)
            evaluate(step.first, x)
            if step.next_sigma == 0:  # the step ends on the prediction, where it is
                assert step is steps[-1], "only the last step goes down to 0"
                return
            d_sigma = np.float32(step.next_sigma - step.sigma_hat)
            sigma, d_sigma_at = self._number(step.sigma_hat), self._number(d_sigma)
            if step.second is None:
                self.do(EulerStep(x, denoised, sigma, d_sigma_at))
                continue
            slope, trial = (self.buffer(f"{name}/{part}", x_shape) for part in ("slope", "trial"))
            self.do(HeunTrial(x, denoised, slope, trial, sigma, d_sigma_at))
            evaluate(step.second, trial)
            sigma, half = self._number(step.next_sigma), self._number(d_sigma / 2)
            self.do(HeunStep(x, denoised, slope, trial, sigma, half))
        raise AssertionError("a schedule ends at sigma 0")

    def _modulation(self, name: str, plan: Plan) -> list[View]:
        """Runs the conditioner: every frame where it reads actions, else once a schedule. A row per evaluation."""
        c_noise, c_noise_cond = conditioning(plan.steps)
        E, M = len(c_noise), plan.conditioner.outputs["modulation"].shape[1]
        assert M is not None, "world.json says the modulation's size"
        self._evaluations |= {plan.conditioner.role: E, plan.network.role: E}
        modulation = self.buffer(f"{name}/modulation", (E, M))
        inputs = {"c_noise": self._vector(c_noise), "c_noise_cond": self._vector(c_noise_cond)}
        for_every_frame = "action" in plan.conditioner.inputs
        if for_every_frame:
            inputs["action"] = View("history/actions", 0, self.shape_of(plan.conditioner, "action"))
        outputs = {"modulation": View(modulation, 0, (E, M))}
        launches = self._frame if for_every_frame else self._setup
        launches.append(Evaluate(plan.conditioner.role, inputs, outputs))
        return [View(modulation, row * M, (1, M)) for row in range(E)]

    def _row(self, name: str, row: View) -> View:
        """A row of the modulation where a network may read it: itself if it is aligned, else a copy."""
        if row.start % ALIGNED == 0:
            return row
        copy = View(self.buffer(f"{name}/row", row.shape), 0, row.shape)
        self.do(Copy(row, copy))
        return copy

    def _disturb(
        self, name: str, step: Step, history: tuple[int, ...], enlarged: tuple[int, ...] | None
    ) -> None:
        """Noise on the history and, behind it in one draw, on an upsampler's enlarged frame."""
        _, channels, H, W = history
        more = 0 if enlarged is None else enlarged[1]
        draw = self._draw(f"{name}/step{step.index}/history", (1, channels + more, H, W))
        scale = self._number(step.s_cond)
        self.do(AddNoise(f"{name}/noisy_history", draw, 0, scale))
        if enlarged is not None:
            self.do(AddNoise(f"{name}/{ENLARGED_NOISE}", draw, channels * H * W, scale))

    def built(self, networks: tuple[str, ...], table_size: int | None) -> Built:
        for draw in self._draws:
            if table_size is not None and draw.count > table_size:
                raise DiamondError(
                    f"noise {draw.name}: a draw of {draw.count} numbers", f"at most {table_size}"
                )
        carried = sum(draw.count for draw in self._draws)
        self.buffer(NOISE, (table_size or carried,), kind="constant" if table_size else "input")
        self.buffer(OFFSETS, (len(self._draws),), "uint32", "input")
        self.buffer(COEFFICIENTS, (len(self._coefficients),), kind="constant")
        program = FrameProgram(
            networks=networks,
            evaluations=self._evaluations,
            buffers=self._buffers,
            draws=tuple(self._draws),
            setup=tuple(self._setup),
            frame=tuple(self._frame),
        )
        return Built(program, np.array(self._coefficients, np.float32))
