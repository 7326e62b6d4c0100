"""The app over a store that others write to, compact and clean up while people look and decide."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reelwright.curation.store import Store
from tests.pipelines.app.made import CLIPS, clip_id, make_store, served

pytestmark = pytest.mark.waits
ROUNDS = 2


def curate(store: Store, mp4: bytes, i: int) -> None:
    """Do what a run of curation does: a column is merged, and a clip comes."""
    ids = [clip_id(j) for j in range(i % 3, CLIPS, 3)]
    scores = pa.array([float(i)] * len(ids), pa.float32())
    with store.committing():
        store.merge("clips", pa.table({"clip_id": ids, "blur_score": scores}), on="clip_id")
        store.commit_media([store.write_media([f"new{i}"], [mp4])])
        store.append("clips", [{"clip_id": f"new{i}", "source_md5": "source1", "duration_s": 90.0 + i, "width": 16}])


def change(path: Path, over: threading.Event, failed: list[BaseException]) -> None:
    """Curate, merge files and delete old ones, in turns."""
    store = Store.open(path)
    mp4 = next(iter(store.read_media([clip_id(0)])))[1]
    try:
        for i in range(ROUNDS):
            curate(store, mp4, i)
            store.cleanup(timedelta(0))
    except BaseException as error:
        failed.append(error)
    finally:
        over.set()


def test_pages_media_and_decisions_hold_while_a_store_is_curated_compacted_and_cleaned_up(tmp_path):
    path = tmp_path / "store"
    make_store(path)
    decided: dict[str, str] = {}
    with served(path) as app:
        whole = {n: app.ask(f"/media/{clip_id(n)}.mp4")[2] for n in (0, 1)}
        over, failed = threading.Event(), []
        writer = threading.Thread(target=change, args=(path, over, failed))
        writer.start()
        turn = 0
        while not over.is_set() or turn < 3:
            view: dict[str, Any] = {"ranges": {"duration_s": [2.0, None]}, "sort": "duration_s", "fold": turn % 2 == 0}
            found = app.call("page", view=view, limit=100, facets=["blur_score", "camera_motion"])
            lengths = [row["duration_s"] for row in found["rows"]]
            assert lengths == sorted(lengths)
            assert app.ask(f"/media/{clip_id(turn % 2)}.mp4")[2] == whole[turn % 2]
            assert app.ask(f"/thumb/{clip_id(turn % CLIPS)}.jpg")[0] == 200
            assert app.call("map")["inside"] == 36
            assert app.call("clip", clip_id=clip_id(3))["clip_id"] == clip_id(3)
            one, action = clip_id(turn % CLIPS), ("keep", "drop")[(turn + turn // CLIPS) % 2]
            assert app.call("decide", action=action, reviewer="ann", clip_ids=[one])["changed"] == 1
            decided[one] = action
            turn += 1
        writer.join()
        assert failed == []
        kept = [one for one, action in decided.items() if action == "keep"]
        assert app.call("page", view={"values": {"review_verdict": ["keep"]}})["shown"] == len(kept)
        assert (
            app.call("page", view={"sort": "duration_s", "descending": True})["rows"][0]["clip_id"]
            == f"new{ROUNDS - 1}"
        )
    rows = Store.open(path).read("clips", ["clip_id", "review_verdict"], "review_verdict IS NOT NULL").to_pylist()
    assert {row["clip_id"]: row["review_verdict"] for row in rows} == decided


def test_reel_cleanup_beside_a_running_app_takes_nothing_that_it_shows(tmp_path, reel):
    path = tmp_path / "store"
    make_store(path)
    with served(path) as app:
        before = app.call("page", limit=100)
        Store.open(path).merge("clips", pa.table({"clip_id": [clip_id(2)], "density": pa.array([9.0], pa.float32())}),
                               on="clip_id")  # fmt: skip
        done = reel("cleanup", "--store", path, "--keep-hours", "0")
        assert done.returncode == 0, done.stderr
        after = app.call("page", limit=100)
        assert after["rows"] == before["rows"]
        assert app.ask(f"/media/{clip_id(5)}.mp4", range="bytes=0-99")[0] == 206
        assert app.call("page", view={"ranges": {"density": [9.0, 9.0]}})["shown"] == 1
