from __future__ import annotations

import multiprocessing
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.maintenance import merge_media
from tests.curation.store.conftest import fake_mp4


def write_on_a_worker(uri: str, ids: list[str]) -> str:
    return Store(uri).write_media(ids, [fake_mp4(i) for i in ids])


def ids_of(fragment: int) -> list[str]:
    return [f"clip-{fragment}-{i}" for i in range(7)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve fragments, written by two other processes, committed by this one in two commits."""
    path = tmp_path_factory.mktemp("media") / "store"
    store = Store.open(path, create=True)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        fragments = pool.starmap(write_on_a_worker, [(store.uri, ids_of(f)) for f in range(12)])
    assert store.count("media") == 0, "a worker committed"
    store.commit_media(fragments[:5])
    store.commit_media(fragments[5:])
    return path


@pytest.fixture
def filled(written: Path, tmp_path: Path) -> Store:
    """A copy of that store: Lance datasets may be moved."""
    shutil.copytree(written, tmp_path / "store")
    return Store.open(tmp_path / "store")


def assert_all_there(store: Store, *, batch_bytes: int = 2**20) -> None:
    ids = [i for f in range(12) for i in ids_of(f)]
    asked = ids[::-1] + ids[3:9] + ids[:1]
    assert list(store.read_media(asked, batch_bytes)) == [(i, fake_mp4(i)) for i in asked]


def test_bytes_come_back_from_many_fragments_in_the_order_asked_for(filled: Store) -> None:
    assert len(filled.dataset("media").get_fragments()) == 12
    assert_all_there(filled)
    assert_all_there(filled, batch_bytes=1)


def test_compaction_leaves_media_files_alone_and_readable(filled: Store) -> None:
    before = {f.path for fragment in filled.dataset("media").get_fragments() for f in fragment.data_files()}
    filled.compact()
    after = {f.path for fragment in filled.dataset("media").get_fragments() for f in fragment.data_files()}
    assert before == after
    assert_all_there(filled)


def test_media_files_merge_when_told_and_stay_readable(filled: Store) -> None:
    merge_media(filled)
    assert len(filled.dataset("media").get_fragments()) == 1
    filled.delete_old_versions(timedelta(0))
    assert_all_there(filled)


def test_a_media_file_moves_once_most_of_it_is_deleted(filled: Store) -> None:
    kept = ids_of(3)[0]
    filled.delete("media", f"clip_id LIKE 'clip-3-%' AND clip_id <> '{kept}'")
    filled.compact()
    filled.delete_old_versions(timedelta(0))
    assert filled.count("media") == 11 * 7 + 1
    assert list(filled.read_media([kept, "clip-4-0"])) == [(kept, fake_mp4(kept)), ("clip-4-0", fake_mp4("clip-4-0"))]
    with pytest.raises(StoreError, match="clip clip-3-1 has no media"):
        list(filled.read_media(["clip-3-1"]))


def test_small_large_and_empty_files_in_one_batch(store: Store) -> None:
    sizes = {"empty": 0, "one": 1, "inline": 60_000, "packed": 300_000, "large": 6_000_000, "quo'te": 10}
    store.commit_media([store.write_media(list(sizes), [fake_mp4(i, n) for i, n in sizes.items()])])
    assert {i: len(b) for i, b in store.read_media(sizes)} == sizes
    assert list(store.read_media(sizes)) == [(i, fake_mp4(i, n)) for i, n in sizes.items()]


def test_reading_metadata_reads_no_bytes_of_clips(store: Store) -> None:
    ids = [f"c{i}" for i in range(8)]
    store.commit_media([store.write_media(ids, [fake_mp4(i, 500_000) for i in ids])])
    dataset = Store.open(store.uri).dataset("media")
    dataset.io_stats_incremental()
    assert store.read("media").column_names == ["clip_id", "size"]
    dataset.to_table(columns=["clip_id", "size"])
    assert dataset.io_stats_incremental().read_bytes < 100_000
    with pytest.raises(StoreError, match="read by clip_id"):
        store.read("media", ["mp4"])


def test_mistakes_are_explained(store: Store) -> None:
    with pytest.raises(StoreError, match="2 clip ids came with 1 mp4"):
        store.write_media(["a", "b"], [b""])
    with pytest.raises(StoreError, match=r"commit them with Store\.commit_media"):
        store.append("media", [{"clip_id": "a"}])
    store.commit_media([store.write_media([], [])])
    assert list(store.read_media([])) == []
