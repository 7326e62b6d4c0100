"""Weights that even out a set of clips: by density in caption-embedding space, or by the size of a clip's cluster.

The LongCat-Video report draws its fine-tuning data "inversely to density in caption-embedding space" (arXiv
2510.22200, section 4). A clip of density d, or of a cluster of s clips of the set, weighs d^-alpha or s^-alpha, scaled
to mean 1. No clip weighs more than `cap`: the weight over the cap goes to the others in proportion, so the mean stays
1. A clip without a value weighs 1, as it would without balance. Nothing here is drawn: the same values give the same
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store.errors import StoreError
from reelwright.curation.vectors.crowding import CHUNK, Neighbourhood, unit

COLUMN = {"density": "density", "cluster": "cluster_id"}
"""Properties that a set can be balanced by, and their columns in clips."""
VECTORS, VECTORS_OF = "caption_embedding", "caption_embedding_model"
"""Columns of the vectors that density within a set is measured by, and of the model that made them."""

SNAPSHOT, STORE = "snapshot", "store"
CAP = 10.0
MAX_ALPHA = 16.0  # beyond, a set is its rarest clips and nothing else
SHOWN = 6  # values of a column in a sentence
FLOOR = 1e-9  # of the largest weight before the cap: every clip can still be drawn


@dataclass(frozen=True)
class Balance:
    """Settings of a balance.

    Attributes:
        by: density or cluster.
        cap: the largest weight, where the mean is 1.
        alpha: near 0 leaves all clips alike; 1 makes weights inversely proportional, so that uncapped clusters get
            equal mass.
        within: the set that density is measured in: the clips of the snapshot alone, or all of the store, as `reel
            annotate` measured it. Clusters are counted in the snapshot.

    Raises:
        StoreError: a value is none of these.
    """

    by: str
    cap: float = CAP
    alpha: float = 1.0
    within: str = SNAPSHOT

    def __post_init__(self) -> None:
        if self.by not in COLUMN:
            raise StoreError(f"a set is balanced by {' or '.join(COLUMN)}, not by {self.by!r}.")
        if not 1 <= self.cap < float("inf"):
            raise StoreError(f"the cap of weights is 1 (the mean) or more, not {self.cap:g}.")
        if not 0 < self.alpha <= MAX_ALPHA:
            raise StoreError(f"the exponent of balance is above 0 and at most {MAX_ALPHA:g}, not {self.alpha:g}.")
        if self.within not in (SNAPSHOT, STORE):
            raise StoreError(f"density is measured within the {SNAPSHOT} or the {STORE}, not within {self.within!r}.")
        if self.by == "cluster" and self.within != SNAPSHOT:
            raise StoreError("a cluster's clips are counted in the snapshot; leave out the set to measure within.")

    @property
    def column(self) -> str:
        """Column of clips that the weights come from."""
        return VECTORS if self.by == "density" and self.within == SNAPSHOT else COLUMN[self.by]


@dataclass(frozen=True)
class Weighed:
    """Weights of clips, and counts of clips.

    Attributes:
        weights: float64 [N], mean 1.
        other_version: clips whose value was made by another version of the annotator than most, so that it cannot be
            compared; they count as clips without a value too.
    """

    weights: np.ndarray
    with_value: int
    without_value: int
    other_version: int
    at_cap: int
    fingerprint: str | None

    @property
    def effective_size(self) -> float:
        """Number of clips of equal weight that would give the same variance."""
        return effective_size(self.weights)

    def facts(self) -> dict[str, Any]:
        """Return the facts that a snapshot records."""
        counts = {"with_value": self.with_value, "without_value": self.without_value}
        return counts | {"other_version": self.other_version, "at_cap": self.at_cap,
                         "effective_size": self.effective_size, "fingerprint": self.fingerprint}  # fmt: skip


def weigh(values: pa.ChunkedArray, made: pa.ChunkedArray, balance: Balance) -> Weighed:
    """Weigh clips by their density or cluster.

    Args:
        values: of `COLUMN[balance.by]`, one per clip; null, NaN, a density not above 0 and a cluster below 0 count as
            missing.
        made: the fingerprint that each value carries.
        balance: the rule.

    Raises:
        StoreError: no clip has a value.
    """
    known = _known(values, balance.by)
    usual, foreign = _foreign(made, known)
    usable = known & ~foreign
    if not usable.any():
        raise StoreError(f"none of these clips has a {COLUMN[balance.by]} to balance by; {_remedy(COLUMN[balance.by])}")
    some = np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False))[usable]
    rarity = _by_density(some, balance.alpha) if balance.by == "density" else _by_size(some, balance.alpha)
    return _weighed(rarity, usable, int((known & foreign).sum()), usual, balance.cap)


def weigh_vectors(
    ids: pa.ChunkedArray,
    vectors: np.ndarray,
    made: pa.ChunkedArray,
    balance: Balance,
    let_go: Callable[[], None] = lambda: None,
) -> Weighed:
    """Weigh clips by their density among these very clips: what is dense in a store may be rare in a part of it.

    Args:
        ids: of the clips, each once.
        vectors: float32 [N, D], which may be mapped; NaN for a clip without a vector.
        made: the model of each vector. Vectors of other models than most cannot be compared.
        balance: the rule.
        let_go: takes what was read of mapped vectors out of memory.

    Raises:
        StoreError: no clip has a vector.
    """
    known = np.zeros(len(vectors), bool)
    for one in _stretches(len(vectors)):
        known[one] = np.isfinite(vectors[one]).all(axis=1)
        let_go()
    usual, foreign = _foreign(made, known)
    usable = known & ~foreign
    if not usable.any():
        raise StoreError(f"none of these clips has a {VECTORS} to measure density by; {_remedy(VECTORS)}")

    def parts() -> Iterator[tuple[list[str], np.ndarray]]:
        for one in _stretches(len(vectors)):
            rows = np.flatnonzero(usable[one])
            yield ids[one].take(pa.array(rows)).to_pylist(), unit(vectors[one][rows])
            let_go()

    density = Neighbourhood().density(parts(), int(usable.sum()))
    return _weighed(_by_density(density, balance.alpha), usable, int((known & foreign).sum()), usual, balance.cap)


def lacks(balance: Balance) -> StoreError:
    """Return the error of a store whose clips lack the column that a balance needs."""
    return StoreError(
        f"balance by {balance.by} needs the column {balance.column}, which this store's clips lack; "
        f"{_remedy(balance.column)}"
    )


def bounded(rarity: np.ndarray, cap: float) -> np.ndarray:
    """Scale `rarity` (positive, [N]) so that min(scale * rarity, cap) has mean 1; cap is 1 or more.

    With the k largest at the cap, the scale is (N - k cap) / (sum of the others); the k sought is the first whose next
    clip stays below the cap.
    """
    count = len(rarity)
    falling = np.sort(rarity)[::-1]
    others = falling[::-1].cumsum()[::-1]  # others[k]: sum of all but the k largest
    scale = (count - np.arange(count) * cap) / others
    k = int(np.argmax(falling * scale <= cap * (1 + 1e-12)))
    return np.minimum(rarity * scale[k], cap)


def effective_size(weights: np.ndarray) -> float:
    """Return the number of clips of equal weight that are worth as much: (sum w)² / sum w² (Kish, 1965)."""
    return float(weights.sum() ** 2 / np.square(weights).sum()) if len(weights) else 0.0


def describe(about: Mapping[str, Any], *, effective: bool = True) -> str:
    """Return a snapshot's record of its balance as a sentence.

    Args:
        about: the record.
        effective: with the effective size.
    """
    if about["by"] == "weights":
        return _describe_given(about, effective)
    rule = "1 / density" if about["by"] == "density" else "1 / size of its cluster"
    if about["by"] == "density":
        rule += " among its own clips" if about.get("within") == SNAPSHOT else " among all clips of the store"
    power = "" if about["alpha"] == 1 else f" to the power {about['alpha']:g}"
    total = about["with_value"] + about["without_value"]
    parts = [f"weight ∝ {rule}{power}, mean 1, at most {about['cap']:g} ({about['at_cap']:,} clips at that)"]
    if about["without_value"]:
        of = f" ({about['other_version']:,} of another version)" if about["other_version"] else ""
        parts.append(f"{about['without_value']:,} clips without a {about['column']}{of} weigh 1")
    if effective:
        parts.append(f"effective size {about['effective_size']:,.0f} of {total:,} clips")
    return "; ".join(parts) + (f"; {about['column']} of {about['fingerprint']}" if about["fingerprint"] else "")


def _describe_given(about: Mapping[str, Any], effective: bool) -> str:
    """Return the sentence of weights that a file gave."""
    evaluation = about["why"].get("evaluation")
    by = f" by the evaluation {evaluation}" if evaluation else ""
    heavy = {name: weight for name, weight in about["weights"].items() if weight != about["others"]}
    shown = ", ".join(f"{name} x {weight / about['others']:.3g}" for name, weight in list(heavy.items())[:SHOWN])
    more = f" and {len(heavy) - SHOWN} more" if len(heavy) > SHOWN else ""
    total = about["with_value"] + about["without_value"]
    parts = [
        f"weights{by} per {about['column']}: {shown}{more}",
        f"mean 1, at most {about['cap']:g} ({about['at_cap']:,} clips at that)",
    ]
    if effective:
        parts.append(f"effective size {about['effective_size']:,.0f} of {total:,} clips")
    return "; ".join(parts)


def _stretches(count: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, max(1, count), CHUNK)]


def _weighed(rarity: np.ndarray, usable: np.ndarray, foreign: int, usual: str | None, cap: float) -> Weighed:
    """rarity: of the usable clips, in (0, 1]."""
    weights = np.ones(len(usable))
    weights[usable] = bounded(np.maximum(rarity, FLOOR), cap)
    at_cap = int((weights[usable] >= cap * (1 - 1e-12)).sum()) if cap > 1 else 0
    return Weighed(weights, int(usable.sum()), int((~usable).sum()), foreign, at_cap, usual)


def _remedy(column: str) -> str:
    annotator = {COLUMN["cluster"]: "clusters"}.get(column, column)
    return f"compute it first: reel annotate --only {annotator}"


def _known(values: pa.ChunkedArray, by: str) -> np.ndarray:
    numbers = np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False))
    return numbers > 0 if by == "density" else numbers >= 0  # NaN, which null becomes, is neither


def _foreign(made: pa.ChunkedArray, known: np.ndarray) -> tuple[str | None, np.ndarray]:
    """Return (the fingerprint of most values, clips that carry another); of two as frequent, the first by name."""
    marks = pc.fill_null(made.cast(pa.string()), "")
    found = marks.filter(pa.array(known)).value_counts().to_pylist()
    usual = min(found, key=lambda one: (-one["counts"], one["values"]))["values"] if found else ""
    return usual or None, pc.not_equal(marks, usual).to_numpy()


def _by_density(density: np.ndarray, alpha: float) -> np.ndarray:
    """In (0, 1], so that no power overflows. Infinite density (copies of a caption) counts as the densest finite."""
    finite = density[np.isfinite(density)]
    density = np.minimum(density, finite.max() if len(finite) else 1.0)
    return (density.min() / density) ** alpha


def _by_size(cluster: np.ndarray, alpha: float) -> np.ndarray:
    _, place, sizes = np.unique(cluster, return_inverse=True, return_counts=True)
    return (sizes.min() / sizes[place]) ** alpha
