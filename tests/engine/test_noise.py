"""The noise stream, frozen: these numbers may never change, or recorded sessions no longer replay."""

import hashlib
from typing import Any

import numpy as np
import pytest

from engine.errors import DiamondError
from engine.noise import TABLE_SIZE, SeededNoise

WRAPPING_FRAME = 37  # its "upsampler/init" starts within the last 126,000 numbers of the table of seed 0


@pytest.fixture(scope="module")
def noise() -> SeededNoise:
    return SeededNoise(0)


def test_the_table_is_frozen(noise: SeededNoise) -> None:
    first = [1.764052391052246, 0.40015721321105957, 0.978738009929657, 2.2408931255340576]
    np.testing.assert_array_equal(noise.table[:4], np.array(first, dtype=np.float32))
    digest = hashlib.sha256(noise.table.astype("<f4").tobytes()).hexdigest()
    assert digest == "2a6954790f72cdd8225656327ea84149557c171ea75b8d15bf0a6e6ad123ae6e"


@pytest.mark.parametrize(
    ("seed", "name", "frame", "offset"),
    [
        (0, "denoiser/init", 0, 3430911),
        (0, "denoiser/init", 1, 568830),
        (0, "upsampler/step0/churn", 0, 1723245),
        (0, "upsampler/step0/churn", 999, 3400911),
        (7, "denoiser/init", 0, 1693266),
        (7, "upsampler/step0/churn", 999, 2377861),
    ],
)
def test_offsets_are_frozen(seed: int, name: str, frame: int, offset: int) -> None:
    assert SeededNoise(seed).offset(name, frame) == offset


def test_a_draw_is_the_table_read_at_its_offset(noise: SeededNoise) -> None:
    start = noise.offset("denoiser/init", 3)
    draw = noise.normal("denoiser/init", (1, 3, 5, 7), 3)
    assert draw.dtype == np.float32
    assert draw.shape == (1, 3, 5, 7)
    np.testing.assert_array_equal(draw.ravel(), noise.table[start : start + 105])


def test_a_draw_wraps_around_at_the_end_of_the_table(noise: SeededNoise) -> None:
    start = noise.offset("upsampler/init", WRAPPING_FRAME)
    assert start + 126_000 > TABLE_SIZE, "this frame no longer wraps: choose another"
    draw = noise.normal("upsampler/init", (1, 3, 150, 280), WRAPPING_FRAME)
    expected = noise.table[(start + np.arange(126_000)) % TABLE_SIZE]
    np.testing.assert_array_equal(draw.ravel(), expected)


def test_a_draw_may_be_as_long_as_the_table_but_no_longer(noise: SeededNoise) -> None:
    np.testing.assert_array_equal(np.sort(noise.normal("x", (TABLE_SIZE,), 0)), np.sort(noise.table))
    with pytest.raises(DiamondError, match="4194305 numbers"):
        noise.normal("x", (TABLE_SIZE + 1,), 0)


def test_draws_cannot_be_written_to(noise: SeededNoise) -> None:
    for frame in (0, WRAPPING_FRAME):
        with pytest.raises(ValueError, match="read-only"):
            noise.normal("upsampler/init", (1, 3, 150, 280), frame)[...] = 0


def test_the_table_looks_normal(noise: SeededNoise) -> None:
    assert abs(float(noise.table.mean(dtype=np.float64))) < 2e-3  # 4 standard errors
    assert abs(float(noise.table.std(dtype=np.float64)) - 1) < 2e-3


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, None, "0"])
def test_a_seed_that_is_not_an_integer_in_range_is_refused(seed: Any) -> None:
    with pytest.raises(DiamondError, match="seed: is"):
        SeededNoise(seed)
