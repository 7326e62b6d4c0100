"""The index of sources and the note of the last run lie beside remote tables too; a driver elsewhere takes them up."""

import hashlib
from typing import Any

from reelwright.curation.store import Store, known_kept
from reelwright.curation.store import leftovers as kept
from reelwright.curation.store.known_kept import up_to_date
from reelwright.curation.store.known_rows import Records
from reelwright.curation.store.leftovers import leftovers, note_finished


def refuse(*_: Any) -> None:
    raise AssertionError("all rows were looked at")


def row(number: int) -> dict[str, Any]:
    md5 = hashlib.md5(b"%d" % number).hexdigest()
    return {"uri": f"s3://b/{number}.mp4", "source_id": str(number), "md5": md5, "state": "ok"}


def test_an_index_beside_remote_tables_is_read_by_the_next_driver(object_store, monkeypatch):
    monkeypatch.setattr(known_kept, "KEPT_FROM", 0)
    address = f"{object_store.bucket('known')}/store"
    store = Store.open(address, create=True)
    store.append("sources", [row(n) for n in range(5)])
    store.append("clips", [{"clip_id": str(n), "source_md5": row(n)["md5"]} for n in range(5)])
    with store.committing():
        note_finished(store)
    store.append("clips", [{"clip_id": "lost", "source_md5": "0" * 32}])
    elsewhere = Store.open(address)
    with monkeypatch.context() as patched, elsewhere.committing():
        patched.setattr(Records, "add", refuse)
        patched.setattr(kept, "leftovers_of_all", refuse)
        index, _ = up_to_date(elsewhere)
        assert {int(number) for number in index.all("uris")["row"]} == set(range(5))
        assert leftovers(elsewhere, index).clip_ids == ["lost"]
    for number in range(5, 20):  # segments are merged, and those before them go
        store.append("sources", [row(number)])
        with store.committing():
            index, _ = up_to_date(store)
    names = {path.rpartition("/")[2] for path in object_store.files.ls("known/store/_known")}
    assert len(index.all("uris")) == 20
    assert len(names) == 1 + 4 * len(index.segments)
    object_store.files.rm("known/store/_known", recursive=True)
    with store.committing():
        assert len(up_to_date(store)[0].all("uris")) == 20
