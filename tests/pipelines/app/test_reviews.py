"""Decisions are kept, are columns, and are undone, by several people and over a killed server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from reelwright.curation.store import Store
from reelwright.errors import UserError
from reelwright.pipelines.app.columns import Columns
from reelwright.pipelines.app.decisions import Change
from reelwright.pipelines.app.reviews import Reviews
from reelwright.pipelines.app.selection import Selection
from reelwright.pipelines.app.view import View
from tests.pipelines.app.made import clip_id, make_store, served

pytestmark = pytest.mark.waits
KEEP, DROP = Change("keep"), Change("drop")
HOLDER = """
import sys
from pathlib import Path
from reelwright.curation.store import lock
with lock.exclusive(Path(sys.argv[1]), "curation"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store", clips=8)


@pytest.fixture
def reviews(store: Store) -> Iterator[Reviews]:
    opened = Reviews(store, Columns(store))
    yield opened
    opened.close()


def columns_of(store: Store, *names: str) -> dict[str, tuple]:
    rows = store.read("clips", ["clip_id", *names], "review_at IS NOT NULL").to_pylist()
    return {row["clip_id"]: tuple(row[name] for name in names) for row in rows}


def test_decisions_are_columns_that_sql_and_snapshots_see(store, reviews):
    reviews.decide([clip_id(1), clip_id(2)], DROP, "ann")
    reviews.decide([clip_id(2)], Change("tag", "shaky"), "ben")
    reviews.decide([clip_id(3)], Change("star"), "ben")
    assert reviews.settle()
    assert columns_of(store, "review_verdict", "review_star", "review_tags", "review_by") == {
        clip_id(1): ("drop", False, [], "ann"),
        clip_id(2): ("drop", False, ["shaky"], "ben"),
        clip_id(3): (None, True, [], "ben"),
    }
    made = store.snapshots.create("kept", "select clip_id from clips where review_verdict is distinct from 'drop'")
    assert made.num_clips == 6


def test_what_was_decided_is_seen_at_once_and_before_it_is_merged(store, reviews):
    selection = Selection(store, reviews._columns, reviews)
    view = View(values={"review_verdict": ["drop"]})
    assert selection.choose(view).passing == 0
    reviews.decide([clip_id(4)], DROP, "ann")
    assert selection.choose(view).mask.nonzero()[0].tolist() == [4]
    reviews.decide([clip_id(4), clip_id(5)], Change("tag", "b"), "ann")
    reviews.decide([clip_id(5)], Change("tag", "a"), "ann")
    assert selection.choose(View(values={"review_tags": ["a"]})).mask.nonzero()[0].tolist() == [5]
    assert selection.choose(View(values={"review_tags": [None]})).passing == 6
    counts = reviews.tag_counts(selection.choose(View()).mask)
    assert counts["values"] == [{"value": "b", "count": 2}, {"value": "a", "count": 1}]
    assert counts["missing"] == 6


def test_undo_and_redo_take_back_a_reviewer_s_own_last_action(reviews):
    reviews.decide([clip_id(0), clip_id(1)], KEEP, "ann")
    reviews.decide([clip_id(1), clip_id(2)], DROP, "ann")
    reviews.decide([clip_id(3)], DROP, "ben")
    assert reviews.step_back("undo", "ann")["changed"] == 2
    verdicts = [reviews.of(clip_id(i)).verdict for i in range(4)]
    assert verdicts == ["keep", "keep", None, "drop"]
    reviews.step_back("undo", "ann")
    assert [reviews.of(clip_id(i)).verdict for i in range(4)] == [None, None, None, "drop"]
    with pytest.raises(UserError, match="nothing to undo for ann"):
        reviews.step_back("undo", "ann")
    reviews.step_back("redo", "ann")
    reviews.step_back("redo", "ann")
    assert [reviews.of(clip_id(i)).verdict for i in range(4)] == ["keep", "drop", "drop", "drop"]
    reviews.step_back("undo", "ann")
    reviews.decide([clip_id(5)], KEEP, "ann")  # what was undone before cannot come back after a new action
    assert reviews.steps("ann") == {"undo": 2, "redo": 0}


def test_undo_leaves_what_another_reviewer_decided_since(reviews):
    reviews.decide([clip_id(0), clip_id(1)], DROP, "ann")
    reviews.decide([clip_id(1)], KEEP, "ben")
    reviews.decide([clip_id(0)], Change("tag", "dark"), "ben")  # another matter: it does not keep the verdict
    done = reviews.step_back("undo", "ann")
    assert (done["changed"], done["stays"]) == (1, 1)
    assert reviews.of(clip_id(1)).verdict == "keep"
    assert (reviews.of(clip_id(0)).verdict, reviews.of(clip_id(0)).tags) == (None, ("dark",))


def test_two_servers_over_one_store_see_one_another_s_decisions(store, reviews):
    other = Reviews(store, Columns(store))
    try:
        reviews.decide([clip_id(0)], DROP, "ann")
        other.decide([clip_id(0)], Change("tag", "blurred"), "ben")
        reviews.refresh()
        for one in (reviews, other):
            assert (one.of(clip_id(0)).verdict, one.of(clip_id(0)).tags) == ("drop", ("blurred",))
        assert other.step_back("undo", "ann")["changed"] == 1
    finally:
        other.close()


def test_decisions_are_taken_while_another_process_writes_to_clips_and_are_merged_after(store, reviews):
    command = [sys.executable, "-c", HOLDER, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        reviews.decide([clip_id(0)], DROP, "ann")
        assert not reviews.settle()
        assert "wait to be written" in reviews.waiting
        selection = Selection(store, reviews._columns, reviews)
        assert selection.choose(View(where="duration_s > 1.5")).passing == 3
        with pytest.raises(UserError, match="SQL does not see them"):
            selection.choose(View(where="review_verdict is null"))
        assert selection.choose(View(values={"review_verdict": [None]})).passing == 7
        assert store.read("reviews", ["verdict"]).column(0).to_pylist() == ["drop"]
        holder.stdin.close()
        holder.wait()
    assert reviews.settle()
    assert reviews.waiting == ""
    assert columns_of(store, "review_verdict") == {clip_id(0): ("drop",)}


def test_an_edited_caption_is_a_variant_with_its_author_that_a_captioner_does_not_overwrite(store, reviews):
    reviews.decide([clip_id(0)], Change("caption", "A ball rolls to the left."), "ann")
    assert reviews.settle()
    again = pa.table({"clip_id": [clip_id(0)], "caption": ["by a model"], "composed_caption": ["by rules"]})
    store.merge("clips", again, on="clip_id")
    row = store.read("clips", ["review_caption", "review_by", "caption"], f"clip_id = '{clip_id(0)}'").to_pylist()[0]
    assert row == {"review_caption": "A ball rolls to the left.", "review_by": "ann", "caption": "by a model"}
    reviews.decide([clip_id(0)], Change("caption", "A red ball rolls."), "ben")
    variants = [(one["caption"], one["reviewer"]) for one in reviews.history(clip_id(0))]
    assert variants == [("A red ball rolls.", "ben"), ("A ball rolls to the left.", "ann")]


def test_clips_that_are_gone_are_left_out(store, reviews):
    assert reviews.decide([clip_id(0), "gone"], KEEP, "ann")["changed"] == 1
    assert reviews.decide(["gone"], KEEP, "ann")["changed"] == 0


def test_a_killed_server_loses_no_decision_that_it_acknowledged(tmp_path):
    """It dies right after its answer, before it merges; the next one has the decision, its history and its columns."""
    path = tmp_path / "store"
    make_store(path, clips=6)
    with served(path) as app:
        done = app.call("decide", action="drop", reviewer="ann", clip_ids=[clip_id(1), clip_id(2)])
        app.process.kill()
        app.process.wait()
    assert done["changed"] == 2
    store = Store.open(path)
    assert sorted(store.read("reviews", ["clip_id"]).column(0).to_pylist()) == [clip_id(1), clip_id(2)]
    with served(path) as app:
        view = {"values": {"review_verdict": ["drop"]}}
        assert app.call("page", view=view)["shown"] == 2
        found = app.call("sql", query="select clip_id from clips where review_verdict = 'drop' order by 1")
        assert [row[0] for row in found["rows"]] == [clip_id(1), clip_id(2)]
        assert app.call("undo", reviewer="ann")["changed"] == 2


def test_a_server_that_is_stopped_merges_what_is_left(tmp_path):
    path = tmp_path / "store"
    make_store(path, clips=4)
    with served(path) as app:
        app.call("decide", action="keep", reviewer="ann", clip_ids=[clip_id(3)])
    assert columns_of(Store.open(path), "review_verdict", "review_by") == {clip_id(3): ("keep", "ann")}
