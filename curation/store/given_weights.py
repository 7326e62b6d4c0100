"""Weights that a file gives to the values of a column, such as clusters that an evaluation found wanting."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store.errors import StoreError
from reelwright.curation.store.weighting import CAP, Weighed, bounded

KIND = "reelwright weights"
SUFFIX = ".json"


@dataclass(frozen=True)
class GivenWeights:
    """Weight per value of a column of clips, before they are scaled to mean 1.

    Args:
        column: of clips.
        weights: value, as text -> weight.
        others: weight of every other value, and of clips without one.
        cap: largest weight, the mean being 1.
        fingerprint: that the column's values carried when the weights were made; None: any.
        why: where the weights come from, as JSON.
    """

    column: str
    weights: Mapping[str, float]
    others: float = 1.0
    cap: float = CAP
    fingerprint: str | None = None
    why: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, weight in {**self.weights, "others": self.others}.items():
            if not 0 < weight < math.inf:
                raise StoreError(f"the weight of {self.column} {name} is {weight:g}; weights are above 0 and finite.")
        if not 1 <= self.cap < math.inf:
            raise StoreError(f"the cap of weights is 1 (the mean) or more, not {self.cap:g}.")

    def to_json(self) -> str:
        """Return the file's text."""
        return json.dumps({"kind": KIND, **vars(self)}, indent=1, ensure_ascii=False) + "\n"

    def weigh(self, values: pa.ChunkedArray, made: pa.ChunkedArray) -> Weighed:
        """Weigh clips by their value of the column.

        Args:
            values: one per clip, or null.
            made: the fingerprint that each value carries.

        Raises:
            StoreError: no clip has a value that is named, or another version made the values.
        """
        marks = {mark for mark in made.filter(values.is_valid()).to_pylist() if mark}
        if self.fingerprint and marks and marks != {self.fingerprint}:
            raise StoreError(
                f"these weights are of {self.column} as {self.fingerprint} made it, and the clips have it of "
                f"{', '.join(sorted(marks))}; make the weights again: reel balance --weak EVALUATION --out FILE"
            )
        words = pc.cast(values, pa.string()).to_pylist()
        named = np.array([word in self.weights for word in words])
        if not named.any():
            raise StoreError(f"no clip of the query has one of the values of {self.column} that the weights name.")
        raw = np.array([self.weights.get(word, self.others) if word else self.others for word in words])
        weights = bounded(raw / raw.max(), self.cap)
        at_cap = int((weights >= self.cap * (1 - 1e-12)).sum()) if self.cap > 1 else 0
        known = np.asarray(values.is_valid().to_numpy())
        return Weighed(weights, int(known.sum()), int((~known).sum()), 0, at_cap, self.fingerprint)


def read_weights(path: Path) -> GivenWeights:
    """Read a file that `reel balance --weak … --out` wrote, or one like it by hand.

    Raises:
        StoreError: the file is something else.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StoreError(f"cannot read weights from {path}: {error}.") from error
    if not isinstance(found, dict) or found.pop("kind", None) != KIND:
        raise StoreError(f"{path} holds no weights; make them with reel balance --weak EVALUATION --out {path.name}.")
    try:
        weights = {str(name): float(weight) for name, weight in found.pop("weights").items()}
        return GivenWeights(weights=weights, **found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} holds no weights as reel balance writes them: {error}.") from error
