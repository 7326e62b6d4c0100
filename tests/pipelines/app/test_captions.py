"""The captions that people see are those that training and exports take, in their order."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from reelwright.curation.store import Store
from reelwright.curation.store.caption_columns import caption_lists, source_lists
from reelwright.pipelines.app.about import about_clip
from reelwright.pipelines.app.captions import WANTED, written
from reelwright.pipelines.app.columns import Columns
from reelwright.pipelines.app.decisions import Change
from reelwright.pipelines.app.pages import page
from reelwright.pipelines.app.reviews import Reviews
from reelwright.pipelines.app.selection import Selection
from reelwright.pipelines.app.view import Page
from tests.pipelines.app.made import clip_id, make_store


@pytest.fixture
def store(tmp_path) -> Store:
    store = make_store(tmp_path / "store", clips=6)
    own = {"clip_id": [clip_id(i) for i in range(4)], "caption": ["by a model", None, " ", None],
           "span_captions": [["of the span", "again"], ["of the span", "again"], None, None]}  # fmt: skip
    store.merge("clips", pa.table(own), on="clip_id")
    store.merge("sources", pa.table({"source_id": ["0"], "caption": ["of the file"], "captions": [["first", "\n"]]}),
                on="source_id")  # fmt: skip
    return store


@pytest.fixture
def selection(store: Store) -> Iterator[Selection]:
    columns = Columns(store)
    reviews = Reviews(store, columns)
    yield Selection(store, columns, reviews)
    reviews.close()


def test_the_first_caption_is_what_training_takes_and_the_composed_one_only_where_there_is_none(store, selection):
    selection.reviews.decide([clip_id(3)], Change("caption", "by a person"), "ann")
    assert selection.reviews.settle()
    cards = {row["clip_id"]: row["caption"] for row in page(selection, Page())["rows"]}
    assert list(cards.values())[:4] == ["by a model", "of the span", "first", "by a person"]
    trained = caption_lists(store.read("clips"), WANTED, source_lists(store)).texts.to_pylist()
    for name, texts in zip(store.read("clips", ["clip_id"])["clip_id"].to_pylist(), trained, strict=True):
        variants = about_clip(store, selection.reviews, name)["captions"]
        assert [one["text"] for one in variants if one["is_taken"]] == texts
        assert [one["is_taken"] for one in variants] == [True] * len(texts) + [False] * (len(variants) - len(texts))
        assert cards[name] == (texts or ["no captions"])[0]
        assert "composed_caption" in [one["kind"] for one in variants]


def test_a_clip_without_another_caption_shows_the_composed_one(store, selection):
    store.merge("sources", pa.table({"source_id": ["0"], "caption": pa.array([None], pa.string()),
                                     "captions": pa.array([None], pa.list_(pa.string()))}), on="source_id")  # fmt: skip
    assert page(selection, Page(offset=4))["rows"][0]["caption"] == "a ball number 4"
    [one] = about_clip(store, selection.reviews, clip_id(4))["captions"]
    assert (one["kind"], one["is_taken"]) == ("composed_caption", False)


def test_what_a_person_wrote_is_a_variant_until_it_is_taken_back_or_undone(store, selection):
    reviews, one = selection.reviews, clip_id(5)

    def there() -> list[tuple[str, str]]:
        assert reviews.settle()
        row = store.read("clips", ["review_caption", "review_caption_by"], f"clip_id = '{one}'").to_pylist()
        now = reviews.of(one)
        assert (now.caption, now.caption_by or None) == (row[0]["review_caption"], row[0]["review_caption_by"])
        variants = about_clip(store, reviews, one)["captions"]
        mine = [(v["text"], v["author"]) for v in variants if v["kind"].startswith("written")]
        assert mine == written(reviews.history(one))
        assert [v["text"] for v in variants if v["is_written"]] == [now.caption] * (now.caption is not None)
        return mine

    reviews.decide([one], Change("caption", "A ball."), "ann")
    reviews.decide([one], Change("caption", "A red ball."), "ben")
    assert there() == [("A red ball.", "ben"), ("A ball.", "ann")]
    reviews.decide([one], Change("keep"), "chen")  # another's decision: the author stays
    assert there() == [("A red ball.", "ben"), ("A ball.", "ann")]
    assert (reviews.of(one).by, reviews.of(one).caption_by) == ("chen", "ben")
    reviews.decide([one], Change("caption"), "chen")
    assert there() == [("A ball.", "ann")]
    reviews.step_back("undo", "chen")
    assert there()[0] == ("A red ball.", "ben")
    reviews.step_back("undo", "ben")
    assert there() == [("A ball.", "ann")]
    reviews.step_back("redo", "ben")
    assert there() == [("A red ball.", "ben"), ("A ball.", "ann")]
    again = Reviews(store, Columns(store))  # another server reads the same of the table
    assert again.of(one) == reviews.of(one)
    again.close()
