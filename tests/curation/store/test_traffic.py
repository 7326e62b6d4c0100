"""Requests and bytes of stores are counted as a server sees them, whichever thread and handle made them."""

import gc
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from reelwright.curation.store import Store
from reelwright.curation.store.traffic import since, totals
from tests.pipelines.object_store import Line


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
def test_an_upload_of_clips_counts_its_opening_its_parts_and_its_commit(s3, s3_store, sizes):
    ids = [os.urandom(12).hex() for _ in sizes]
    s3.clear_log()
    before = totals(is_remote=True)
    files = Store(s3_store.uri).write_media(ids, [os.urandom(size) for size in sizes])
    s3_store.commit_media([files])
    assert since(before, totals(is_remote=True)) == between(s3.log())


def test_all_threads_count_and_none_is_lost_when_it_ends(s3, s3_store):
    def look(number: int) -> int:
        return Store(s3_store.uri).count("failures", f"stage = '{number}'")

    s3.clear_log()
    before = totals(is_remote=True)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(look, range(20)))
    gc.collect()
    assert since(before, totals(is_remote=True)) == between(s3.log())


def test_the_lock_is_counted_and_a_disk_apart(s3, s3_store, tmp_path):
    local = Store.open(tmp_path / "store", create=True)
    s3.clear_log()
    before, disk = totals(is_remote=True), totals(is_remote=False)
    with s3_store.committing():
        pass
    assert since(before, totals(is_remote=True)) == between(s3.log())
    assert since(disk, totals(is_remote=False)) == dict.fromkeys(disk, 0)
    local.append("failures", [{"uri": "a.mp4", "stage": "scan", "error": "io"}])
    assert since(disk, local.traffic())["bytes_written"] > 0
    assert since(before, totals(is_remote=True)) == between(s3.log())
