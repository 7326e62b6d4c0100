"""Merging what many commits leave: the same rows in fewer files, whenever it is stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reelwright.curation.store import Store
from reelwright.curation.store.small_files import MANY
from tests.curation.store.conftest import add_source, fake_mp4


def files(store: Store, table: str) -> int:
    return len(store.dataset(table).get_fragments())


def test_many_small_files_become_one_and_hold_the_same(store: Store) -> None:
    ids = add_source(store, "s", 3)
    snapshot = store.snapshots.create("before", "select clip_id from clips")
    store.append("failures", [{"uri": "f", "stage": "scan", "error": "x"}])
    for n in range(MANY):
        store.append("clips", [{"clip_id": f"more-{n}", "source_md5": "s", "num_frames": n}])
    store.delete("clips", "clip_id = 'more-3'")
    rows, media = store.read("clips").sort_by("clip_id"), files(store, "media")
    assert store.merge_small_files() == ["clips"]
    assert files(store, "clips") == 1
    assert (files(store, "failures"), files(store, "media")) == (1, media)
    assert store.read("clips").sort_by("clip_id") == rows
    assert store.read("clips", ["num_frames"], "clip_id = 'more-7'").column(0).to_pylist() == [7]
    assert list(store.read_media(ids)) == [(i, fake_mp4(i)) for i in ids]
    assert store.snapshots.verify("before").is_sound
    assert snapshot.num_clips == 3
    assert store.merge_small_files() == []


RUN = """
import sys
from reelwright.curation.store import Store, small_files
small_files.MANY = 3
store = Store.open(sys.argv[1])
with store.committing():
    for n in range(10_000):
        store.append("clips", [{"clip_id": f"{n}", "source_md5": "s"}])
        print(n, flush=True)
        store.merge_small_files()
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.03])
def test_a_merge_that_is_killed_has_happened_or_has_not(store: Store, delay_s: float) -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN, store.uri], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert run.stdout is not None
    finished = [int(run.stdout.readline()) for _ in range(5)][-1]
    time.sleep(delay_s)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    ids = sorted(int(i) for i in Store.open(store.uri).read("clips", ["clip_id"]).column(0).to_pylist())
    assert ids == list(range(len(ids)))
    assert len(ids) > finished
    store.merge_small_files()
    assert store.count("clips") == len(ids)
