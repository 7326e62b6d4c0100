"""What is left after kill -9, who may commit, and what clean-up may delete."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from reelwright.curation.store import Store, StoreError
from tests.curation.store.conftest import add_source, fake_mp4

RUN = """
import sys, time
from reelwright.curation.store import Store
from tests.curation.store.conftest import add_source
store = Store.open(sys.argv[1], create=True)
with store.committing():
    for n in range(10_000):
        add_source(store, f"{sys.argv[2]}{n}", 3)
        print(n, flush=True)
"""


def start(uri: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", RUN, uri, name], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05])
def test_killed_at_any_moment_it_opens_and_holds_every_finished_source(store: Store, delay_s: float) -> None:
    run = start(store.uri, "s")
    assert run.stdout is not None
    for _ in range(3):
        finished = int(run.stdout.readline())
    time.sleep(delay_s)
    run.send_signal(signal.SIGKILL)
    run.wait()
    after = Store.open(store.uri)
    after.remove_orphans()
    sources = after.read("sources").column("md5").to_pylist()
    assert len(sources) >= finished + 1
    assert not after.orphans()
    assert after.count("clips") == after.count("media") == 3 * len(sources)
    ids = after.read("clips", ["clip_id"]).column(0).to_pylist()
    assert list(after.read_media(ids)) == [(i, fake_mp4(i)) for i in ids]
    add_source(after, "again", 2)  # the dead process's lock is taken over


def test_a_creation_that_was_killed_is_completed(tmp_path: Path) -> None:
    from reelwright.curation.store import datasets

    datasets.create_dataset(f"{tmp_path}/store/shots.lance", "shots", None)
    with pytest.raises(StoreError, match="there is no store"):
        Store.open(tmp_path / "store")
    assert Store.open(tmp_path / "store", create=True).count("sources") == 0


def test_orphans_are_rows_of_sources_that_never_became_ok(store: Store) -> None:
    add_source(store, "good", 4)
    lost = add_source(store, "lost", 5, finish=False)
    failed = add_source(store, "failed", 2, finish=False)
    store.append("sources", [{"uri": "f", "md5": "failed", "state": "failed"}])
    store.append("shots", [{"source_md5": "only-shots"}])
    found = store.orphans()
    assert found.source_md5s == ["failed", "lost", "only-shots"]
    assert found.clip_ids == sorted(lost + failed)
    assert (found.clips, found.media, found.shots) == (7, 7, 3)
    assert store.remove_orphans() == found
    assert not store.orphans()
    assert store.count("clips") == store.count("media") == 4
    assert store.count("shots") == 1


def test_media_without_clips_are_orphans_too(store: Store) -> None:
    add_source(store, "good", 1)
    store.commit_media([store.write_media(["nobody"], [b"x"])])
    assert store.remove_orphans().clip_ids == ["nobody"]
    assert store.read("media", ["clip_id"]).column(0).to_pylist() == ["good-000"]


def test_clean_up_deletes_uncommitted_files_and_keeps_the_rest(store: Store) -> None:
    ids = add_source(store, "good", 3)
    store.write_media(["lost"], [fake_mp4("lost", 400_000)])

    def size() -> int:
        return sum(p.stat().st_size for p in Path(store.uri).rglob("*") if p.is_file())

    before = size()
    assert store.delete_old_versions(timedelta(0)) >= 400_000
    assert size() <= before - 400_000
    assert list(store.read_media(ids)) == [(i, fake_mp4(i)) for i in ids]


def test_clean_up_refuses_in_the_middle_of_a_run(store: Store) -> None:
    with store.committing(), pytest.raises(StoreError, match="in the middle of a run"):
        store.delete_old_versions()


def test_a_second_committing_process_is_refused_in_one_sentence(store: Store) -> None:
    run = start(store.uri, "s")
    assert run.stdout is not None
    run.stdout.readline()
    try:
        with pytest.raises(StoreError, match=rf"process {run.pid} on .* has been writing to this store since"):
            store.append("clips", [{"clip_id": "x"}])
        assert store.count("clips") >= 3, "reading needs no lock"
        store.snapshots.create("while-it-runs", "SELECT clip_id FROM clips")
    finally:
        run.kill()
        run.wait()
    store.append("clips", [{"clip_id": "x"}])


def lock_file(store: Store) -> Path:
    path = Path(store.uri) / "_locks" / "curation.json"
    path.parent.mkdir(exist_ok=True)
    return path


@pytest.mark.parametrize(
    "owner",
    [
        {"pid": 2**22 + 1, "host": socket.gethostname(), "time": 0},
        {"pid": os.getpid(), "host": socket.gethostname(), "born": "1"},
        {},
    ],
    ids=["dead pid", "pid used again", "empty file"],
)  # fmt: skip
def test_a_dead_process_s_lock_is_taken_over(store: Store, owner: dict[str, object]) -> None:
    lock_file(store).write_text(json.dumps(owner))
    store.append("clips", [{"clip_id": "x"}])
    assert not lock_file(store).exists()


def test_another_machine_s_lock_is_respected_and_its_file_named(store: Store) -> None:
    lock_file(store).write_text(json.dumps({"pid": 1, "host": "elsewhere", "time": 0}))
    with pytest.raises(StoreError, match=r"on elsewhere .* delete .*curation\.json"):
        store.append("clips", [{"clip_id": "x"}])
