"""The index of sources that is kept is the one that a look at the whole table makes, whatever happened since."""

import random
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from reelwright.curation.keys.sorted_keys import PARTS
from reelwright.curation.store import Store, known_index, known_kept
from reelwright.curation.store.known_index import KnownIndex
from reelwright.curation.store.known_kept import STATE_FILE, up_to_date
from reelwright.curation.store.known_rows import KINDS
from reelwright.curation.store.known_shelf import FOLDER


@pytest.fixture(autouse=True)
def every_store_is_large(monkeypatch):
    monkeypatch.setattr(known_kept, "KEPT_FROM", 0)


def rows(numbers: list[int]) -> list[dict]:
    return [
        {
            "uri": f"s3://b/{n % 50}.mp4" if n % 4 else f"/in/{n % 50}.mp4", "source_id": f"id-{n % 9}",
            "md5": None if n % 11 == 0 else f"{n % 40:032x}", "state": ("ok", "ok", "duplicate", "failed")[n % 4],
            "duplicate_of": f"s3://b/{n % 7}.mp4" if n % 4 == 2 else None, "num_clips": n % 2,
            "cutting_fingerprint": f"cut-{n % 3}", "no_clip_reason": f"why-{n % 2}", "mtime_ns": n,
            "caption": f"a cat {n % 5}" if n % 2 else None, "bytes": 10 * n,
        }
        for n in numbers
    ]  # fmt: skip


def described(index: KnownIndex) -> dict:
    """All that an index says, in its own words."""

    def one(name: str, record: np.void) -> tuple:
        values = dict(zip(KINDS[name].names, record.tolist(), strict=True))
        for key, words in (("cutting", index.cuttings), ("reason", index.reasons)):
            if key in values:
                values[key] = [None, *words.texts][values[key]]
        return tuple(values.values())

    return {name: sorted((one(name, record) for n in range(PARTS) for record in index.part(name, n)), key=str)
            for name in KINDS}  # fmt: skip


def shared(store: Store) -> set[int]:
    found = store.dataset("sources").to_table(["uri"], with_row_id=True).to_pylist()
    uris = [row["uri"] for row in found]
    return {row["_rowid"] for row in found if uris.count(row["uri"]) > 1}


@pytest.mark.parametrize("looked_up", [0, 10_000], ids=["by parts", "one by one"])
@pytest.mark.parametrize("seed", range(4))
def test_an_index_that_is_kept_up_is_one_that_is_new(tmp_path, monkeypatch, seed, looked_up):
    monkeypatch.setattr(known_index, "LOOKED_UP", looked_up)
    monkeypatch.setattr(known_index, "MOST_SEGMENTS", 3)
    store, rng = Store.open(tmp_path / "store", create=True), random.Random(seed)

    def change() -> None:
        what, some = rng.randrange(5), rng.sample(range(200), rng.randint(1, 12))
        uris = sorted({row["uri"] for row in rows(some)})
        if what < 2:
            store.append("sources", rows(some))
        elif what == 2:
            store.delete("sources", f"uri IN ({', '.join(map(repr, uris))})")
        elif what == 3:
            values = pa.table({"uri": uris, "caption": [f"a dog {rng.random()}" for _ in uris]})
            store.merge("sources", values, on="uri")
        else:
            store.compact()

    with store.committing():
        for _ in range(12):
            for _ in range(rng.randint(0, 3)):
                change()
            kept, dataset = up_to_date(store)
            fresh = KnownIndex()
            fresh.update(dataset)
            assert described(kept) == described(fresh)
            assert shared(store) <= set(kept.several.tolist())
            assert shared(store) == set(fresh.several.tolist())
    assert len(kept.segments) <= 3
    names = {f"{segment.name}.{key}" for segment in kept.segments for key in KINDS}
    assert {path.name for path in (tmp_path / "store" / FOLDER).iterdir()} == names | {STATE_FILE}


def test_an_index_that_is_lost_or_broken_is_made_again(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    store.append("sources", rows(list(range(60))))
    with store.committing():
        first = described(up_to_date(store)[0])
        for ending in [*KINDS, STATE_FILE]:
            for size in (None, 0, 1000):
                (path,) = (tmp_path / "store" / FOLDER).glob(f"*{ending}")
                whole = path.read_bytes()
                path.unlink()
                if size is not None:
                    path.write_bytes(whole[:size])
                assert described(up_to_date(store)[0]) == first


def test_the_index_of_a_table_that_was_there_before_is_not_taken(tmp_path):
    uri, seen = tmp_path / "store", []
    for numbers in ([1, 2, 3], [5, 6, 7]):
        store = Store.open(uri, create=True)
        store.append("sources", rows(numbers))
        with store.committing():
            seen.append({record[-2] for n in range(PARTS) for record in up_to_date(store)[0].part("md5s", n).tolist()})
            assert len(up_to_date(store)[0].all("uris")) == 3
            keys = {f"{k['lower']:x}" for k in up_to_date(store)[0].all("md5s")}
        assert keys == {f"{n:x}" for n in numbers}
        (uri / "sources.lance").rename(tmp_path / f"away-{numbers[0]}")
        from reelwright.curation.store import datasets

        datasets.create_dataset(f"{uri}/sources.lance", "sources", None)


def test_old_versions_may_be_cleaned_up(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    store.append("sources", rows([1, 2, 3]))
    with store.committing():
        up_to_date(store)
    store.append("sources", rows([4, 5]))
    store.delete_old_versions(timedelta(0))
    with store.committing():
        assert len(up_to_date(store)[0].all("uris")) == 5


def test_only_the_process_that_commits_keeps_an_index(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    store.append("sources", rows([1, 2, 3]))
    assert len(up_to_date(store)[0].all("uris")) == 3
    assert not (tmp_path / "store" / FOLDER).exists()
    with store.committing():
        up_to_date(store)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store" / FOLDER).iterdir()}
    store.append("sources", rows([5]))
    assert len(up_to_date(store)[0].all("uris")) == 4, "a plan reads it, and what came since"
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store" / FOLDER).iterdir()} == before


def test_a_disk_without_room_for_an_index_stops_no_run(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "store", create=True)
    store.append("sources", rows([1, 2, 3]))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(known_kept, "keep", full)
    with store.committing():
        assert len(up_to_date(store)[0].all("uris")) == 3
