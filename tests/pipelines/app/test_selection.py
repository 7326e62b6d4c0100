"""What the page shows is what SQL says: masks, orders, folding and histograms against DuckDB and snapshots."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.store import Store
from reelwright.errors import ReelError
from reelwright.pipelines.app import columns as columns_module
from reelwright.pipelines.app.columns import Columns, held_bytes
from reelwright.pipelines.app.facets import facet
from reelwright.pipelines.app.freezing import Freeze, freeze, sql_of
from reelwright.pipelines.app.pages import page
from reelwright.pipelines.app.reviews import Reviews
from reelwright.pipelines.app.selection import Selection
from reelwright.pipelines.app.view import Page, View, parse
from tests.pipelines.app.made import CLIPS, MOTIONS, clip_id, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("selection") / "store")


@pytest.fixture(scope="module")
def selection(store: Store) -> Iterator[Selection]:
    columns = Columns(store)
    reviews = Reviews(store, columns)
    yield Selection(store, columns, reviews)
    reviews.close()


def ids_of(selection: Selection, mask: np.ndarray) -> list[str]:
    return selection.columns.ids.take(np.flatnonzero(mask)).to_pylist()


bounds = st.one_of(st.none(), st.integers(0, 40).map(float), st.floats(0, 140, width=32).map(float))
ranges = st.dictionaries(
    st.sampled_from(["blur_score", "motion_score", "duration_s", "width"]), st.tuples(bounds, bounds)
)
words = st.lists(st.sampled_from([*MOTIONS, None, "it's"]), min_size=1, max_size=3, unique=True)
truths = st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=2, unique=True)
values = st.fixed_dictionaries({}, optional={"camera_motion": words, "is_still": truths})
conditions = st.sampled_from(["", "duration_s > 2", "blur_score > 20 -- sharp", "camera_motion IS NULL OR width = 160"])


@given(ranges=ranges, values=values, where=conditions, data=st.data())
def test_the_clips_shown_are_the_clips_of_the_view_s_sql(store, selection, ranges, values, where, data):
    view = View(ranges=ranges, values=values, where=where)
    view = view.model_copy(update={"show": data.draw(st.sampled_from(["kept", "removed", *view.filters()]))})
    found = store.sql(sql_of(selection, view)).column(0).to_pylist()
    assert sorted(ids_of(selection, selection.choose(view).mask)) == sorted(found)


@given(ranges=ranges, values=values)
def test_removed_and_kept_make_the_whole_and_a_filter_s_own_share_is_what_it_removes(selection, ranges, values):
    view = View(ranges=ranges, values=values)
    kept = selection.choose(view)
    removed = selection.choose(view.model_copy(update={"show": "removed"}))
    assert kept.passing + int(removed.mask.sum()) == CLIPS
    for name in view.filters():
        alone = selection.choose(view.model_copy(update={"show": name})).mask
        assert int(alone.sum()) == int(kept.others[name].sum()) - kept.passing


def test_folding_keeps_the_clips_that_a_distinct_snapshot_keeps(store, selection):
    view = View(ranges={"duration_s": (1.5, None)}, fold=True)
    made = freeze(store, selection, Freeze(name="folded", view=view))
    frozen = store.snapshots.rows("folded").column("clip_id").to_pylist()
    assert sorted(ids_of(selection, selection.choose(view).mask)) == sorted(frozen)
    assert made["clips"] == len(frozen) < int(selection.choose(view.model_copy(update={"fold": False})).mask.sum())


@pytest.mark.parametrize("sort", ["blur_score", "motion_score", "camera_motion", "composed_caption", "is_still"])
@pytest.mark.parametrize("descending", [False, True])
def test_an_order_is_the_column_s_and_clips_without_a_value_come_last(store, selection, sort, descending):
    view = View(sort=sort, descending=descending)
    rows = selection.ordered(view, selection.choose(view).mask)
    assert sorted(rows.tolist()) == list(range(CLIPS))
    values = [one[sort] for one in selection.columns.take(rows, [sort])]
    there = [v for v in values if v is not None and v == v]
    assert there == sorted(there, reverse=descending)
    assert all(v is None or v != v for v in values[len(there) :])


def test_a_random_order_stays_the_same_for_its_seed_and_pages_of_it_do_not_overlap(selection):
    view = View(sort="random", seed=7)
    pages = [page(selection, Page(view=view, offset=at, limit=15)) for at in (0, 15, 30)]
    ids = [row["clip_id"] for one in pages for row in one["rows"]]
    assert len(set(ids)) == len(ids) == CLIPS
    assert [r["clip_id"] for r in page(selection, Page(view=view, limit=15))["rows"]] == ids[:15]
    other = page(selection, Page(view=View(sort="random", seed=8), limit=CLIPS))["rows"]
    assert [r["clip_id"] for r in other] != ids


def test_clips_about_which_a_bound_decides_narrowly_come_first(selection):
    view = View(ranges={"duration_s": (3.0, None)}, sort="near_bound")
    lengths = [row["duration_s"] for row in page(selection, Page(view=view))["rows"]]
    assert lengths == sorted(lengths)
    removed = page(selection, Page(view=view.model_copy(update={"show": "removed"})))["rows"]
    assert [row["duration_s"] for row in removed] == sorted((r["duration_s"] for r in removed), reverse=True)
    with pytest.raises(ReelError, match="no filter has a bound"):
        page(selection, Page(view=View(sort="near_bound")))


def test_a_histogram_follows_the_other_filters_and_not_its_own(store, selection):
    view = View(ranges={"blur_score": (50.0, None)}, values={"camera_motion": ["static"]})
    found = page(selection, Page(view=view, facets=["blur_score", "camera_motion", "duration_s"]))["facets"]
    count = "select count(*) from clips where "
    static = store.sql(count + "camera_motion = 'static' and blur_score is not null").column(0)[0].as_py()
    assert sum(found["blur_score"]["counts"]) == static
    sharp = store.sql("select camera_motion, count(*) n from clips where blur_score >= 50 group by 1").to_pylist()
    counts = {one["value"]: one["count"] for one in found["camera_motion"]["values"]}
    counts |= {None: found["camera_motion"]["missing"]} if found["camera_motion"]["missing"] else {}
    assert counts == {one["camera_motion"]: one["n"] for one in sharp}
    both = store.sql(count + "camera_motion = 'static' and blur_score >= 50").column(0)[0].as_py()
    assert sum(found["duration_s"]["counts"]) == both


def test_columns_that_were_not_asked_for_lately_are_let_go(store, monkeypatch):
    held = Columns(store)
    names = ["duration_s", "width", "blur_score", "camera_motion", "composed_caption"]
    first = {name: held.get(name) for name in names}
    for name in names:
        facet(held.get(name), np.ones(CLIPS, bool))
        assert first[name].order is held.get(name).order
    whole = sum(held_bytes(column) for column in first.values())
    assert whole > CLIPS * (8 + 4 + 1)  # values, order, bins
    monkeypatch.setattr(columns_module, "KEEP_BYTES", whole - 1)
    assert held.get("width") is first["width"]
    again = held.get("duration_s")
    assert again is not first["duration_s"], "it was asked for longest ago"
    np.testing.assert_array_equal(again.values, first["duration_s"].values)


def test_the_bins_of_a_histogram_count_what_lies_between_their_edges(store, selection):
    found = page(selection, Page(facets=["duration_s"]))["facets"]["duration_s"]
    lengths = np.array(store.read("clips", ["duration_s"]).column(0).to_pylist())
    assert found["counts"] == np.histogram(lengths, found["edges"])[0].tolist()
    assert (found["least"], found["most"]) == (lengths.min(), lengths.max())


def test_a_column_that_changes_in_the_store_is_read_again_and_another_is_not(tmp_path):
    import pyarrow as pa

    store = make_store(tmp_path / "store", clips=6)
    columns = Columns(store)
    before, other = columns.get("blur_score"), columns.get("duration_s")
    new = pa.table({"clip_id": [clip_id(2)], "blur_score": pa.array([7.0], pa.float32())})
    store.merge("clips", new, on="clip_id")
    columns.refresh()
    after: Any = columns.get("blur_score")
    assert after is not before
    assert after.values[2] == 7.0
    assert columns.get("duration_s") is other
    store.delete("clips", f"clip_id = '{clip_id(0)}'")
    columns.refresh()
    assert columns.count == 5
    assert len(columns.get("duration_s").values) == 5  # type: ignore[union-attr]


def test_a_page_is_of_one_version_while_rows_come_and_go(tmp_path):
    """Whatever the moment, each row's value is the one that passed the filter."""
    from threading import Thread

    store = make_store(tmp_path / "store", clips=12)
    columns = Columns(store)
    reviews = Reviews(store, columns)
    selection = Selection(store, columns, reviews)

    def come_and_go() -> None:
        writer = Store.open(store.uri)
        for i in range(6):
            writer.append("clips", [{"clip_id": f"new{i}", "source_md5": "s", "duration_s": 9.0, "width": 1}])
            writer.delete("clips", f"clip_id = '{clip_id(i)}'")

    changes = Thread(target=come_and_go)
    changes.start()
    is_last = False
    while not is_last:
        is_last = not changes.is_alive()
        view = View(ranges={"duration_s": (2.0, None)}, sort="duration_s", descending=True)
        found = page(selection, Page(view=view, limit=50, facets=["duration_s"]))
        lengths = [row["duration_s"] for row in found["rows"]]
        assert lengths == sorted(lengths, reverse=True)
        assert all(length >= 2 for length in lengths)
        assert sum(found["facets"]["duration_s"]["counts"]) == found["total"]
    changes.join()
    assert {row["clip_id"] for row in found["rows"]} == {*(f"new{i}" for i in range(6)), *map(clip_id, (8, 9, 10, 11))}
    reviews.close()


@pytest.mark.parametrize("view", [
    View(ranges={"nope": (0.0, 1.0)}), View(values={"clips": ["x"]}), View(where="blur_scor > 1"),
    View(where="1) UNION SELECT uri FROM read_csv('/etc/passwd') WHERE (1=1"), View(show="range:nothing"),
    View(sort="near_duplicate"), View(ranges={"camera_motion": (0.0, 1.0)}), View(values={"blur_score": ["1"]}),
])  # fmt: skip
def test_a_view_that_cannot_be_is_a_sentence(selection, view):
    with pytest.raises(ReelError) as refused:
        page(selection, Page(view=view))
    assert 10 < len(str(refused.value)) < 600


@pytest.mark.parametrize("body", [
    b"[]", b"{", b"\xff", b'{"limit": 100000}', b'{"view": {"sort": 3}}', b'{"view": {"ranges": {"a": [1]}}}',
    b'{"view": {"nothing": 1}}', b"[" * 100_000, b'{"view": {"ranges": {"a": [NaN, 1]}}}', b'{"offset": -1}',
])  # fmt: skip
def test_a_request_that_is_something_else_is_a_sentence(body):
    with pytest.raises(ReelError, match="the request is"):
        parse(Page, body)


def test_numbers_in_a_view_s_sql_are_the_numbers_that_were_compared(store, selection):
    """A float32 in the store and a bound that is none: both sides round the bound in the same way."""
    third = 10 / 3  # no float32; blur_score of clip 1 is the float32 next to it
    for least in (third, math.nextafter(third, 4), 100 / 3, 33.333332):
        view = View(ranges={"blur_score": (least, None)})
        found = store.sql(sql_of(selection, view)).column(0).to_pylist()
        assert sorted(ids_of(selection, selection.choose(view).mask)) == sorted(found)
