"""Results that are noted are not lost, and reach `clips` in few merges."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store import journal as journal_module
from reelwright.curation.store.journal import Journal
from reelwright.curation.store.schema import field
from tests.curation.store.conftest import add_source

CLIPS = 400
RUN = """
import sys
from reelwright.curation.store import Store
from reelwright.curation.store.journal import Journal
from tests.curation.store.test_journal import CLIPS, results
store = Store.open(sys.argv[1])
with store.committing():
    journal = Journal(store)
    ids = sorted(store.read("clips", ["clip_id"]).column(0).to_pylist())
    for n in range(CLIPS):
        journal.add("words", results({ids[n]: f"word {n}"}), merge=n % 4 == 3)
        print(n, flush=True)
"""


def results(words: dict[str, str]) -> pa.Table:
    """As an annotator's: clip_id, its column and its fingerprint."""
    word = field("word", pa.string(), "a word", computed_by="words")
    schema = pa.schema([pa.field("clip_id", pa.string()), word, pa.field("words_fingerprint", pa.string())])
    return pa.table([list(words), list(words.values()), ["f"] * len(words)], schema=schema)


def words_of(store: Store) -> dict[str, str]:
    rows = store.read("clips", ["clip_id", "word"], filter="word IS NOT NULL").to_pylist()
    return {r["clip_id"]: r["word"] for r in rows}


def bytes_of(store: Store, table: str) -> int:
    return sum(p.stat().st_size for p in Path(store.table_uri(table)).rglob("*") if p.is_file())


def test_the_result_that_was_noted_last_counts_whatever_the_clock_of_an_earlier_host_said(store, monkeypatch):
    class AnHourAhead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=1)

    (clip,) = add_source(store, "aa", 1)
    journal = Journal(store)
    with monkeypatch.context() as there:
        there.setattr(journal_module, "datetime", AnHourAhead)
        journal.add("words", results({clip: "earlier"}))
    journal.add("words", results({clip: "later"}))
    journal.merge()
    assert words_of(store) == {clip: "later"}


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.02, 0.04])
@pytest.mark.every(2)
def test_killed_at_any_moment_every_result_that_was_noted_is_merged(store: Store, delay_s: float) -> None:
    ids = add_source(store, "aa", CLIPS)
    run = subprocess.Popen([sys.executable, "-c", RUN, store.uri], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert run.stdout is not None
    for _ in range(9):
        finished = int(run.stdout.readline())
    time.sleep(delay_s)
    run.send_signal(signal.SIGKILL)
    finished += len(run.stdout.readlines())
    run.wait()
    Journal(store).merge()
    assert store.count("journal") == 0
    found = words_of(store)
    assert found == {clip_id: f"word {n}" for n, clip_id in enumerate(ids[: len(found)])}
    assert len(found) >= finished + 1


def test_noting_writes_the_results_and_nothing_else(store: Store) -> None:
    ids = add_source(store, "aa", 100)
    Journal(store).add("words", results({ids[0]: "first"}), merge=True)
    version, size = store.dataset("clips").version, bytes_of(store, "clips")
    noting = Journal(store)
    for n in range(1, 20):
        noting.add("words", results({ids[n]: f"word {n}"}))
    assert (store.dataset("clips").version, bytes_of(store, "clips")) == (version, size)
    assert words_of(store) == {ids[0]: "first"}
    assert noting.merge() == 19
    assert store.dataset("clips").version == version + 1
    assert words_of(store) == {ids[0]: "first"} | {ids[n]: f"word {n}" for n in range(1, 20)}
    assert store.count("journal") == 0
    assert bytes_of(store, "journal") < 5_000, "no old versions stay"


def test_makers_are_merged_apart_each_once_it_has_enough(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = add_source(store, "aa", 10)
    other = results({ids[9]: "x"}).rename_columns(["clip_id", "other", "others_fingerprint"])
    monkeypatch.setattr(journal_module, "MERGE_ROWS", 3)
    noting = Journal(store)
    noting.add("others", other)
    noting.add("words", results({ids[0]: "a", ids[1]: "b"}))
    assert "word" not in store.schema("clips").names
    noting.add("words", results({ids[2]: "c"}))
    assert words_of(store) == {ids[0]: "a", ids[1]: "b", ids[2]: "c"}
    assert store.read("journal", ["maker", "num_rows"]).to_pylist() == [{"maker": "others", "num_rows": 1}]
    assert Journal(store).merge() == 1
    assert store.read("clips", ["other"], filter="other IS NOT NULL").column(0).to_pylist() == ["x"]


def test_the_last_result_of_a_clip_counts_and_clips_that_are_gone_are_left_out(store: Store) -> None:
    ids = add_source(store, "aa", 3)
    noting = Journal(store)
    for word in ("old", "new"):
        noting.add("words", results({ids[0]: word, "gone": word}))
    noting.merge()
    assert words_of(store) == {ids[0]: "new"}
    assert store.count("clips") == 3


def test_results_that_were_merged_and_not_forgotten_are_merged_again(store: Store) -> None:
    ids = add_source(store, "aa", 3)
    Journal(store).add("words", results({ids[0]: "a"}))
    store.merge("clips", results({ids[0]: "a"}), on="clip_id")  # as far as a run came before it died
    assert Journal(store).merge() == 1
    assert words_of(store) == {ids[0]: "a"}
    assert Journal(store).merge() == 0
    with pytest.raises(StoreError, match="rows of journal come from"):
        store.append("journal", [{"maker": "words"}])
