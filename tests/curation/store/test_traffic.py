"""Requests and bytes of stores are counted as a server sees them, whichever thread and handle made them."""

import gc
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from reelwright.curation.store import Store
from reelwright.curation.store.traffic import since, totals
from tests.pipelines.object_store import Line, ObjectStore


@pytest.fixture(scope="module")
def remote(s3: ObjectStore) -> Store:
    """A store of these tests alone: others count requests of theirs, which grow with its versions."""
    s3.bucket("traffic")
    return Store.open("s3://traffic/store", create=True)


def between(log: list[Line]) -> dict[str, int]:
    """What the server saw, without the beginning and end of uploads in parts."""
    parts = [line for line in log if not (line.method == "POST" and "upload" in line.target)]
    return {
        "requests": len(parts),
        "write_requests": sum(line.method == "PUT" for line in parts),
        "bytes_read": sum(line.received for line in parts if line.method == "GET" and "list-type" not in line.target),
        "bytes_written": sum(line.sent for line in parts),
    }


@pytest.mark.parametrize("sizes", [(1000,), (3 << 20, 3 << 20, 4 << 20), (6 << 20, 100)], ids=["one", "parts", "own"])
def test_an_upload_of_clips_counts_its_opening_its_parts_and_its_commit(s3, remote, sizes):
    ids = [os.urandom(12).hex() for _ in sizes]
    s3.clear_log()
    before = totals(is_remote=True)
    files = Store(remote.uri).write_media(ids, [os.urandom(size) for size in sizes])
    remote.commit_media([files])
    assert since(before, totals(is_remote=True)) == between(s3.log())


def test_all_threads_count_and_none_is_lost_when_it_ends(s3, remote):
    def look(number: int) -> int:
        return Store(remote.uri).count("failures", f"stage = '{number}'")

    s3.clear_log()
    before = totals(is_remote=True)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(look, range(20)))
    gc.collect()
    assert since(before, totals(is_remote=True)) == between(s3.log())


def test_the_lock_is_counted_and_a_disk_apart(s3, remote, tmp_path):
    local = Store.open(tmp_path / "store", create=True)
    s3.clear_log()
    before, disk = totals(is_remote=True), totals(is_remote=False)
    with remote.committing():
        pass
    assert since(before, totals(is_remote=True)) == between(s3.log())
    assert since(disk, totals(is_remote=False)) == dict.fromkeys(disk, 0)
    local.append("failures", [{"uri": "a.mp4", "stage": "scan", "error": "io"}])
    assert since(disk, local.traffic())["bytes_written"] > 0
    assert since(before, totals(is_remote=True)) == between(s3.log())
