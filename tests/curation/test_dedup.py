"""The same survivor on any machine, in any order, in one run or in several."""

from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.dedup import Deduplicator

FILES = st.dictionaries(
    st.sampled_from([f"/f/{c}.mp4" for c in "abcdefgh"]),
    st.tuples(st.sampled_from(["x", "y", "z"]), st.sampled_from([None, "1", "2"])),
    min_size=1,
)


def survivors(files: dict[str, tuple[str, str | None]]) -> dict[str, str | None]:
    dedup = Deduplicator()
    return {uri: dedup.survivor_of(uri, *files[uri]) for uri in sorted(files)}


@given(FILES)
def test_a_survivor_is_itself_no_duplicate_and_shares_bytes_or_id(files):
    found = survivors(files)
    for uri, other in found.items():
        if other is not None:
            assert found[other] is None
            assert other < uri
    kept = {files[u] for u, other in found.items() if other is None}
    assert len({md5 for md5, _ in kept}) == len(kept)
    ids = [i for _, i in kept if i]
    assert len(set(ids)) == len(ids)


@given(FILES)
def test_every_group_of_equal_bytes_has_one_survivor(files):
    found = survivors(files)
    for md5 in {m for m, _ in files.values()}:
        group = [u for u in sorted(files) if files[u][0] == md5]
        assert len({found[u] or u for u in group}) == 1


@given(FILES)
def test_asking_again_gives_the_same_answer(files):
    dedup = Deduplicator()
    first = {u: dedup.survivor_of(u, *files[u]) for u in sorted(files)}
    again = {u: dedup.survivor_of(u, *files[u]) for u in sorted(files)}
    assert first == again


def test_what_a_store_has_wins():
    dedup = Deduplicator({"x": "/old/z.mp4"}, {"1": "/old/y.mp4"})
    assert dedup.survivor_of("/a.mp4", "x", None) == "/old/z.mp4"
    assert dedup.survivor_of("/b.mp4", "new", "1") == "/old/y.mp4"
    assert dedup.survivor_of("/old/z.mp4", "x", None) is None


def test_a_survivor_that_failed_leaves_its_bytes_and_id_to_the_next():
    dedup = Deduplicator()
    assert dedup.survivor_of("/a.mp4", "x", "1") is None
    dedup.forget("/b.mp4", "x", "1")  # a duplicate's failure costs the survivor nothing
    assert dedup.survivor_of("/b.mp4", "x", "2") == "/a.mp4"
    assert dedup.survivor_of("/c.mp4", "y", "1") == "/a.mp4"
    dedup.forget("/a.mp4", "x", "1")
    assert dedup.survivor_of("/d.mp4", "x", None) is None
    assert dedup.survivor_of("/e.mp4", "z", "1") is None
    dedup.forget("/d.mp4", "x", None)
    assert dedup.survivor_of("/f.mp4", "x", None) is None
