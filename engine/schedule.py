"""EDM schedules: from a sampler's settings to every scalar of every step, computed once and ahead of time.

Sigmas, churn and preconditioning of Karras et al. 2022 ("Elucidating the Design Space of Diffusion-Based
Generative Models"): eq. 5, Alg. 2 and Table 1. `evaluations` lays a schedule out as plain records, so that a
sampler, or a program captured on a GPU, only walks a list. Knows no images and no networks.
"""

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import DiamondError
from engine.fields import Fields

MAX_STEPS = 1000  # more is a typing error: every step costs a network evaluation and a row of modulation
MAX_GAMMA = math.sqrt(2) - 1  # Karras et al. 2022, Alg. 2: churn at most doubles the noise variance of a step


@dataclass(frozen=True)
class SamplerConfig:
    """Settings of one sampler.

    Attributes:
        steps: number of steps, n; each costs one network evaluation (`order` 2: two, but the last step one).
        sigma_min, sigma_max: last and first noise level. With one step only sigma_max is used.
        rho: spacing of the levels; larger means more steps at low noise.
        order: 1 Euler, 2 Heun.
        s_churn, s_tmin, s_tmax, s_noise: stochasticity of Alg. 2; fresh noise is added where s_tmin <= sigma
            <= s_tmax.
        s_cond: standard deviation of the noise added to the history at every step; 0 adds none.
        initial_std: standard deviation of the initial noise.
            Differs from the paper: the published presets start from 1, not from sigma_max. Worlds trained
            here use sigma_max, as in the paper
            (test_initial_noise_has_the_standard_deviation_of_the_settings).

    Raises:
        DiamondError: a value out of range.
    """

    steps: int = 1
    sigma_min: float = 2e-3
    sigma_max: float = 5.0
    rho: float = 7.0
    order: int = 1
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = math.inf
    s_noise: float = 1.0
    s_cond: float = 0.0
    initial_std: float = 1.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            whole = name in ("steps", "order")
            if isinstance(value, bool) or not isinstance(value, (int,) if whole else (int, float)):
                raise DiamondError(f"sampler: {name} is {value!r}", "an integer" if whole else "a number")
            if math.isnan(value) or (math.isinf(value) and name != "s_tmax"):
                raise DiamondError(f"sampler: {name} is {value}", "a finite number")
        self._require(1 <= self.steps <= MAX_STEPS, f"steps is {self.steps}", f"1 to {MAX_STEPS}")
        self._require(self.order in (1, 2), f"order is {self.order}", "1 (Euler) or 2 (Heun)")
        self._require(
            0 < self.sigma_min <= self.sigma_max,
            f"sigma_min is {self.sigma_min}, sigma_max is {self.sigma_max}",
            "0 < sigma_min <= sigma_max",
        )
        self._require(self.rho > 0, f"rho is {self.rho}", "more than 0")
        self._require(
            0 <= self.s_tmin <= self.s_tmax,
            f"s_tmin is {self.s_tmin}, s_tmax is {self.s_tmax}",
            "0 <= s_tmin <= s_tmax",
        )
        for name in ("s_churn", "s_noise", "s_cond"):
            self._require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}", "0 or more")
        self._require(self.initial_std > 0, f"initial_std is {self.initial_std}", "more than 0")

    @staticmethod
    def _require(condition: bool, what: str, expected: str) -> None:
        if not condition:
            raise DiamondError(f"sampler: {what}", expected)

    def to_json(self) -> dict[str, Any]:
        """Plain data; infinity, which JSON lacks, is "inf"."""
        return {k: "inf" if v == math.inf else v for k, v in dataclasses.asdict(self).items()}

    def in_words(self) -> str:
        """What of it has an effect, for people: "10 Euler steps, sigma 5 -> 1, churn 10 x 0.9 in [1, 5]"."""
        parts = [f"{self.steps} {'Euler' if self.order == 1 else 'Heun'} step{'s' * (self.steps > 1)}"]
        parts.append(f"sigma {self.sigma_max:g}" + f" -> {self.sigma_min:g}" * (self.steps > 1))
        if self.steps > 2 and self.rho != 7:
            parts.append(f"rho {self.rho:g}")
        if self.s_churn > 0:
            parts.append(f"churn {self.s_churn:g} x {self.s_noise:g} in [{self.s_tmin:g}, {self.s_tmax:g}]")
        if self.s_cond > 0:
            parts.append(f"s_cond {self.s_cond:g}")
        if self.initial_std != 1:
            parts.append(f"initial noise {self.initial_std:g}")
        return ", ".join(parts)

    @classmethod
    def from_json(cls, data: object, where: str = "sampler") -> "SamplerConfig":
        """The inverse of `to_json`; every field must be there.

        Raises:
            DiamondError: a missing, unknown or ill-typed field, or a value out of range.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        fields = Fields(data, where, names)
        whole = {name: fields.integer(name) for name in ("steps", "order")}
        return cls(**whole, **{name: fields.number(name) for name in names if name not in whole})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Preconditioning:
    """The scalars of Karras et al. 2022, Table 1, as functions of sigma.

    Attributes:
        sigma_data: standard deviation of the data, images in [-1, 1].
        sigma_offset_noise: standard deviation of the offset noise in training, the same number added to a
            whole channel. Differs from the paper: it enters as sigma_eff² = sigma² + sigma_offset_noise²
            (test_preconditioning_equals_the_published_one).
    """

    sigma_data: float
    sigma_offset_noise: float

    def sigma_eff(self, sigma: float) -> float:
        """The noise level that the network meets, offset noise included."""
        return math.hypot(sigma, self.sigma_offset_noise)

    def c_in(self, sigma: float) -> float:
        """Scale of the noisy image."""
        return 1 / math.hypot(self.sigma_eff(sigma), self.sigma_data)

    def c_skip(self, sigma: float) -> float:
        """Share of the noisy image in the prediction."""
        return self.sigma_data**2 / (self.sigma_eff(sigma) ** 2 + self.sigma_data**2)

    def c_out(self, sigma: float) -> float:
        """Scale of the network's output; equals sigma_eff sigma_data / sqrt(sigma_eff² + sigma_data²)."""
        return self.sigma_eff(sigma) * math.sqrt(self.c_skip(sigma))

    def c_noise(self, sigma: float) -> float:
        """The noise level as the network reads it."""
        return math.log(self.sigma_eff(sigma)) / 4

    @staticmethod
    def c_noise_cond(s_cond: float) -> float:
        """The history's noise level as the network reads it: no offset noise; 0 where no noise was added."""
        return math.log(s_cond) / 4 if s_cond > 0 else 0.0


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the network.

    Attributes:
        row: its row in the modulation of the whole schedule.
        sigma: the noise level that the network is told.
        c_in, c_skip, c_out, c_noise, c_noise_cond: preconditioning at that level.
    """

    row: int
    sigma: float
    c_in: float
    c_skip: float
    c_out: float
    c_noise: float
    c_noise_cond: float


@dataclass(frozen=True)
class Step:
    """One step of the sampler, from sigma to next_sigma.

    Attributes:
        index: 0, 1, ...
        sigma, next_sigma: noise levels before and after; next_sigma is 0 in the last step.
        sigma_hat: noise level after churn; equal to sigma without it.
        churn_std: standard deviation of the noise that churn adds, s_noise included; 0 adds none.
        s_cond: standard deviation of the noise added to the history in this step; 0 adds none.
        first: the evaluation every step has.
        second: Heun's evaluation at next_sigma; None for Euler, and in the last step.
    """

    index: int
    sigma: float
    next_sigma: float
    sigma_hat: float
    churn_std: float
    s_cond: float
    first: Evaluation
    second: Evaluation | None


def karras_sigmas(cfg: SamplerConfig) -> npt.NDArray[np.float32]:
    """Noise levels from sigma_max down to sigma_min, then 0; float32 (steps + 1,).

    Computed in float32, in the published order of operations: a level may miss its nominal value by a
    rounding.
    """
    # Karras et al. 2022, eq. 5
    rho = float(cfg.rho)
    max_root, min_root = float(cfg.sigma_max) ** (1 / rho), float(cfg.sigma_min) ** (1 / rho)
    ramp = np.linspace(0, 1, cfg.steps, dtype=np.float32)
    sigmas = (max_root + ramp * (min_root - max_root)) ** rho
    return np.append(sigmas, np.float32(0))


def evaluations(cfg: SamplerConfig, sigma_data: float, sigma_offset_noise: float) -> tuple[Step, ...]:
    """Every scalar of every step of a schedule.

    Args:
        cfg: the sampler's settings.
        sigma_data, sigma_offset_noise: the network's, see `Preconditioning`.

    Returns:
        One record per step; the rows of their evaluations count up from 0 without gaps.
    """
    preconditioning = Preconditioning(sigma_data, sigma_offset_noise)
    sigmas = [float(sigma) for sigma in karras_sigmas(cfg)]
    steps: list[Step] = []
    row = 0

    def evaluation(sigma: float) -> Evaluation:
        nonlocal row
        row += 1
        return Evaluation(
            row=row - 1,
            sigma=sigma,
            c_in=preconditioning.c_in(sigma),
            c_skip=preconditioning.c_skip(sigma),
            c_out=preconditioning.c_out(sigma),
            c_noise=preconditioning.c_noise(sigma),
            c_noise_cond=preconditioning.c_noise_cond(cfg.s_cond),
        )

    for index, (sigma, next_sigma) in enumerate(itertools.pairwise(sigmas)):
        sigma_hat = sigma * (1 + _gamma(cfg, sigma))
        steps.append(
            Step(
                index=index,
                sigma=sigma,
                next_sigma=next_sigma,
                sigma_hat=sigma_hat,
                # Alg. 2, lines 4 and 6
                churn_std=cfg.s_noise * math.sqrt(sigma_hat**2 - sigma**2),
                s_cond=cfg.s_cond,
                # Differs from the paper: under churn the network is told sigma, not sigma_hat; the published
                # presets were tuned so (test_under_churn_the_network_is_told_sigma).
                first=evaluation(sigma),
                second=evaluation(next_sigma) if cfg.order == 2 and next_sigma > 0 else None,
            )
        )
    return tuple(steps)


def _gamma(cfg: SamplerConfig, sigma: float) -> float:
    """gamma_i of Alg. 2. Levels within a rounding of s_tmin or s_tmax count as inside: float32 misses both."""
    slack = 1e-6 * sigma
    inside = cfg.s_tmin - slack <= sigma <= cfg.s_tmax + slack
    return min(cfg.s_churn / cfg.steps, MAX_GAMMA) if inside else 0.0


def conditioning(steps: tuple[Step, ...]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What the conditioner reads: c_noise and c_noise_cond of every evaluation, each float32 (E,)."""
    rows = [row for step in steps for row in (step.first, step.second) if row is not None]
    return (
        np.array([row.c_noise for row in rows], dtype=np.float32),
        np.array([row.c_noise_cond for row in rows], dtype=np.float32),
    )
