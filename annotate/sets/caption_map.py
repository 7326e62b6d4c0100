"""A map of all captions: a point of a plane per clip, near points for captions that say alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Column, SetAnnotator
from reelwright.annotate.sets.clustering.layout import Layout, lay_out, mark_of, place
from reelwright.annotate.sets.clustering.vectors import NEEDS, spread_out, vectors_of
from reelwright.curation.store.crowding import sample


@dataclass(frozen=True)
class CaptionMap(SetAnnotator):
    """t-SNE (van der Maaten & Hinton, 2008) of a sample of captions; each other clip lies between the nearest of it.

    Two principal components of caption embeddings show a few percent of their variance, and UMAP would bring a compiler
    (numba) into every installation; t-SNE comes with scikit-learn, and a sample bounds its cost. The sample is the
    clips with the smallest hash of seed and id. Once there are more clips by `refit_growth`, or as large a share of the
    sample is gone, it is drawn and laid out again, beginning where its clips lay; till then no clip moves.

    Args:
        sample: clips that t-SNE lays out.
        perplexity: neighbours that a clip of the sample is to lie near to.
        refit_growth: share by which clips grow, or the sample shrinks, before a new layout.
        seed: of the sample and of t-SNE.
    """

    sample: int = 3_000
    perplexity: float = 30.0
    refit_growth: float = 0.2
    seed: int = 0

    name, version = "caption_map", 1
    profiles = ()  # t-SNE of a small store costs more than all else that looks at its captions: run when asked for
    typical_s = 0.01
    needs = NEEDS
    columns = {
        "map_x": Column(pa.float32(), "place on the map of captions, to the right; distances tell near from far alone"),
        "map_y": Column(pa.float32(), "place on the map of captions, upwards"),
    }

    def __post_init__(self) -> None:
        for name, least in (("sample", 8), ("perplexity", 1), ("refit_growth", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"caption_map: {name} = {getattr(self, name)}; it must be at least {least}")

    def __call__(self, clips: pa.Table, state: Any) -> tuple[Mapping[str, Any], Any]:
        """Place each clip; a clip of an earlier call stays where it was until there is a new layout."""
        rows, vectors, model = vectors_of(clips)
        if not len(rows):
            return {name: pa.nulls(len(clips), pa.float32()) for name in self.columns}, state
        ids = clips["clip_id"].take(pa.array(rows)).to_pylist()
        before = Layout.from_json(state["layout"]) if state and state["model"] == model else None
        layout = before if before and not self._is_outgrown(before, ids, vectors) else None
        layout = layout or self._laid_out(ids, vectors, before)
        points = _points(layout, ids, vectors)
        found = {name: spread_out(points[:, i], rows, len(clips), pa.float32()) for i, name in enumerate(self.columns)}
        return found, {"model": model, "layout": layout.to_json()}

    def _is_outgrown(self, before: Layout, ids: list[str], vectors: np.ndarray) -> bool:
        rows, _ = before.still(ids, vectors)
        kept = len(rows) >= (1 - self.refit_growth) * len(before.ids)
        return not kept or len(ids) > (1 + self.refit_growth) * before.clips

    def _laid_out(self, ids: list[str], vectors: np.ndarray, before: Layout | None) -> Layout:
        rows = sample(ids, self.sample, self.seed)
        known = before is not None and len(before.still(ids, vectors)[0]) > 0
        start = _points(before, ids, vectors)[rows] if before is not None and known else None
        points = lay_out(vectors[rows], self.perplexity, self.seed, start)
        return Layout([ids[i] for i in rows], [mark_of(vectors[i]) for i in rows], points, len(ids))


def _points(layout: Layout, ids: list[str], vectors: np.ndarray) -> np.ndarray:
    """Return the point of each clip, float32 [N, 2]: as it was laid out, or between the nearest that were."""
    rows, at = layout.still(ids, vectors)
    others = np.setdiff1d(np.arange(len(ids)), rows)
    points = np.empty((len(ids), 2), np.float32)
    points[rows] = at
    points[others] = place(vectors[others], vectors[rows], at)
    return points
