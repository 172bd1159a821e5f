"""Stand-ins for the tests of the engine: recorded noise, a backend in numpy, one in PyTorch, comparing pictures.

`NumpyBackend` computes something simple that depends on every input: enough to test a world's logic in
microseconds. `TorchBackend` runs the published tiny networks, so that samplers and rollouts can be held against
published outputs; its "modulation" is the conditioning vector itself.
"""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from engine.backends.base import Arrays, Backend, Graph
from engine.frame import Floats, to_signed
from engine.graphs import GraphSpec
from tests.engine.tiny_world import CONFIG, GOLDEN, MODULATION

CASES = np.load(GOLDEN / "tiny_cases.npz", allow_pickle=False)


# Recorded noise.


class RecordedNoise:
    """The draws of a published run.

    `pattern` is the golden name of a draw before its last part: "sample_denoiser_euler1/", or
    "rollout/t{frame}_{network}_". `used` collects the names that were asked for.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.used: list[str] = []

    def normal(self, name: str, shape: tuple[int, ...], frame: int) -> Floats:
        network, *rest = name.split("/")
        draw = "x_init" if rest == ["init"] else "_".join(rest)
        key = self.pattern.format(frame=frame, network=network) + draw
        self.used.append(key)
        array: Floats = CASES[key].astype(np.float32)
        assert array.shape == shape, f"{name}: recorded {array.shape}, asked for {shape}"
        return array


def recorded_keys(prefix: str) -> list[str]:
    """Every recorded draw whose name starts with `prefix`."""
    return [
        key for key in CASES.files if key.startswith(prefix) and key.endswith(("_init", "_history", "_churn"))
    ]


# Backends.


class NumpyGraph(Graph):
    """A made-up network; `poison` names the role whose output becomes NaN."""

    def __init__(self, spec: GraphSpec, poison: set[str]) -> None:
        super().__init__(spec)
        self.poison = poison
        self.runs = 0
        self._buffer: dict[str, Floats] = {}

    def _run(self, inputs: Arrays) -> Arrays:
        self.runs += 1
        output = self._conditioner(inputs) if "c_noise" in inputs else self._network(inputs)
        if self.spec.role in self.poison:
            output[...] = np.nan
        # One buffer for all runs, as a static-buffer backend has: whoever forgets to copy is found out.
        (name,) = self.spec.outputs
        kept = self._buffer.setdefault(name, np.empty_like(output))
        if kept.shape != output.shape:
            kept = self._buffer[name] = np.empty_like(output)
        kept[...] = output
        return {name: kept}

    def _conditioner(self, inputs: Arrays) -> Floats:
        column = inputs["c_noise"][:, None] + 0.5 * inputs["c_noise_cond"][:, None]
        action = (inputs["action"] * np.arange(51, dtype=np.float32)).sum() if "action" in inputs else 0
        return np.tile(column + np.sin(np.float32(action)), (1, MODULATION)).astype(np.float32)

    def _network(self, inputs: Arrays) -> Floats:
        c_in, c_skip, c_out = inputs["coefficients"]
        x = inputs["x"]
        raw = np.roll(inputs["history"][:, -3:], 1, axis=3) * inputs["modulation"][0, 0]
        raw = raw + inputs["history"].mean() + c_in * x
        if "low_res" in inputs:
            raw = raw + inputs["low_res"].repeat(5, axis=2).repeat(5, axis=3) + inputs["enlarged_noise"]
        d = np.clip(c_skip * x + c_out * raw, -1, 1)
        denoised: Floats = (np.trunc((d + 1) / 2 * 255) / 255 * 2 - 1).astype(np.float32)
        return denoised

    def _close(self) -> None:
        self._buffer.clear()


class NumpyBackend(Backend):
    """Runs `NumpyGraph`s whatever the file holds."""

    name: ClassVar[str] = "numpy"
    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self) -> None:
        super().__init__()
        self.poison: set[str] = set()
        self.loaded: list[NumpyGraph] = []

    def describe(self) -> str:
        return "numpy double"

    def probe(self) -> None:
        """Its graphs compute nothing of what their file says."""

    def _load(self, spec: GraphSpec) -> Graph:
        graph = NumpyGraph(spec, self.poison)
        self.loaded.append(graph)
        return graph


class TorchBackend(Backend):
    """Runs the published tiny networks with the classes of `train.model`."""

    name: ClassVar[str] = "torch double"
    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self) -> None:
        import torch

        from train.model import Agent, AgentConfig, DenoiserConfig, InnerModelConfig

        super().__init__()
        configs = {
            name: DenoiserConfig(
                inner_model=InnerModelConfig(**CONFIG[name]),
                noise_previous_obs=CONFIG["noise_previous_obs"][name],
                upsampling_factor=CONFIG["upsampling_factor"] if name == "upsampler" else None,
            )
            for name in ("denoiser", "upsampler")
        }
        agent = Agent(AgentConfig(configs["denoiser"], configs["upsampler"], CONFIG["num_actions"]))
        weights = np.load(GOLDEN / "tiny_weights.npz", allow_pickle=False)
        agent.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
        self.agent = agent.eval()

    def describe(self) -> str:
        return "torch double"

    def _load(self, spec: GraphSpec) -> Graph:
        return TorchGraph(spec, self.agent)


class TorchGraph(Graph):
    """One of the four graphs of the published tiny networks."""

    def __init__(self, spec: GraphSpec, agent: Any) -> None:
        super().__init__(spec)
        self._network = agent.denoiser if spec.role.startswith("denoiser") else agent.upsampler

    def _run(self, inputs: Arrays) -> Arrays:
        import torch
        import torch.nn.functional as F

        model = self._network.inner_model
        with torch.no_grad():
            given = {name: torch.from_numpy(np.array(array)) for name, array in inputs.items()}
            if "c_noise" in given:
                cond = model.conditioning(given["c_noise"], given["c_noise_cond"], given.get("action"))
                return {"modulation": cond.numpy()}
            c_in, c_skip, c_out = given["coefficients"]
            history = given["history"]
            if "low_res" in given:
                enlarged = given["low_res"]
                if enlarged.shape[-2:] != history.shape[-2:]:  # the golden sampler cases record it enlarged
                    enlarged = self._network.enlarge(enlarged)
                history = torch.cat((history, enlarged + given["enlarged_noise"]), dim=1)
            h = model.conv_in(torch.cat((history / self._network.cfg.sigma_data, given["x"] * c_in), dim=1))
            raw = model.conv_out(F.silu(model.norm_out(model.unet(h, given["modulation"]))))
            d = (c_skip * given["x"] + c_out * raw).clamp(-1, 1)
            return {"denoised": (((d + 1) / 2 * 255).trunc() / 255 * 2 - 1).numpy()}

    def _close(self) -> None:
        self._network = None


# Comparing images.


def golden_frames(name: str) -> Floats:
    """Recorded uint8 frames (1, T, 3, H, W) as a history: float32 (1, T * 3, H, W) in [-1, 1]."""
    signed = to_signed(CASES[name])
    return signed.reshape(1, -1, *signed.shape[-2:])


def assert_same_picture(actual: npt.NDArray[Any], golden: npt.NDArray[Any]) -> None:
    """The same grey levels: at most one level off on at most 0.5 % of the pixels, exact otherwise to 1e-4."""
    rounding = 3e-4 if golden.dtype == np.float16 else 1e-4  # half a last place of float16 below 1, or ours
    golden = golden.astype(np.float32)
    levels = [np.rint((image + 1) * 127.5) for image in (actual, golden)]
    off = np.abs(levels[0] - levels[1])
    difference = np.abs(actual - golden)
    seen = f"{100 * (off > 0).mean():.3f} % off, by up to {off.max():.0f} levels"
    seen += f"; max {difference.max():.2e}, mean {difference.mean():.2e}"
    assert off.max() <= 1, seen
    assert (off > 0).mean() <= 0.005, seen
    assert difference[off == 0].max() <= rounding, seen
