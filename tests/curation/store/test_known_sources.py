"""Sources found by address, MD5 and id without being held: the same rows that a look at the whole table finds."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from reelwright.curation.keys.hashing import Hasher, halves
from reelwright.curation.keys.sorted_keys import KEY, match, shares, sort
from reelwright.curation.store import Store
from reelwright.curation.store.known_sources import ROW, KnownSources

COLUMNS = ["uri", "md5", "source_id", "state", "ingested_at", "caption"]
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path) -> Store:
    """Sources in several files, some rows deleted: files with several rows, duplicates, ids."""
    store, rng = Store.open(tmp_path / "store", create=True), np.random.default_rng(0)
    for part in range(3):
        numbers = rng.integers(0, 60, 40).tolist()
        store.append("sources", [
            {
                "uri": f"s3://b/{n}.mp4", "md5": None if n % 7 == 0 else f"md5-{n % 20}",
                "source_id": f"id-{n % 5}" if n % 3 == 0 else f"s3://b/{n}.mp4",
                "state": ("ok", "duplicate", "failed")[n % 3], "caption": f"a cat {n}" if n % 2 else None,
                "duplicate_of": f"s3://b/{n - 1}.mp4" if n % 3 == 1 else None,
                "ingested_at": BEGAN + timedelta(seconds=40 * part + at),
            }
            for at, n in enumerate(numbers)
        ])  # fmt: skip
    store.delete("sources", "uri IN ('s3://b/3.mp4', 's3://b/10.mp4')")
    return store


def test_rows_are_found_by_each_key_as_a_look_at_all_of_them_finds_them(store):
    known, all_rows = KnownSources(store, COLUMNS), store.read("sources", COLUMNS).to_pylist()

    def wanted(key: str, value: str, *states: str) -> list[dict]:
        rows = [r for r in all_rows if r[key] == value and (key != "source_id" or r["source_id"] != r["uri"])]
        return sorted((r for r in rows if r["state"] in states), key=lambda r: r["ingested_at"])

    def found(ids: np.ndarray) -> list[dict]:
        rows = sorted(known.rows(ids), key=lambda r: r["ingested_at"])
        assert [r.pop(ROW) for r in rows] == sorted(ids.tolist()), "the later row has the larger id"
        return rows

    for n in range(70):
        assert found(known.with_uri(f"s3://b/{n}.mp4")) == wanted("uri", f"s3://b/{n}.mp4", "ok", "duplicate", "failed")
        assert found(known.with_md5(f"md5-{n}")) == wanted("md5", f"md5-{n}", "ok", "duplicate")
        assert found(known.good(f"md5-{n}")) == wanted("md5", f"md5-{n}", "ok")
        assert found(known.with_id(f"id-{n}")) == wanted("source_id", f"id-{n}", "ok", "duplicate")
    assert found(known.with_id("s3://b/1.mp4")) == [], "an address is nobody's id"
    times = [r["uri"] for r in all_rows]
    assert {r["uri"] for r in known.rows(known.several)} == {uri for uri in times if times.count(uri) > 1}


HASH = "0123456789abcdef00000000deadbeef"


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("texts", [
    ["", "a", "s3://bucket/ein längerer Name.mp4", "\N{CLAPPER BOARD}"], [HASH, "f" * 32, "0" * 31 + "1"],
    ["a", HASH, HASH.upper(), "x" * 32],
], ids=["addresses", "hashes", "both"])  # fmt: skip
def test_one_text_has_the_halves_that_many_have(texts, kind):
    upper, lower = Hasher()(pa.array(["b" * 32, *texts], kind)[1:])  # a slice of an array that begins earlier
    assert [halves(text) for text in texts] == list(zip(upper, lower, strict=True))
    assert len(set(zip(upper, lower, strict=True))) == len(texts)


def test_a_hash_stands_for_its_digits():
    assert halves(HASH) == (0x0123456789ABCDEF, 0x00000000DEADBEEF)


def test_texts_that_share_half_a_hash_are_told_apart():
    known = np.array([(5, 1), (5, 2), (5, 3), (9, 1)], KEY)
    asked = np.array([(1, 1), (5, 1), (5, 3), (5, 7)], KEY)
    assert match(asked, known).tolist() == [-1, 0, 2, -1]
    assert not shares(known).any()
    assert sort(known[::-1]).tolist() == known.tolist()


def test_an_empty_store_knows_nothing(tmp_path):
    known = KnownSources(Store.open(tmp_path / "store", create=True), COLUMNS)
    assert not len(known.part(0))
    assert known.rows(known.with_md5("m")) == known.rows(known.with_uri("u")) == []
