"""Laws that hold for every annotator, and for any set of them on one clip."""

from __future__ import annotations

import pickle
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright import annotate
from reelwright.annotate import (
    Annotator,
    Column,
    Facts,
    Frames,
    Resources,
    Stored,
    annotate_clip,
    annotate_clips,
    stored_needs,
)
from reelwright.annotate.errors import AnnotatorError
from reelwright.annotate.run import _is_plain
from reelwright.pipelines.annotate.load import in_levels
from tests.annotate.synth import encode, moved, texture


@dataclass(frozen=True)
class Mean(Annotator):
    """Mean grey level, times a factor."""

    factor: float = 1.0

    name, version = "mean", 1
    needs = Frames(count=2, height=32)
    columns = {"mean_level": Column(pa.float32(), "mean grey level", "level")}

    def __call__(self, frames: np.ndarray) -> dict[str, float]:
        return {"mean_level": self.factor * float(frames.mean())}


class Broken(Annotator):
    name, version = "broken", 1
    needs = Facts()
    columns = {"never": Column(pa.float32(), "never written")}

    def __call__(self, facts: object) -> dict[str, float]:
        raise RuntimeError("this annotator\nfails")


class Words(Annotator):
    name, version = "words", 1
    needs = Stored("caption")
    columns = {"num_words": Column(pa.int32(), "words of the caption")}

    def __call__(self, caption: str) -> dict[str, int]:
        return {"num_words": len(caption.split())}


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encode(moved(texture(120, 180), np.arange(12), np.zeros(12), 72, 128))


@pytest.fixture(scope="module")
def built_in() -> list[Annotator]:
    """Those that need no model of the user's and no other clips, each after those whose columns it reads."""
    loaded = {a.name: a for a in annotate.load_all(annotate.in_profile("cpu"))}
    ordered = [loaded[name] for level in in_levels(loaded) for name in level]
    return [a for a in ordered if isinstance(a, Annotator)]


def test_every_built_in_writes_exactly_its_declared_columns(clip, built_in):
    columns, failures = annotate_clip(clip, built_in)
    assert failures == []
    schema = pa.schema([field for a in built_in for field in annotate.schema_of(a)])
    assert list(columns) == schema.names
    table = pa.Table.from_pylist([columns], schema=schema)  # every value fits its declared type
    assert {name for name in schema.names if table[name].null_count} <= {"watermark_box"}
    assert all(field.metadata[b"meaning"] for field in schema)


def test_annotators_do_not_depend_on_their_company(clip, built_in):
    look = [a for a in built_in if not stored_needs(a)]
    together, _ = annotate_clip(clip, look)
    alone: dict = {}
    for annotator in reversed(look):
        alone |= annotate_clip(clip, [annotator])[0]
    assert alone == together


def test_one_failure_leaves_the_columns_of_the_others(clip):
    columns, failures = annotate_clip(clip, [Broken(), Mean()])
    assert columns.keys() == {"mean_level", "mean_fingerprint"}
    assert [(f.annotator, f.error) for f in failures] == [("broken", "RuntimeError: this annotator fails")]
    assert "Traceback" in failures[0].detail


def test_a_clip_that_does_not_decode_fails_those_who_need_frames_only():
    columns, failures = annotate_clip(b"broken", [Mean(), Words()], {"caption": "two words"})
    assert columns["num_words"] == 2
    assert [f.annotator for f in failures] == ["mean"]
    assert "does not decode" in failures[0].error


def test_one_clip_of_a_batch_fails_alone(clip):
    class Batched(Mean):
        name = "batched"
        resources = Resources(batch=8)

        def batch(self, clips):
            levels = [float(frames.mean()) for (frames,) in clips]
            return [{"mean_level": level} for level in levels]

    first, second, third = annotate_clips([clip, b"broken", clip], [Batched()])
    assert first == third
    assert "mean_level" in first[0]
    assert second[0] == {}
    assert len(second[1]) == 1


def test_what_is_kept_of_a_clip_is_made_before_the_next_is_decoded(clip):
    happened = []

    class Small(Mean):
        resources = Resources(batch=8)

        def kept(self, frames):
            happened.append("kept")
            return (float(frames.mean()),)

        def batch(self, clips):
            return [{"mean_level": level} for (level,) in clips]

    @contextmanager
    def decoder():
        happened.append("decode")
        yield

    found = annotate_clips([clip, b"broken", clip], [Small()], decoder=decoder)
    assert happened == ["decode", "kept", "decode", "decode", "kept"]
    assert found[0][0] == annotate_clip(clip, [Mean()])[0]
    assert found[1][1]
    assert found[2] == found[0]


def test_a_batch_that_is_postponed_is_tried_once(clip):
    tries = []

    class Away(Mean):
        resources = Resources(batch=8)

        def batch(self, clips):
            tries.append(len(clips))
            raise AnnotatorError("there is no model; name one")

    found = annotate_clips([clip, clip, clip], [Away()])
    assert tries == [3]
    assert all(f.postponed and f.error == "there is no model; name one" for _, (f,) in found)


def test_a_text_column_that_is_not_there_is_named():
    _, failures = annotate_clip(b"", [Words()])
    assert "'words' needs column 'caption'" in failures[0].error


def test_wrong_columns_and_numbers_are_failures(clip):
    class Extra(Mean):
        def __call__(self, frames):
            return {"mean_level": 1.0, "other": 2.0}

    class NotANumber(Mean):
        def __call__(self, frames):
            return {"mean_level": float("nan")}

    class WrongType(Mean):
        def __call__(self, frames):
            return {"mean_level": "bright"}

    errors = [annotate_clip(clip, [kind()])[1][0].error for kind in (Extra, NotANumber, WrongType)]
    assert "does not write the columns it declares: other" in errors[0]
    assert "mean_level is nan" in errors[1]
    assert len(errors) == 3


def test_two_annotators_may_not_write_one_column(clip):
    with pytest.raises(ValueError, match="'mean' and 'mean' both write column 'mean_level'"):
        annotate_clip(clip, [Mean(), Mean(2.0)])


def test_the_fingerprint_follows_all_that_makes_a_value():
    class Renamed(Mean):
        name = "renamed"

    class Newer(Mean):
        version = 2

    class Sharper(Mean):
        needs = Frames(count=2, height=64)

    class OtherModel(Mean):
        models = ("net@0123",)

    kinds = [Mean(), Mean(2.0), Renamed(), Newer(), Sharper(), OtherModel()]
    fingerprints = [a.fingerprint for a in kinds]
    assert len(set(fingerprints)) == len(fingerprints)
    assert all(len(p) == 16 and int(p, 16) >= 0 for p in fingerprints)
    assert replace(Mean(2.0), factor=1.0).fingerprint == Mean().fingerprint


def test_what_frames_came_to_offer_leaves_values_of_before_current():
    """Stores hold this fingerprint of `blur`, version 1: it changes with its version alone."""
    assert annotate.load("blur").fingerprint == "2340ab2284b7358a"
    assert annotate.load("combing").needs.every_line


def test_fingerprints_are_the_same_in_another_process(built_in):
    names = [a.name for a in built_in]
    code = f"from reelwright import annotate; print(*(annotate.load(name).fingerprint for name in {names}))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert done.stdout.split() == [a.fingerprint for a in built_in]


def test_an_annotator_travels_without_its_model(clip):
    text = annotate.load("text", {"min_probability": 0.8})
    before = annotate_clip(clip, [text])
    copy = pickle.loads(pickle.dumps(text))
    assert len(pickle.dumps(text)) < 1000
    assert copy == text
    assert annotate_clip(clip, [copy]) == before


TYPES = (pa.float32(), pa.float64(), pa.bool_(), pa.int64(), pa.int32(), pa.string(), pa.list_(pa.int64()),
         pa.list_(pa.float32()), pa.list_(pa.float32(), 2), pa.timestamp("us"))  # fmt: skip
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.floats().map(np.float64)


@given(value=VALUES | st.lists(VALUES, max_size=3), kind=st.sampled_from(TYPES))
def test_a_value_that_is_not_shown_to_arrow_is_one_that_it_takes(value, kind):
    if _is_plain(value, kind):
        assert pa.scalar(value, kind).type == kind


def test_annotating_a_clip_imports_no_pandas(clip, tmp_path):
    """Nor does it need it: in a sandbox, that is a tenth of what its start costs."""
    (tmp_path / "clip.mp4").write_bytes(clip)
    code = (
        "import sys; from reelwright.annotate import annotate_clip, in_profile, load; "
        "names = ('blur', 'camera_motion', 'frame_hash', 'technical', 'watermark'); "
        f"found, failed = annotate_clip(open({str(tmp_path / 'clip.mp4')!r}, 'rb').read(), [load(n) for n in names]); "
        "assert found and not failed, failed; sys.exit('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
