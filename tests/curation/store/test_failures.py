"""Failures that no later attempt has resolved, and how they become resolved."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from reelwright.curation.store import Store
from reelwright.curation.store.failures import Resolver, unresolved
from reelwright.curation.store.schema import field
from tests.curation.store.conftest import add_source

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def left(store: Store, stage: str | None = None) -> set[tuple[str, str]]:
    rows = unresolved(store, stage).read_all().to_pylist()
    return {(row["stage"], row["clip_id"] or row["uri"]) for row in rows}


def fail(store: Store, stage: str, **columns: object) -> None:
    store.append("failures", [{"stage": stage, "error": "x", "at": NOW, "attempts": 1, **columns}])


def test_a_stage_that_later_worked_is_resolved_and_the_others_are_not(store: Store) -> None:
    first, second, third = add_source(store, "s", 3)
    scored = pa.table({"clip_id": [first, second], "blur_fingerprint": ["new", "old"]})
    store.merge("clips", scored, on="clip_id")
    fail(store, "blur", clip_id=first, fingerprint="new")
    fail(store, "blur", clip_id=second, fingerprint="new")
    fail(store, "cut", clip_id=third)
    fail(store, "cut", clip_id="was never cut")
    fail(store, "scan", uri="broken.mp4")
    fail(store, "ingest", uri="mistyped.mp4")
    assert left(store) == {("blur", second), ("cut", "was never cut"), ("scan", "broken.mp4")}
    assert left(store, "scan") == {("scan", "broken.mp4")}
    assert left(store, "it's no stage") == set()


@pytest.mark.parametrize(("after_s", "resolved"), [(1, True), (-1, False)])
def test_an_annotator_of_sets_is_resolved_by_a_newer_state(store: Store, after_s: int, resolved: bool) -> None:
    (clip,) = add_source(store, "s", 1)
    store.ensure_columns("clips", [field("groups_fingerprint", pa.string(), "code that made the groups")])
    fail(store, "groups", fingerprint="one")
    store.append("annotator_states", [{"annotator": "groups", "at": NOW + timedelta(seconds=after_s)}])
    assert left(store) == {("groups", None)}  # it has given no clip a value
    store.merge("clips", pa.table({"clip_id": [clip], "groups_fingerprint": ["another"]}), on="clip_id")
    assert (left(store) == set()) is resolved


def test_a_resolver_marks_what_worked_alone(store: Store) -> None:
    first, second = add_source(store, "s", 2)
    for clip in (first, second):
        fail(store, "blur", clip_id=clip, fingerprint="one")
    fail(store, "light", clip_id=first, fingerprint="one")
    resolver = Resolver(store, ["blur"])
    resolver.works(["blur"], first)
    resolver.commit()
    assert left(store) == {("blur", second), ("light", first)}
