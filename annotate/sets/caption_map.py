"""A map of all captions: a point of a plane per clip, near points for captions that say alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.annotate.contract import Column, StreamedSetAnnotator
from reelwright.annotate.set_reader import ClipReader
from reelwright.annotate.sets.clustering.layout import Landmarks, Layout, lay_out, mark_of
from reelwright.annotate.sets.clustering.vectors import NEEDS, CaptionVectors, Part


@dataclass(frozen=True)
class CaptionMap(StreamedSetAnnotator):
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

    def stream(self, clips: ClipReader, state: Any) -> tuple[Iterable[Mapping[str, Any]], Any]:
        """Place each clip; a clip of an earlier call stays where it was until there is a new layout."""
        vectors = CaptionVectors(clips)
        if not vectors.count:
            return vectors.nothing([(name, column.type) for name, column in self.columns.items()]), state
        before = Layout.from_json(state["layout"]) if state and state["model"] == vectors.model else None
        at = _still(before, vectors) if before else None
        if before is None or at is None or self._is_outgrown(before, at, vectors.count):
            layout = self._laid_out(vectors, at)
            at = _still(layout, vectors)
        else:
            layout = before
        return vectors.per_batch(_Placed(vectors.model, at)), {"model": vectors.model, "layout": layout.to_json()}

    def _is_outgrown(self, before: Layout, at: Landmarks, count: int) -> bool:
        kept = len(at.ids) >= max(1, (1 - self.refit_growth) * len(before.ids))
        return not kept or count > (1 + self.refit_growth) * before.clips

    def _laid_out(self, vectors: CaptionVectors, before: Landmarks | None) -> Layout:
        drawn, sample = vectors.sample(self.sample, self.seed)
        ids = drawn.to_pylist()
        start = before.points_of(ids, sample) if before is not None and before.ids else None
        points = lay_out(sample, self.perplexity, self.seed, start)
        return Layout(ids, [mark_of(one) for one in sample], points, vectors.count)


@dataclass(frozen=True)
class _Placed:
    """Places clips among those whose points are known. model: of their vectors."""

    model: str
    at: Landmarks

    def __call__(self, clips: pa.Table) -> dict[str, Any]:
        part = Part.of(clips, self.model)
        points = self.at.points_of(part.ids.to_pylist(), part.vectors)
        return {name: part.spread_out(points[:, i], pa.float32()) for i, name in enumerate(CaptionMap.columns)}


def _still(layout: Layout, vectors: CaptionVectors) -> Landmarks:
    """Return the clips of a layout that the set still has, with the same vector."""
    wanted = pa.array(layout.ids, pa.string())
    ids: list[str] = []
    there = [np.zeros((0, 0), np.float32)]
    for part in vectors.parts():
        rows = np.flatnonzero(pc.is_in(part.ids, wanted).to_numpy(zero_copy_only=False))
        if len(rows):
            ids += part.ids.take(pa.array(rows)).to_pylist()
            there.append(part.vectors[rows])
    return layout.still(ids, np.concatenate(there[1:]) if ids else there[0])
