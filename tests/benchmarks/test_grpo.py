"""The toy of `benchmarks.grpo` gives the spreads that were worked out beforehand."""

import pytest

from benchmarks.grpo.toy import solved
from reelwright.model.sampling.schedules import sigmas
from reelwright.model.sampling.sde import NoiseSize


@pytest.mark.parametrize(
    ("steps", "at", "sign", "spread"),
    [
        (16, (), 1, 0.249),
        (16, (0,), 1, 0.250),
        (16, (3,), 1, 0.250),
        (16, (3,), -1, 0.298),
        (16, range(15), 1, 0.462),
        (200, (), 1, 0.476),
        (200, range(199), 1, 0.487),
    ],
)  # fmt: skip
def test_the_spread_of_samples(steps: int, at: tuple[int, ...] | range, sign: int, spread: float) -> None:
    found = solved(sigmas(steps, 12.0), NoiseSize(), 40_000, at=at, sign=sign).std().item()
    assert found == pytest.approx(spread, rel=0.015)
