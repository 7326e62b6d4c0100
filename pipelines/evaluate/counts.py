"""What a step of an evaluation did, in counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Measured:
    """Counts, by measure. why: measure -> the first reason for a failure. notes: measures that were left out."""

    wanted: int
    made: Counter[str] = field(default_factory=Counter)
    current: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    why: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class JudgedCounts:
    """Counts by dimension or column. why: the first reason for a failure. notes: on what the scores are worth."""

    made: Counter[str] = field(default_factory=Counter)
    current: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    by_digit: Counter[str] = field(default_factory=Counter)
    why: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
