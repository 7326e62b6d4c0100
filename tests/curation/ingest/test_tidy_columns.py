"""A list read by the column gives the inputs, the refusals and the counts that a look at each of its rows gives."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reelwright.curation.ingest import row_batches
from reelwright.curation.ingest.inputs import IngestError, Input, ManifestConfig
from reelwright.curation.ingest.manifest_columns import TidyRows
from reelwright.curation.ingest.manifest_names import URI_COLUMNS
from reelwright.curation.ingest.resolve import list_inputs

TEXTS = [
    "a boat",
    "  two blanks  ",
    "7",
    "",
    "null",
    "NaN",
    "None",
    "nul",
    "\u3000ein Boot\u3000",
    "船",
    "a\nb",
    "\x1f x",
]
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "source_id": st.sampled_from(["id-1", "id-2", None, *TEXTS]),
    "id": st.one_of(st.none(), st.integers(-5, 5)),
    "License": st.sampled_from(["CC-BY", None]),
    "caption": st.sampled_from([None, *TEXTS]),
    "text": st.one_of(st.none(), st.floats(0, 3), st.just(math.nan)),
    "prompt": st.sampled_from(["x\0y", "a prompt"]),
    "start": st.one_of(st.none(), st.floats(0, 3), st.just(math.nan), st.just(-1.0)),
    "Start Time": st.sampled_from(["0.5", "1", "00:01.5", "2s", "", "soon"]),
    "end": st.one_of(st.none(), st.integers(3, 9)),
    "end_s": st.one_of(st.floats(1, 5), st.just(math.inf)),
    "stop_ms": st.integers(0, 9000),
    "timestamp": st.one_of(st.none(), st.integers(0, 9)),
    "span": st.sampled_from([None, "[1, 2]", "walking"]),
    "likes": st.integers(0, 9),
}
PLACES = st.sampled_from([f"s3://b/{n}.mp4" for n in range(4)])
URIS = st.one_of(
    PLACES, PLACES, PLACES, PLACES,
    st.sampled_from([" s3://b/0.mp4 ", "b.mp4", "in/b.mp4", "in/../b.mp4", "./b.mp4", "S3://b/1.mp4"]),
    st.sampled_from(["", "https://h/v?id=1", "https://h/v?id=1&sig=x", "https://u@h/v", "s3://b/a::zip://c"]),
    st.sampled_from(["s3://b/a b.mp4", "file://x"]),
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = draw(st.lists(st.sampled_from(sorted(CELLS)), unique=True, max_size=6))
    uris = draw(st.sampled_from([PLACES, PLACES, st.sampled_from(["b.mp4", "in/c.mp4", "d ä.mp4"]), URIS]))
    row = st.fixed_dictionaries({"url": uris, **{name: CELLS[name] for name in names}})
    return draw(st.lists(row, min_size=1, max_size=12))


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows([{name: str(v).replace("\0", "") for name, v in row.items()} for row in rows])
    return str(path)


def outcome(path: str, config: ManifestConfig) -> Any:
    try:
        found = list_inputs([path], manifests=config, allow_http=True)
    except IngestError as error:
        return str(error)
    parts = [list(found.files), list(found.refused), found.repeated_ids]
    return [*parts, found.unread_columns, [getattr(item.uri, "link", None) for item in found.files]]


@settings(deadline=None, max_examples=60)
@example(rows=[{"url": "s3://b/0.mp4", "start": -1.0}], suffix="parquet", spans="cut")
@given(rows=tables(), suffix=st.sampled_from(["parquet", "jsonl", "csv"]), spans=st.sampled_from(["cut", "ignore"]))
def test_a_list_by_the_column_is_the_list_by_the_row(tmp_path_factory, rows, suffix, spans):
    path = written(tmp_path_factory.mktemp("lists") / f"m.{suffix}", rows)
    config = ManifestConfig(spans=spans)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(row_batches, "ROWS", 3)
        patched.setattr(row_batches, "BATCH_ROWS", 6)
        patched.setattr(row_batches, "PIECE_ROWS", 3)
        found = outcome(path, config)
        patched.setattr(TidyRows, "told", lambda self, columns: None)
        assert found == outcome(path, config)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("uri", ["s3://b/{}.mp4", "https://h/v?id={}", "in/{}.mp4", "{}.mp4"])
def test_a_list_as_it_mostly_is_needs_no_look_at_each_row(tmp_path, monkeypatch, suffix, uri):
    rows = [{"url": uri.format(n), "id": n, "start": 1.5, "end": n + 2, "caption": "ein Boot, 船 "} for n in range(9)]
    path = written(tmp_path / f"m.{suffix}", rows)
    with monkeypatch.context() as patched:
        patched.setattr("reelwright.curation.ingest.manifests._input", None)
        found = list_inputs([path], allow_http=True)
    assert len(found.files) == 9
    assert isinstance(found.files[0], Input)
    assert {span.captions for item in found.files for span in item.spans} == {("ein Boot, 船",)}
    assert "url" in URI_COLUMNS


def test_of_a_batch_with_one_odd_row_the_others_are_still_taken_by_the_column(tmp_path, monkeypatch):
    monkeypatch.setattr(row_batches, "PIECE_ROWS", 2)
    rows = [{"url": "S3://b/odd.mp4" if n == 4 else f"s3://b/{n}.mp4", "caption": "x"} for n in range(10)]
    taken = []
    told = TidyRows.told
    monkeypatch.setattr(TidyRows, "told", lambda self, columns: taken.append(t := told(self, columns)) or t)
    assert len(list_inputs([written(tmp_path / "m.parquet", rows)]).files) == 10
    assert [None if t is None else len(t) for t in taken] == [None, 2, 2, None, 2, 2]
