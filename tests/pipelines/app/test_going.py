"""Steps through a view while decisions take clips out of it: none is passed over, none comes twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reelwright.curation.store import Store
from reelwright.errors import UserError
from reelwright.pipelines.app.columns import Columns
from reelwright.pipelines.app.decisions import Change
from reelwright.pipelines.app.going import MOST_CHOSEN, Between, Step, between, step
from reelwright.pipelines.app.pages import page
from reelwright.pipelines.app.reviews import Reviews
from reelwright.pipelines.app.selection import Selection
from reelwright.pipelines.app.view import Page, View
from tests.pipelines.app.made import clip_id, make_store

UNDECIDED = {"values": {"review_verdict": [None]}}
NEAR = {"ranges": {"duration_s": (1.5, 3.0)}, "sort": "near_bound"}


@pytest.fixture
def selection(tmp_path) -> Iterator[Selection]:
    store: Store = make_store(tmp_path / "store", clips=20)
    columns = Columns(store)
    reviews = Reviews(store, columns)
    yield Selection(store, columns, reviews)
    reviews.close()


def shown(selection: Selection, view: View) -> list[str]:
    return [row["clip_id"] for row in page(selection, Page(view=view, limit=100))["rows"]]


@pytest.mark.parametrize("view", [
    {}, UNDECIDED, {**UNDECIDED, **NEAR}, {**UNDECIDED, "sort": "random", "seed": 3}, {"sort": "review_at"},
    {**UNDECIDED, "sort": "duration_s", "descending": True}, {"where": "review_verdict is null"},
])  # fmt: skip
def test_a_queue_comes_to_each_undecided_clip_once_in_the_view_s_order(selection, view):
    selection.reviews.decide([clip_id(3), clip_id(4)], Change("keep"), "ben")
    asked = View.model_validate(view)
    expected = [one for one in shown(selection, asked) if one not in (clip_id(3), clip_id(4))]
    came: list[str] = []
    found = step(selection, Step(view=asked, undecided=True, itself=True))
    while found["clip_id"]:
        came.append(found["clip_id"])
        assert shown(selection, asked)[found["place"]] == found["clip_id"]
        selection.reviews.decide(came[-1:], Change(("keep", "drop")[len(came) % 2]), "ann")
        found = step(selection, Step(view=asked, of=came[-1], undecided=True))
    assert came == expected


def test_steps_go_on_from_where_a_clip_was(selection):
    view = View.model_validate(UNDECIDED)
    selection.reviews.decide([clip_id(5)], Change("drop"), "ann")
    assert step(selection, Step(view=view, of=clip_id(5))) == {"clip_id": clip_id(6), "place": 5}
    assert step(selection, Step(view=view, of=clip_id(5), back=True)) == {"clip_id": clip_id(4), "place": 4}
    assert step(selection, Step(view=view, of=clip_id(0), back=True))["clip_id"] == ""
    assert step(selection, Step(view=view, of=clip_id(19)))["clip_id"] == ""
    assert step(selection, Step(view=view, of="gone"))["clip_id"] == clip_id(0)


def test_the_ids_between_two_places_are_those_of_the_view(selection):
    view = View(sort="duration_s", descending=True)
    found = between(selection, Between(view=view, offset=2, count=5))["clip_ids"]
    assert found == [clip_id(17 - i) for i in range(5)]
    with pytest.raises(UserError, match="more than the 50,000"):
        between(selection, Between(offset=0, count=MOST_CHOSEN + 1))
