"""Ways through a view: the clip before or after another, and the ids between two places."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from reelwright.errors import UserError
from reelwright.pipelines.app.columns import Words, steady
from reelwright.pipelines.app.selection import Selection
from reelwright.pipelines.app.view import Strict, View

MOST_CHOSEN = 50_000
"""Clips between two places: what a request with their ids may hold (`serving.guard.MAX_BODY`)."""
VERDICT = "review_verdict"


class Step(Strict):
    """A step through a view.

    Attributes:
        view: the view.
        of: the clip that the step is from; empty: from the view's beginning.
        back: towards the beginning.
        undecided: to a clip without a verdict.
        itself: the clip of `of` will do.
    """

    view: View = View()
    of: Annotated[str, Field(max_length=64)] = ""
    back: bool = False
    undecided: bool = False
    itself: bool = False


class Between(Strict):
    """A stretch of a view. offset: the place of its first clip; count: of clips."""

    view: View = View()
    offset: Annotated[int, Field(ge=0, le=2**31)]
    count: Annotated[int, Field(ge=1, le=2**31)]


def step(selection: Selection, asked: Step) -> dict[str, Any]:
    """Return the next clip and its place in the view; an empty id where there is none.

    A clip that a decision took out of the view is left in its old place, so that none is passed over.
    """
    selection.reviews.refresh()
    return steady(selection.columns, lambda: _step(selection, asked))


def _step(selection: Selection, asked: Step) -> dict[str, Any]:
    shown = selection.choose(asked.view).mask
    here = selection.columns.rows_of([asked.of])
    there = shown.copy()
    there[here] = True
    order = selection.ordered(asked.view, there)
    wanted = shown[order]
    if asked.undecided:
        verdicts = selection.reviews.column(VERDICT)
        assert isinstance(verdicts, Words)
        wanted &= verdicts.codes[order] < 0
    at = np.flatnonzero(order == here[0]) if len(here) else here
    start = int(at[0]) if len(at) else -1
    if asked.back:
        found = np.flatnonzero(wanted[: max(0, start + asked.itself)])[-1:]
    else:
        begin = max(0, start + (not asked.itself))
        found = begin + np.flatnonzero(wanted[begin:])[:1]
    if not len(found):
        return {"clip_id": "", "place": 0}
    place = int(found[0])
    return {
        "clip_id": selection.columns.ids[int(order[place])].as_py(),
        "place": int(np.count_nonzero(shown[order[:place]])),
    }


def between(selection: Selection, asked: Between) -> dict[str, Any]:
    """Return the ids of a stretch of a view, in its order.

    Raises:
        UserError: there are more than a decision can name.
    """
    if asked.count > MOST_CHOSEN:
        raise UserError(
            f"{asked.count:,} clips are more than the {MOST_CHOSEN:,} that can be selected; filter to them, and use "
            "the buttons for all shown"
        )
    selection.reviews.refresh()
    return steady(selection.columns, lambda: _between(selection, asked))


def _between(selection: Selection, asked: Between) -> dict[str, Any]:
    order = selection.ordered(asked.view, selection.choose(asked.view).mask)
    return {"clip_ids": selection.columns.ids.take(order[asked.offset : asked.offset + asked.count]).to_pylist()}
