"""A judge that answers with a digit: its soft expectation against its most likely digit."""

from __future__ import annotations

import numpy as np

from reelwright.annotate.chat.base import Token
from reelwright.training.rewards.judge import expected_digit

DIGITS = np.arange(1, 6)


def judged(rng: np.random.Generator, videos: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True worth of videos, a judge's soft expectation, and its most likely digit.

    The judge sees the worth with an error of 0.5 and is sure to within 0.8 points: its probabilities are those of a
    normal distribution at the digits.
    """
    truth = np.clip(rng.normal(3.2, 0.7, videos), 1, 5)
    seen = truth + rng.normal(0, 0.5, videos)
    chances = np.exp(-0.5 * ((DIGITS - seen[:, None]) / 0.8) ** 2)
    chances /= chances.sum(axis=1, keepdims=True)
    digits = DIGITS[chances.argmax(axis=1)]
    return (
        truth,
        np.array([_read(row, int(digit)) for row, digit in zip(chances, digits, strict=True)]),
        digits.astype(float),
    )


def _read(chances: np.ndarray, digit: int) -> float:
    """Return what an answer's tokens give when they are read as a server's are."""
    likeliest = {str(one): float(np.log(max(chance, 1e-12))) for one, chance in zip(DIGITS, chances, strict=True)}
    tokens = [Token('{"score": ', {}), Token(str(digit), likeliest), Token("}", {})]
    found = expected_digit(tokens, digit, [int(one) for one in DIGITS])
    assert found is not None
    return found


def measure_judge(repeats: int, videos: int = 200) -> dict[str, float]:
    """Mean correlation with the truth of both, and in which share of the repeats the soft one is higher."""
    soft, hard = [], []
    for repeat in range(repeats):
        truth, expected, digit = judged(np.random.default_rng([3, repeat]), videos)
        soft.append(np.corrcoef(truth, expected)[0, 1])
        hard.append(np.corrcoef(truth, digit)[0, 1])
    return {"soft_r": float(np.mean(soft)), "argmax_r": float(np.mean(hard)),
            "soft_is_higher": float(np.mean(np.array(soft) > hard))}  # fmt: skip
