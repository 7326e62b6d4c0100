"""Files of clips that are written close together share a commit; a source is committed after its clips."""

from typing import Any

import pytest

from reelwright.curation.records.committer import Committer
from reelwright.curation.store import Store


class Run:
    """A committer whose groups are written at once, as a worker does it, and told of when the test says so."""

    def __init__(self, store: Store) -> None:
        self.store, self.written = store, dict[int, str]()
        self.committer = Committer(store, self.write, set(), set(), commit_bytes=10, commit_s=1e9)

    def write(self, number: int, clip_ids: list[str], payloads: list[Any]) -> None:
        mp4s = [mp4 for payload in payloads for mp4 in payload if mp4]
        self.written[number] = self.store.write_media(clip_ids, mp4s)

    def add(self, source: str, count: int) -> None:
        ids = [f"{source}-{n}" for n in range(count)]
        payload = [b"x" * 10] * count
        for clip_id in ids:  # a payload of one clip after another, as of sources that share a task
            self.committer.add_clips([{"clip_id": clip_id, "source_md5": source}], payload, 10)
        self.committer.add_source({"uri": source, "md5": source, "state": "ok", "source_id": source})
        self.committer.flush_if_due()

    def tell(self) -> None:
        for number, fragments in self.written.items():
            self.committer.written(number, fragments)
        self.written.clear()

    def sources(self) -> set[str]:
        return set(self.store.read("sources", ["uri"]).column(0).to_pylist())


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(Store.open(tmp_path / "store", create=True))


def test_groups_that_were_written_meanwhile_are_one_commit(run):
    run.add("a", 2)
    run.add("b", 3)
    assert not run.sources(), "their clips are not written yet"
    run.tell()
    before = run.store.dataset("clips").version
    run.committer.flush_if_due()
    assert run.store.dataset("clips").version == before + 1
    assert run.sources() == {"a", "b"}
    assert run.committer.committed == {"clips": 5, "ok": 2}
    assert not run.committer.is_holding
    ids = [f"a-{n}" for n in range(2)] + [f"b-{n}" for n in range(3)]
    assert [mp4 for _, mp4 in run.store.read_media(ids)] == [b"x" * 10] * 5


def test_the_next_commit_waits_in_proportion_to_the_last_and_a_flush_does_not(run):
    run.add("a", 1)
    run.tell()
    run.committer.flush_if_due()
    run.committer.commit_at = float("inf")
    run.add("b", 1)
    run.tell()
    run.committer.flush_if_due()
    assert run.sources() == {"a"}
    assert run.committer.is_holding
    run.committer.flush()
    assert run.sources() == {"a", "b"}


def test_a_source_waits_for_its_clips_and_not_for_later_ones(run):
    run.add("a", 1)
    first = dict(run.written)
    run.add("b", 1)
    run.written = first
    run.tell()
    run.committer.flush_if_due()
    assert run.sources() == {"a"}


def test_a_group_does_not_grow_while_a_commit_is_made(run):
    for name in "abc":  # results of one round: nobody flushes between them
        run.committer.add_clips([{"clip_id": f"{name}-0", "source_md5": name}], [b"x" * 10], 10)
    assert len(run.written) == 2
    run.committer.flush()
    assert len(run.written) == 3


def test_what_is_written_is_not_held_in_memory(run):
    run.add("a", 1)
    group = run.committer.groups[0]
    assert group.payloads
    run.tell()
    assert not group.payloads
    run.committer.flush()
    assert run.sources() == {"a"}


def test_failures_wait_for_a_commit_too(run):
    before = run.store.dataset("failures").version
    for name in "abc":
        run.committer.add_failure({"uri": name, "stage": "cut", "error": "damaged"})
        run.add(name, 1)
    assert run.store.dataset("failures").version == before
    run.committer.flush()
    assert run.store.count("failures") == 3
