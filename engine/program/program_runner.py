"""The runner that carries out a frame's program: it fills the inputs, has the executor run, and reads the outputs.

Frames and actions live in the executor's buffers. Draws of the seeded noise are offsets into a table that was written
once; any other noise source is asked for its draws frame by frame, and they are uploaded with the action.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from engine.errors import DiamondError
from engine.graphs import GraphSpec
from engine.graphs import Network as NetworkName
from engine.history import History
from engine.manifest import NetworkNoise
from engine.noise import TABLE_SIZE, NoiseSource, SeededNoise
from engine.program.build import Plan, build
from engine.program.executor import Executor
from engine.program.launches import COEFFICIENTS, NOISE, NOT_FINITE, OFFSETS, FrameProgram
from engine.runner import FrameRunner, Painted, Samplers
from engine.schedule import Step

_STAGES = ("conditioner", "denoiser", "upsampler", "sampler")


class ProgramRunner(FrameRunner):
    """Paints whole frames with an executor.

    Args:
        executor: what has the graphs; the runner owns it from now on.
        specs: the world's graphs by role.
        scales: noise scales by network, "denoiser" first.
        samplers: the settings to start with.
        noise: where random numbers come from.

    Raises:
        DiamondError: the executor cannot run such a frame.
    """

    def __init__(
        self,
        executor: Executor,
        specs: Mapping[str, GraphSpec],
        scales: Mapping[NetworkName, NetworkNoise],
        samplers: Samplers,
        noise: NoiseSource,
    ) -> None:
        self._executor, self._specs, self._scales, self._noise = executor, specs, scales, noise
        # A subclass may answer with other numbers than its table's, so it counts as any other source.
        self._table = noise if type(noise) is SeededNoise else None
        self._program: FrameProgram | None = None
        try:
            self.configure(samplers)
        except BaseException:
            executor.close()
            raise

    @property
    def samplers(self) -> Samplers:
        """The current settings by network."""
        return {name: plan.config for name, plan in self._plans.items()}

    @property
    def schedules(self) -> Mapping[NetworkName, tuple[Step, ...]]:
        """The current settings laid out step by step, by network."""
        return {name: plan.steps for name, plan in self._plans.items()}

    def configure(self, samplers: Samplers) -> None:
        """Replaces the settings: a new program where its structure changes, else only new coefficients."""
        plans = {
            name: Plan(self._specs[name], self._specs[f"{name}_conditioner"], scales, samplers[name])
            for name, scales in self._scales.items()
        }
        built = build(plans, TABLE_SIZE if self._table else None)
        if built.program != self._program:
            first, self._program = self._program is None, None  # none, should the executor refuse
            self._executor.install(built.program)
            if first and self._table:
                self._executor.write(NOISE, self._table.table)
            self._program = built.program
        self._executor.write(COEFFICIENTS, built.coefficients)
        self._executor.set_up()
        self._plans = plans

    def load(self, history: History) -> None:
        """Uploads the frames and actions of a history."""
        for buffer, array in _buffers(history).items():
            self._executor.write(buffer, array)

    def save(self, history: History) -> None:
        """Downloads the current frames and actions into a history."""
        for buffer, array in _buffers(history).items():
            array[...] = self._executor.read(buffer)

    def step(self, action: npt.NDArray[np.float32], frame: int) -> Painted:
        """Plays one frame, see `FrameRunner.step`."""
        program, executor = self._program, self._executor
        if program is None:
            raise DiamondError(
                "step: the latest settings of the sampler could not be captured",
                "settings that were taken",
                "choose a preset, or load the world again",
            )

        # 1. What is new in this frame: the action, and where its noise is.
        executor.host("action")[...] = action
        self._place_draws(program, frame)

        # 2. The frame.
        stages_ms = executor.run()

        # 3. What came of it.
        flags = executor.host(NOT_FINITE)
        broken = next((name for name, flag in zip(self._plans, flags, strict=True) if flag), None)
        low_res = executor.host("pixels/low_res").copy()
        rgb = executor.host("pixels/full_res" if "upsampler" in self._plans else "pixels/low_res").copy()
        return Painted(rgb, low_res, {name: stages_ms.get(name, 0.0) for name in _STAGES}, broken)

    def close(self) -> None:
        """Closes the executor."""
        self._executor.close()

    def _place_draws(self, program: FrameProgram, frame: int) -> None:
        """Says where in the noise table every draw of a frame starts; brings the draws along if they are not there."""
        offsets = self._executor.host(OFFSETS)
        if self._table:
            for number, draw in enumerate(program.draws):
                offsets[number] = self._table.offset(draw.name, frame)
            return
        carried, start = self._executor.host(NOISE), 0
        for number, draw in enumerate(program.draws):
            carried[start : start + draw.count] = self._noise.normal(draw.name, draw.shape, frame).ravel()
            offsets[number] = start
            start += draw.count


def _buffers(history: History) -> dict[str, npt.NDArray[np.float32]]:
    """The state of a program, by buffer: the arrays of a history."""
    buffers = {"history/low_res": history.low_res, "history/actions": history.actions}
    if history.full_res is not None:
        buffers["history/full_res"] = history.full_res
    return buffers
