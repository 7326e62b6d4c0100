"""Where clips stand, looked at in stretches: what one look at the whole table finds, in memory that does not grow."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate import Annotator, Column, Stored, load
from reelwright.curation.records.rows import failure_row
from reelwright.curation.results import Failed
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.batches import batches_of
from reelwright.pipelines.annotate.load import prepare_columns
from reelwright.pipelines.annotate.row_flags import RowFlags
from reelwright.pipelines.annotate.staleness import Staleness
from reelwright.pipelines.annotate.stretch import CURRENT, FAILED, STALE, WAITING

CLIPS = 23


class Words(Annotator):
    """Of the source's caption, or of a part's own, which a clip may have to wait for."""

    name, version = "words", 1
    needs = Stored("source_caption")
    columns = {"num_words": Column(pa.int32(), "words of the caption")}

    def __call__(self, caption: str) -> dict[str, int]:
        return {"num_words": len(caption.split())}


class Doubled(Annotator):
    """Of a value that another annotator makes."""

    name, version = "doubled", 1
    needs = Stored("blur_score")
    columns = {"doubled": Column(pa.float32(), "twice the score")}

    def __call__(self, score: float) -> dict[str, float]:
        return {"doubled": 2 * score}


ANNOTATORS = {"blur": load("blur"), "words": Words(), "doubled": Doubled()}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Of 23 clips every fifth has a current score, clip 7 failed, source s1 has a caption, clips 2 and 14 their own."""
    store = Store.open(tmp_path_factory.mktemp("stale"), create=True)
    prepare_columns(store, ANNOTATORS)
    numbers, blur = np.arange(CLIPS), ANNOTATORS["blur"]
    sources = [
        {"uri": f"{n}.mp4", "md5": f"s{n}", "state": "ok", "caption": "a dog" if n == 1 else None} for n in range(4)
    ]
    rows = {
        "clip_id": [f"c{n:02}" for n in numbers], "source_md5": [f"s{n % 4}" for n in numbers],
        "shot_index": pa.array(numbers, pa.int32()), "width": pa.array([64] * CLIPS, pa.int32()),
        "height": pa.array([48] * CLIPS, pa.int32()), "num_frames": pa.array([30] * CLIPS, pa.int32()),
        "fps": [15.0] * CLIPS, "span_caption": ["a cat" if n in (2, 14) else None for n in numbers],
        "blur_score": pa.array([1.0 if n % 5 == 0 else None for n in numbers], pa.float32()),
        "blur_fingerprint": [blur.fingerprint if n % 5 == 0 else None for n in numbers],
    }  # fmt: skip
    store.append("sources", sources)
    store.append("clips", pa.table(rows))
    why = Failed("blur", "no picture", "")
    failure = failure_row("3.mp4", "s3", "c07", why, 1, blur.fingerprint)
    store.append("failures", [failure | {"at": datetime.now(UTC)}])
    return store


def states_of(store: Store, name: str, **options: object) -> list[int]:
    return np.concatenate([s.states[name] for s in Staleness(store, ANNOTATORS, **options).stretches()]).tolist()


@pytest.mark.parametrize("size", [1, 4, 23, 24, 100])
def test_every_clip_has_its_state_whatever_the_stretches(store, size):
    numbers = range(CLIPS)
    blur = [CURRENT if n % 5 == 0 else FAILED if n == 7 else STALE for n in numbers]
    assert states_of(store, "blur", stretch=size) == blur
    assert states_of(store, "blur", stretch=size, retry_failed=True) == [STALE if s == FAILED else s for s in blur]
    has_words = [STALE if n % 4 == 1 or n in (2, 14) else WAITING for n in numbers]
    assert states_of(store, "words", stretch=size) == has_words
    assert states_of(store, "doubled", stretch=size) == [STALE if n % 5 == 0 else WAITING for n in numbers]


@pytest.mark.parametrize("where", [None, "shot_index % 2 = 0", "false"])
@pytest.mark.parametrize("size", [1, 4, 23, 24])
def test_stretches_are_the_whole_table_cut(store, size, where):
    whole = next(Staleness(store, ANNOTATORS, where=where).stretches())
    found = list(Staleness(store, ANNOTATORS, where=where, stretch=size).stretches())
    rows = [int(clip.as_py()[1:]) for stretch in found for clip in stretch.clips["clip_id"]]
    assert rows == {None: [*range(CLIPS)], "shot_index % 2 = 0": [*range(0, CLIPS, 2)], "false": []}[where]
    assert pa.concat_tables([s.clips for s in found]).to_pydict() == whole.clips.to_pydict()
    for name in ANNOTATORS:
        assert np.concatenate([s.states[name] for s in found]).tolist() == whole.states[name].tolist()
        assert [f for s in found for f in s.expected[name].to_pylist()] == whole.expected[name].to_pylist()


def test_counts_are_of_all_stretches(store):
    staleness = Staleness(store, {"blur": ANNOTATORS["blur"]}, stretch=4)
    assert [staleness.count("blur", state) for state in (CURRENT, STALE, WAITING, FAILED)] == [5, 17, 0, 1]
    assert (staleness.is_current, staleness.failed) == (False, 1)
    assert Staleness(store, {"blur": ANNOTATORS["blur"]}, where="shot_index % 5 = 0").is_current


@pytest.mark.parametrize("size", [4, 100])
def test_batches_hold_every_stale_clip_once_with_the_fingerprint_that_it_will_have(store, size):
    annotators = {"blur": ANNOTATORS["blur"]}
    staleness = Staleness(store, annotators, stretch=size)
    batches = list(batches_of(store, staleness, annotators, clips=3, frame_bytes=1 << 30))
    assert [c for batch in batches for c in batch.clip_ids] == [f"c{n:02}" for n in range(CLIPS) if n % 5 and n != 7]
    assert {f for batch in batches for f in batch.expected["blur"]} == {annotators["blur"].fingerprint}
    assert all(len(batch.clip_ids) == len(batch.rows) == len(batch.expected["blur"]) <= 3 for batch in batches)
    stored = store.dataset("clips").to_table(columns=["clip_id"], with_row_id=True)
    row_of = dict(zip(stored["clip_id"].to_pylist(), stored["_rowid"].to_pylist(), strict=True))
    assert all(batch.row_ids.tolist() == [row_of[c] for c in batch.clip_ids] for batch in batches)


def test_flags_are_those_of_their_stretch():
    pieces = [np.arange(n) % 3 == 0 for n in (9, 1, 0, 16)]
    flags = RowFlags(pieces)
    for number, piece in enumerate(pieces):
        assert (flags[number] == piece).all()
        assert flags[number].dtype == bool
