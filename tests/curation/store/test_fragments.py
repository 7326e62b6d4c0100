"""A file that a full disk cut short is not committed: what was there before stays readable."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from lance.fragment import FragmentMetadata, write_fragments
from lance.optimize import Compaction

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store import fragments as fragment_files

IDS = [f"{i:032x}" for i in range(3)]


def newest(store: Store, table: str, pattern: str = "*.lance") -> Path:
    return max(Path(store.table_uri(table), "data").rglob(pattern), key=lambda p: p.stat().st_mtime_ns)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


class CutShort:
    """A merge whose file loses its last byte on the way."""

    def __init__(self, store: Store, builder) -> None:
        self.store, self.builder = store, builder

    def execute_uncommitted(self, rows):
        done = self.builder.execute_uncommitted(rows)
        cut_short(newest(self.store, "sources"))
        return done


@pytest.fixture
def store(tmp_path) -> Store:
    one = Store.open(tmp_path / "store", create=True)
    one.append("sources", [{"uri": "/a", "state": "ok", "bytes": 1}])
    one.append("sources", [{"uri": "/b", "state": "ok", "bytes": 2}])
    return one


def check_as_before(store: Store, version: int) -> None:
    assert store.dataset("sources").version == version
    assert sorted(store.read("sources", ["uri"]).column(0).to_pylist()) == ["/a", "/b"]


def test_clips(store):
    mp4s = [b"small", b"x" * 70_000, b"y" * 90_000]
    kept = store.write_media(IDS, mp4s)
    store.commit_media([kept])
    lost = store.write_media(["f" * 32], [b"z" * 80_000])
    cut_short(newest(store, "media"))
    with pytest.raises(StoreError, match="no room is left to write to the store at .*/store; free some"):
        store.commit_media([lost])
    assert dict(store.read_media(IDS)) == dict(zip(IDS, mp4s, strict=True))


def test_the_files_beside_a_column_s_are_measured_as_well(store):
    """Blobs of more than 64 KiB are in a file of their own; its length is that of all it holds."""
    (fragment,) = json.loads(store.write_media(IDS, [b"small", b"x" * 65_536, b"y" * 65_537]))
    media = store.table_uri("media"), [FragmentMetadata.from_json(json.dumps(fragment))]
    assert newest(store, "media", "*.blob").stat().st_size == 65_537
    fragment_files.refuse_short(*media, [5, 65_536, 65_537])
    cut_short(newest(store, "media", "*.blob"))
    with pytest.raises(OSError, match="No space left"):
        fragment_files.refuse_short(*media, [5, 65_536, 65_537])


def test_rows(store):
    dataset = store.dataset("sources")
    version = dataset.version
    rows = dataset.to_table().slice(0, 1)
    fragments = write_fragments(rows, dataset, mode="append")
    cut_short(newest(store, "sources"))
    with pytest.raises(OSError, match="No space left"):
        fragment_files.append(dataset, fragments)
    check_as_before(store, version)


def test_a_merge(store):
    dataset = store.dataset("sources")
    version = dataset.version
    rows = pa.table({"uri": ["/a"], "bytes": pa.array([3], pa.int64())})
    merge = dataset.merge_insert("uri").when_matched_update_all().write_mode("rewrite_columns")
    with pytest.raises(OSError, match="No space left"):
        fragment_files.merge(dataset, CutShort(store, merge), rows)
    check_as_before(store, version)
    assert store.merge("sources", rows, on="uri") == 1


def test_a_compaction(store, monkeypatch):
    dataset = store.dataset("sources")
    version = dataset.version
    plan = Compaction.plan

    class Planned:
        def __init__(self, tasks) -> None:
            self.tasks = tasks

    class Task:
        def __init__(self, task) -> None:
            self.task = task

        def execute(self, dataset):
            done = self.task.execute(dataset)
            cut_short(newest(store, "sources"))
            return done

    monkeypatch.setattr(Compaction, "plan", staticmethod(lambda *a: Planned([Task(t) for t in plan(*a).tasks])))
    with pytest.raises(OSError, match="No space left"):
        fragment_files.compact(dataset, target_rows=100, deleted_share=0.1)
    check_as_before(store, version)
    monkeypatch.undo()
    store.compact()
    assert len(store.dataset("sources").get_fragments()) == 1
    assert store.count("sources") == 2
