"""The order in which captions are taken, and what is refused."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.caption_columns import SourceLists, caption_lists, source_lists
from reelwright.curation.store.captions import Wanted
from reelwright.curation.store.export import ExportOptions, export
from reelwright.curation.store.export.marker import read
from tests.curation.store.conftest import add_source

LIST = pa.list_(pa.struct([("text", pa.string()), ("kind", pa.string())]))
BOTH = [{"text": "short", "kind": "summary"}, {"text": "A calm clip.", "kind": "composed"}]
ROW = {
    "source_md5": "m",
    "caption": "a model's",
    "span_caption": "the span's",
    "composed_caption": "A wide clip.",
    "captions": [
        {"text": "the file's", "kind": "source"},
        {"text": "A wide clip.", "kind": "composed"},
        {"text": "a model's", "kind": "caption"},
        {"text": "short", "kind": "summary"},
    ],
    "mine": ["first", " ", None, "second", "first"],
}
FILE = {"m": ["the file's", "the file's other"]}


def row(**changes: Any) -> dict[str, Any]:
    return ROW | changes


@pytest.mark.parametrize(
    ("wanted", "of", "texts"),
    [
        (Wanted(), row(), ["a model's"]),
        (Wanted(), row(caption=" \n"), ["the span's"]),
        (Wanted(), row(caption=None, span_captions=["the span's", "again"]), ["the span's", "again"]),
        (Wanted(), row(caption=None, span_caption=None), FILE["m"]),
        (Wanted(), row(caption=None, span_caption=None, source_md5="other"), []),
        (Wanted("composed_caption"), row(), ["A wide clip."]),
        (Wanted("composed_caption"), row(composed_caption=None), ["a model's"]),
        (Wanted("captions"), row(), ["the file's", "a model's", "short"]),
        (Wanted("captions", ("summary", "source")), row(), ["the file's", "short"]),
        (Wanted("captions", ("composed",)), row(), ["A wide clip."]),
        (Wanted("captions", ("composed",)), row(captions=None), ["A wide clip."]),
        (Wanted("captions", ("source",)), row(captions=None), ["the span's"]),
        (Wanted("captions", ("translation",)), row(), ["a model's"]),
        (Wanted("mine"), row(), ["first", "second"]),
        (Wanted("mine"), row(mine=[]), ["a model's"]),
        (Wanted(), {"source_md5": None}, []),
        (Wanted(), row(review_caption="a person's"), ["a person's"]),
        (Wanted("captions"), row(review_caption="a person's"), ["a person's"]),
        (Wanted("captions", ("caption",)), row(review_caption="a person's"), ["a person's"]),
        (Wanted("captions", ("summary",)), row(review_caption="a person's"), ["short"]),
        (Wanted("mine"), row(review_caption="a person's"), ["first", "second"]),
        (Wanted(), row(review_caption=" "), ["a model's"]),
    ],
)
def test_the_order(wanted: Wanted, of: dict[str, Any], texts: list[str]) -> None:
    found = wanted.of(of, FILE)
    assert list(found.texts) == texts
    assert len(found.kinds) == len(found.texts)


TEXT = st.sampled_from([None, "", " \n", "a", "b", "ä\u3000", "a"])
KIND = st.sampled_from([None, "", "caption", "source", "composed", "summary"])
CLIPS = st.lists(
    st.fixed_dictionaries({
        "source_md5": st.sampled_from([None, "m", "n", "other"]),
        "caption": TEXT, "span_caption": TEXT, "composed_caption": TEXT, "review_caption": TEXT,
        "span_captions": st.none() | st.lists(TEXT, max_size=3),
        "captions": st.none() | st.lists(st.fixed_dictionaries({"text": TEXT, "kind": KIND}), max_size=3),
        "mine": st.none() | st.lists(TEXT, max_size=3),
    }),
    max_size=4,
)  # fmt: skip
TYPES = {"captions": LIST, "mine": pa.list_(pa.string()), "span_captions": pa.list_(pa.string())}


@given(
    clips=CLIPS,
    column=st.sampled_from(["caption", "captions", "composed_caption", "span_captions", "mine", "none"]),
    kinds=st.lists(st.sampled_from(["caption", "source", "composed", "summary"]), unique=True).map(tuple),
)
def test_many_rows_have_the_captions_of_each_row(clips: list[Any], column: str, kinds: tuple[str, ...]) -> None:
    wanted, of_source = Wanted(column, kinds), {"m": ["of the file", "a"], "n": ["b"]}
    lists = SourceLists(
        pa.array([*of_source], pa.large_string()), pa.array([*of_source.values()], pa.list_(pa.large_string()))
    )
    schema = pa.schema([(name, TYPES.get(name, pa.string())) for name in (*ROW, "span_captions", "review_caption")])
    rows = pa.Table.from_pylist(clips, schema)
    found = caption_lists(pa.concat_tables([rows.slice(0, 1), rows.slice(1)]), wanted, lists)
    expect = [wanted.of(row, of_source) for row in clips]
    assert found.texts.to_pylist() == [list(e.texts) for e in expect]
    assert found.composed.tolist() == [bool(e.kinds) and set(e.kinds) == {"composed"} for e in expect]


def test_the_best_comes_first() -> None:
    every = Wanted("captions").of(ROW, FILE)
    assert every.best_first().kinds == ("caption", "source", "summary")
    assert every.best_first(("summary",)).kinds == ("summary", "caption", "source")


def test_of_files_with_the_same_bytes_the_one_that_was_cut_tells(store: Store) -> None:
    told = [("b", "duplicate", "of the copy"), ("a", "failed", "of the broken"), ("c", "ok", "of the file")]
    store.append("sources", [{"uri": uri, "md5": "m", "state": state, "caption": text} for uri, state, text in told])
    store.append("sources", [{"uri": "d", "md5": "n", "state": "ok"}])
    store.append("sources", [{"uri": "e", "md5": "n", "state": "duplicate", "caption": "of the copy alone"}])
    assert source_lists(store).by_md5() == {"m": ["of the file"], "n": ["of the copy alone"]}


@pytest.fixture
def told(store: Store) -> Store:
    """Three clips: one with a caption of its own, all with a composed one; their file's manifest has one."""
    ids = add_source(store, "aa", 3)
    store.merge("clips", pa.table({"clip_id": ids, "caption": ["its own", None, ""]}), "clip_id")
    store.merge("clips", pa.table({"clip_id": ids, "composed_caption": ["A calm clip."] * 3}), "clip_id")
    cells = pa.array([[{"text": "short", "kind": "summary"}], None, [{"text": "x", "kind": "composed"}]], LIST)
    store.merge("clips", pa.table({"clip_id": ids, "captions": cells, "grade": [1.0, 2.0, 3.0]}), "clip_id")
    return store


def kinds(store: Store, out: Any, wanted: Wanted | None = None, sql: str = "SELECT clip_id FROM clips") -> dict:
    done = export(store, out, "folder", sql=sql, options=ExportOptions(captions=wanted or Wanted()))
    assert done.clips == 3 == done.empty_captions + sum(done.caption_kinds.values())
    assert read(done.path)["caption_kinds"] == done.caption_kinds
    assert sum(done.variant_kinds.values()) >= sum(done.caption_kinds.values())
    return done.caption_kinds


def test_an_export_says_which_captions_it_took(told: Store, tmp_path: Any) -> None:
    assert kinds(told, tmp_path / "a") == {"caption": 1}
    assert kinds(told, tmp_path / "b", Wanted("composed_caption")) == {"composed": 3}
    assert kinds(told, tmp_path / "c", Wanted("captions", ("summary", "composed"))) == {"composed": 2, "summary": 1}
    told.merge("sources", pa.table({"uri": ["/f/aa.mp4"], "caption": ["of the file"]}), "uri")
    assert kinds(told, tmp_path / "d") == {"source": 2, "caption": 1}
    query = "SELECT clip_id, 'graded ' || grade AS caption FROM clips"
    assert kinds(told, tmp_path / "e", sql=query) == {"caption": 3}


def test_the_command_says_what_became_of_the_captions(told: Store, tmp_path: Any) -> None:
    from reelwright.pipelines.cli.commands.export import summary

    wanted = Wanted("captions", ("composed", "summary", "nonsense"))
    told.merge("clips", pa.table({"clip_id": ["aa-000"], "captions": pa.array([BOTH], LIST)}), "clip_id")
    sql = "SELECT clip_id FROM clips WHERE clip_id <> 'aa-001'"
    options = ExportOptions(captions=wanted or Wanted())
    every = summary(export(told, tmp_path / "a", "webdataset", sql=sql, options=options), wanted.kinds)
    assert every[1:] == [
        "captions: 2 of kind composed, 0 empty",
        "all captions of a clip: 2 of kind composed, 1 of kind summary",
        "no clip has a caption of kind nonsense",
    ]
    best = summary(export(told, tmp_path / "b", "diffsynth", sql=sql, options=options), wanted.kinds)
    assert best[2] == "some clips have several captions; this format takes the best of each"
    none = summary(export(told, tmp_path / "c", "folder", sql="SELECT clip_id FROM clips"))
    assert none[1] == "captions: 1 of kind caption, 2 empty"


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("captoin", r"'captoin' is not a column of clips; columns that look alike: caption"),
        ("grade", r"the caption column grade holds double; captions are text, or a list of texts"),
    ],
)
def test_a_column_that_holds_no_captions_is_refused(told: Store, tmp_path: Any, column: str, says: str) -> None:
    options = ExportOptions(captions=Wanted(column))
    with pytest.raises(StoreError, match=says):
        export(told, tmp_path / "out", "folder", sql="SELECT clip_id FROM clips", options=options)
    assert not (tmp_path / "out").exists()
