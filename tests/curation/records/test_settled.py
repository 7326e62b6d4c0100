"""Inputs that need nothing are counted without a look at each; the outcome is as if each had been looked at."""

import itertools
import math
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from reelwright.curation.clips import with_spans
from reelwright.curation.ingest import spool
from reelwright.curation.ingest.collector import Collector
from reelwright.curation.ingest.inputs import Input, Span
from reelwright.curation.ingest.listing import Listing
from reelwright.curation.keys import row_order, sorted_keys, sorter
from reelwright.curation.records.history import History
from reelwright.curation.records.rows import caption_columns
from reelwright.curation.records.settled import Settled
from reelwright.curation.store import Store, known_kept

CUTTING = "0123456789abcdef"
SPANS = (Span(1.0, 2.0),)


def rows_and_inputs(folder: Path) -> tuple[list[dict], list[Input]]:
    """A row for each kind of file and of what it may have become, and the inputs, some of which are new."""
    rows, inputs = [], []
    kinds = itertools.product(("ok", "duplicate", "failed"), ("remote", "there", "changed", "gone"), (None, "a cat"),
                              (CUTTING, "other"), (0, 3), ((), SPANS), ("a cat", None))  # fmt: skip
    for number, (state, place, caption, cutting, clips, spans, told) in enumerate(kinds):
        uri = f"s3://b/{number:04}.mp4" if place == "remote" else str(folder / f"{number:04}.mp4")
        if place in ("there", "changed"):
            Path(uri).write_bytes(b"x" * number)
        status = Path(uri).stat() if place == "there" else None
        rows.append({
            "uri": uri, "source_id": uri, "md5": f"{number:032}", "state": state, "caption": caption,
            "bytes": status.st_size if status else 1, "num_clips": clips if state == "ok" else None,
            "mtime_ns": status.st_mtime_ns if status else None if place == "remote" else 5,
            "duplicate_of": f"s3://b/{number - number % 7:04}.mp4" if state == "duplicate" else None,
            "no_clip_reason": f"reason {number % 3}" if state == "ok" and not clips else None,
            "cutting_fingerprint": with_spans(cutting, spans) if state == "ok" else None,
            "ingested_at": datetime(2026, 1, 1, 0, 0, number // 60, number % 60, UTC),
        })  # fmt: skip
        inputs.append(Input(uri, captions=(told,) if told else (), spans=spans))
    inputs += [Input(f"s3://b/new-{n}.mp4") for n in range(5)]
    return rows, sorted(inputs, key=lambda item: item.uri)


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> tuple[Store, list[Input]]:
    folder = tmp_path_factory.mktemp("settled")
    store = Store.open(folder / "store", create=True)
    rows, inputs = rows_and_inputs(folder)
    store.append("sources", rows)
    again = [r for r in rows if r["state"] == "ok"][::11]  # files that had other bytes before
    later = {"ingested_at": datetime(2026, 2, 1, tzinfo=UTC)}
    store.append("sources", [r | later | {"md5": "f" + r["md5"][1:]} for r in again])
    store.append("failures", [
        {"uri": r["uri"], "stage": "probe", "error": "io: away" if n % 2 else "open: no film", "attempts": 1,
         "at": datetime(2026, 1, 2, tzinfo=UTC)}
        for n, r in enumerate(rows) if r["state"] == "failed"
    ])  # fmt: skip
    return store, inputs


@pytest.mark.parametrize("option", [{}, {"retry_failed": True}, {"recut": True}, {"keep_ids": True}], ids=str)
def test_the_outcome_is_as_if_each_input_was_looked_at(filled, option, monkeypatch):
    store, inputs = filled

    def outcome() -> list:
        found = History(store, inputs, CUTTING, **option)
        return [
            [i.uri for i in found.todo], {k: n for k, n in found.done_before.items() if n}, dict(found.no_clip),
            found.cut_otherwise, found.replaced, set(found.touched), found.recut_md5s, found.moves.made,
            [i.uri for i in found.recaptioned], {row["md5"]: found.by_md5.get(row["md5"]) for row in md5s(store)},
        ]  # fmt: skip

    quick = outcome()
    assert quick[0]
    with monkeypatch.context() as patched:
        patched.setattr(Settled, "_are_open", lambda self, records: np.ones(len(records), bool))
        assert outcome() == quick
    settled = Settled.sort
    looked_at = []
    monkeypatch.setattr(Settled, "sort", lambda self, files: looked_at.append(n := settled(self, files)) or n)
    History(store, inputs, CUTTING, **option)
    assert len(looked_at[0][1]) < 0.9 * len(inputs), "some were settled at once"


SAID = [
    Input("", captions=captions, spans=spans)
    for captions, spans in [
        ((), ()), (("a cat",), ()), (("a cat", "a dog"), ()), ((), (Span(1.0, 2.0),)),
        ((), (Span(1.0, 2.0, ("a cat",)),)), ((), (Span(1.0, 2.0, ("a dog",)),)),
        ((), (Span(1.0, 2.0), Span(2.5, math.inf, ("a cat", "ein Hündchen")))),
        (("a cat",), (Span(0.0, math.inf, ("a cat",)), Span(1.0, 2.0))),
    ]
]  # fmt: skip


@pytest.mark.parametrize("option", [{}, {"recut": True}], ids=str)
def test_captions_and_parts_are_compared_without_a_look_at_each_input(tmp_path, monkeypatch, option):
    """A row of `sources` for whatever a list may have said, beside whatever it says now."""
    store, rows, inputs, same = Store.open(tmp_path / "store", create=True), [], [], set[str]()
    cases = itertools.product(SAID, SAID, (CUTTING, "other", "of parts alone"), ("ok", "duplicate", "failed"))
    for number, (then, now, cutting, state) in enumerate(cases):
        if cutting == "of parts alone" and not then.spans:
            continue
        uri = f"s3://b/{number:04}.mp4"
        rows.append({
            "uri": uri, "source_id": uri, "md5": f"{number:032}", "state": state, **caption_columns(then),
            "cutting_fingerprint": with_spans(cutting, then.spans) if state == "ok" else None, "num_clips": 1,
            "duplicate_of": "s3://c/d.mp4" if state == "duplicate" else None,
        })  # fmt: skip
        inputs.append(replace(now, uri=uri))
        if then == now and cutting == CUTTING:
            same.add(uri)
    store.append("sources", rows)

    def outcome() -> list:
        found = History(store, inputs, CUTTING, **option)
        done = {state: n for state, n in found.done_before.items() if n}
        return [[i.uri for i in found.todo], done, found.cut_otherwise, [i.uri for i in found.recaptioned]]

    looked_at, some = set[str](), Listing.some
    with monkeypatch.context() as patched:
        patched.setattr(Listing, "some", lambda self, n: looked_at.update(self.addresses(n)) or some(self, n))
        quick = outcome()
    assert same
    assert not same & looked_at
    monkeypatch.setattr(Settled, "_are_open", lambda self, records: np.ones(len(records), bool))
    assert outcome() == quick


def md5s(store: Store) -> list[dict]:
    return store.read("sources", ["md5"]).to_pylist()


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_of_two_rows_the_later_written_counts_whatever_the_clock_of_its_host(tmp_path, hours):
    store, now = Store.open(tmp_path / "store", create=True), datetime(2026, 1, 1, tzinfo=UTC)
    row = {"uri": "s3://b/a.mp4", "source_id": "a", "md5": "0" * 32, "cutting_fingerprint": CUTTING}
    store.append("sources", [row | {"state": "failed", "ingested_at": now}])
    store.append("sources", [row | {"state": "ok", "ingested_at": now + timedelta(hours=hours)}])
    found = History(store, [Input("s3://b/a.mp4")], CUTTING, retry_failed=True)
    assert not found.todo
    assert found.done_before["ok"] == 1


@pytest.mark.parametrize("kept_from", [0, 10**9], ids=["kept", "not kept"])
@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_run_has_to_do_what_has_no_row_and_counts_the_rest_by_its_newest_row(
    tmp_path, monkeypatch, retry_failed, kept_from
):
    """The simple definition, by dictionaries, over random rows that came in several runs, all sorted on disk."""
    for module, name, value in ((known_kept, "KEPT_FROM", kept_from), (sorter, "RUN_BYTES", 0), (spool, "IN_MEMORY", 0),
                                (sorted_keys, "IN_MEMORY", 0), (row_order, "IN_MEMORY", 0)):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    store, rng = Store.open(tmp_path / "store", create=True), random.Random(5)
    newest: dict[str, str] = {}
    for run in range(5):
        rows = [{"uri": f"s3://b/{rng.randrange(300):03}.mp4", "state": rng.choice(["ok", "ok", "failed"])}
                for _ in range(100)]  # fmt: skip
        store.append("sources", [
            row | {"source_id": row["uri"], "md5": f"{n:016x}{run:016x}", "cutting_fingerprint": CUTTING}
            for n, row in enumerate(rows)
        ])  # fmt: skip
        newest |= {row["uri"]: row["state"] for row in rows}
        gone = rng.sample(sorted(newest), 5)
        store.delete("sources", f"uri IN ({', '.join(map(repr, gone))})")
        newest = {uri: state for uri, state in newest.items() if uri not in gone}
        named = [f"s3://b/{rng.randrange(400):03}.mp4" for _ in range(300)]
        collector = Collector()
        for uri in named:
            collector.add(Input(uri))
        with store.committing():
            found = History(store, collector.done(), CUTTING, retry_failed=retry_failed)
        again = {"failed"} if retry_failed else set()
        assert [i.uri for i in found.todo] == sorted(uri for uri in set(named) if newest.get(uri) in {None, *again})
        done = Counter(newest[uri] for uri in set(named) if uri in newest and newest[uri] not in again)
        assert {state: n for state, n in found.done_before.items() if n} == done
