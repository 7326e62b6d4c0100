"""Rows and histograms of a view, as the page asks for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from reelwright.pipelines.app import captions
from reelwright.pipelines.app.about import review_facts
from reelwright.pipelines.app.columns import ID, steady
from reelwright.pipelines.app.facets import facet
from reelwright.pipelines.app.reviews import Reviews
from reelwright.pipelines.app.selection import Selection
from reelwright.pipelines.app.values import shown
from reelwright.pipelines.app.view import Page, View

BASIC = (ID, "width", "height", "duration_s", "fps", "num_frames")
COPIES = "near_duplicate_count"
CAPTION_LETTERS = 300


def page(selection: Selection, asked: Page) -> dict[str, Any]:
    """Return the rows of a page, the view's size, and the histograms that were asked for."""
    selection.reviews.refresh()
    return steady(selection.columns, lambda: _page(selection, asked))


def _page(selection: Selection, asked: Page) -> dict[str, Any]:
    chosen = selection.choose(asked.view)
    order = selection.ordered(asked.view, chosen.mask)
    rows = order[asked.offset : asked.offset + asked.limit]
    return {
        "total": selection.columns.count,
        "passing": chosen.passing,
        "shown": len(order),
        "offset": asked.offset,
        "rows": _rows(selection, asked, rows),
        "facets": {name: _facet(selection, name, chosen.others, chosen.mask) for name in asked.facets},
        "removed_by": {name: int(np.count_nonzero(mask)) - chosen.passing for name, mask in chosen.others.items()},
        "similarity": _bounds(selection, asked.view),
        "waiting": selection.reviews.waiting,
    }


def _bounds(selection: Selection, view: View) -> list[float] | None:
    """Return the least and the greatest similarity of the clips that a search found; None without any."""
    values = _similarities(selection, view).values()
    return [min(values), max(values)] if values else None


def _facet(selection: Selection, name: str, others: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, Any]:
    around = others.get(f"range:{name}", others.get(f"value:{name}", mask))
    if name == "review_tags":
        return selection.reviews.tag_counts(around)
    return facet(selection.column(name), around)


def _rows(selection: Selection, asked: Page, rows: np.ndarray) -> list[dict[str, Any]]:
    there = selection.columns.schema.names
    wanted = [name for name in asked.columns if name in there and name not in BASIC]
    own = [*captions.columns(there), "source_md5"]
    names = list(dict.fromkeys([*(name for name in (*BASIC, COPIES) if name in there), *own, *wanted]))
    found = selection.columns.take(rows, names)
    from_source = selection.source_captions.of(one["source_md5"] for one in found)
    near = _similarities(selection, asked.view)
    return [
        _row(one, from_source, wanted, selection.reviews) | {"similarity": near.get(row)}
        for one, row in zip(found, rows.tolist(), strict=True)
    ]


def _similarities(selection: Selection, view: View) -> dict[int, float]:
    """Row -> similarity to the view's search."""
    if view.search is None:
        return {}
    rows, values = selection.similarities(view.search)
    return dict(zip(rows.tolist(), values.tolist(), strict=True))


def _row(
    found: dict[str, Any], from_source: dict[str, list[str]], wanted: list[str], reviews: Reviews
) -> dict[str, Any]:
    review = review_facts(reviews, found[ID])
    row = {name: shown(found.get(name)) for name in BASIC}
    row["copies"] = found.get(COPIES) or 1
    row["caption"] = shown(captions.first_caption(found, review["caption"], from_source), CAPTION_LETTERS)
    row["values"] = {name: shown(found[name], CAPTION_LETTERS) for name in wanted}
    row["review"] = {name: review[name] for name in ("verdict", "star", "tags")}
    return row
