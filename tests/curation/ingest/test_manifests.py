"""Lists of videos, as people, tables and spreadsheets write them: every row is an input, or one that says why not."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.ingest import manifest_files
from reelwright.curation.ingest.inputs import Input, ManifestConfig, Span
from reelwright.curation.ingest.resolve import IngestError, list_inputs
from reelwright.curation.ingest.span_columns import seconds

ROWS = [
    {"uri": "clips/a.mp4", "source_id": "id-a", "licence": "CC-BY", "caption": "a boat"},
    {"uri": "b.mp4", "source_id": "id-b", "licence": None, "caption": None},
]
MARKS = {"none": "utf-8", "utf-8": "utf-8-sig", "utf-16 le": "utf-16-le", "utf-16 be": "utf-16-be", "bare": "utf-16-le"}


def manifest(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path: Path, **config) -> dict[str, Input]:
    """Inputs by name; rows that are refused by their number."""
    found = list_inputs([str(path)], manifests=ManifestConfig(**config)).files
    return {Path(i.uri).name: i for i in found}


def refused(path: Path) -> dict[str, str]:
    return {name.partition("#")[2]: i.refused for name, i in read(path).items() if i.refused}


def _written(path: Path, rows: list[dict]) -> Path:
    names = list(rows[0])
    suffix = path.name.removesuffix(".gz").rpartition(".")[2]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if suffix in ("csv", "tsv"):
        by = "," if suffix == "csv" else "\t"
        text = "\n".join([by.join(names), *(by.join(r[n] or "" for n in names) for r in rows)]) + "\n"
    elif suffix == "json":
        text = json.dumps(rows, indent=1)
    else:
        text = "\n".join(json.dumps(r) for r in rows) + "\n\n"
    return manifest(path, gzip.compress(text.encode()) if path.name.endswith(".gz") else text)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "ndjson", "json", "parquet", "csv.gz", "jsonl.gz"])
def test_manifests_are_relative_to_themselves(tmp_path, suffix):
    found = list_inputs([str(_written(tmp_path / f"list.{suffix}", ROWS))])
    assert [i.uri for i in found.files] == [str(tmp_path / "b.mp4"), str(tmp_path / "clips/a.mp4")]
    b, a = found.files
    assert (a.source_id, a.licence, a.caption) == ("id-a", "CC-BY", "a boat")
    assert (b.source_id, b.licence, b.caption) == ("id-b", None, None)


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "txt"])
def test_marks_of_the_encoding_are_skipped(tmp_path, suffix, mark):
    by = {"csv": ",", "tsv": "\t"}.get(suffix)
    row = json.dumps({"uri": "ä.mp4", "caption": "ein Möwenschrei"}, ensure_ascii=False)
    text = "ä.mp4\r\n" if suffix == "txt" else row if not by else f"uri{by}caption\r\nä.mp4{by}ein Möwenschrei\r\n"
    text = ("\ufeff" if mark.startswith("utf-16") else "") + text
    found = read(manifest(tmp_path / f"m.{suffix}", text.encode(MARKS[mark])))
    assert {n: i.caption for n, i in found.items()} == {"ä.mp4": None if suffix == "txt" else "ein Möwenschrei"}


def test_columns_go_by_the_names_people_use(tmp_path):
    (item,) = read(manifest(tmp_path / "m.csv", "video_path,id,license,text\nx.mp4,7,CC0,words\n")).values()
    assert (Path(item.uri).name, item.source_id, item.licence, item.caption) == ("x.mp4", "7", "CC0", "words")
    (item,) = read(manifest(tmp_path / "m.csv", " Path , CAPTION , License\n x.mp4 , words , CC0\n")).values()
    assert (Path(item.uri).name, item.licence, item.caption) == ("x.mp4", "CC0", "words")


def test_columns_that_nothing_is_taken_from_are_named(tmp_path):
    path = manifest(tmp_path / "m.csv", "uri,likes,timestamp,start,end\nx.mp4,5,2024-01-01 10:00,1,2\n")
    assert list_inputs([str(path)]).unread_columns == {str(path): ["likes", "timestamp"]}
    ignoring = list_inputs([str(path)], manifests=ManifestConfig(spans="ignore"))
    assert ignoring.unread_columns == {str(path): ["end", "likes", "start", "timestamp"]}
    assert not ignoring.files[0].spans


@pytest.mark.parametrize(
    "text",
    ["uri;caption\na.mp4;x, y\n", "uri|caption\na.mp4|x, y\n", "uri\tcaption\na.mp4\tx, y\n",
     'sep=;\n"uri";"caption"\n"a.mp4";"x, y"\n', "\n\nuri;caption\r\na.mp4;x, y\r\n"],
)  # fmt: skip
def test_a_spreadsheet_s_delimiter_is_found(tmp_path, text):
    assert read(manifest(tmp_path / "m.csv", text))["a.mp4"].caption == "x, y"


@pytest.mark.parametrize(
    ("value", "captions"),
    [
        ('["a dog", "a park"]', ("a dog", "a park")),
        ('["a dog", null, "", "a dog", NaN]', ("a dog",)),
        ("null", ()), ("NaN", ()), ('"nan"', ()), ('"  None "', ()), ('""', ()), ("[]", ()),
        ("7", ("7",)), ("7.0", ("7",)), ('"  two  "', ("two",)),
    ],
)  # fmt: skip
def test_captions_are_a_text_a_list_or_none(tmp_path, value, captions):
    path = manifest(
        tmp_path / "m.jsonl", f'{{"uri": "a.mp4", "caption": {value}, "id": {value if "[" not in value else 1}}}'
    )
    assert read(path)["a.mp4"].captions == captions
    assert read(path)["a.mp4"].source_id != "nan"


def test_a_table_s_gaps_are_no_captions_and_its_numbers_no_fractions(tmp_path):
    table = pa.table({"uri": ["a.mp4", "b.mp4"], "caption": [float("nan"), None], "id": [12.0, float("nan")],
                      "captions": [["x", "y"], None]})  # fmt: skip
    pq.write_table(table, tmp_path / "m.parquet")
    found = read(tmp_path / "m.parquet")
    assert (found["a.mp4"].captions, found["a.mp4"].source_id) == (("x", "y"), "12")
    assert (found["b.mp4"].captions, found["b.mp4"].source_id) == ((), None)


BAD_ROWS = [
    ("m.csv", "uri,caption\na.mp4,x\n,no path\nb.mp4,y\n", "row 2 (line 3)", "no value in a column named"),
    ("m.csv", 'uri,caption\na.mp4,x\nc.mp4,"open\nb.mp4,y\n', "row 2 (line 3)", "a quote is not closed"),
    ("m.csv", 'uri,caption\na.mp4,x\nc.mp4,"open\nb.mp4,"y"\n', "row 2 (line 3)", "quote"),
    ("m.csv", 'uri,caption\na.mp4,x\nc.mp4,"open\nb.mp4,y\nd.mp4,z"\n', "row 2 (line 3)", "lines between look like"),
    ("m.csv", 'uri,caption\na.mp4,x\nc.mp4,"a "nice" dog"\nb.mp4,y\n', "row 2 (line 3)", "not doubled"),
    ("m.csv", "uri,caption\na.mp4,x\nc.mp4,a dog, running\nb.mp4,y\n", "row 2 (line 3)", "3 values for 2 columns"),
    ("m.csv", "uri,start,end\na.mp4,1,2\nc.mp4,5,3\nb.mp4,1,2\n", "row 2 (line 3)", "its end comes after its start"),
    ("m.csv", "uri,start,end\na.mp4,1,2\nc.mp4,soon,3\nb.mp4,1,2\n", "row 2 (line 3)", "'soon' is no time"),
    ("m.csv", b"uri,caption\na.mp4,x\nc.mp4,caf\xe9\nb.mp4,y\n", "row 2 (line 3)", "not in UTF-8"),
    ("m.csv", b"uri,caption\na.mp4,x\nc\0.mp4,y\nb.mp4,y\n", "row 2 (line 3)", "NUL"),
    ("m.csv", "uri\na.mp4\nwebhdfs://x/y.mp4\nb.mp4\n", "row 2 (line 3)", "webhdfs:// is not read"),
    ("m.jsonl", '{"uri": "a.mp4"}\n{broken\n{"uri": "b.mp4"}\n', "row 2 (line 2)", "it is not JSON"),
    ("m.jsonl", '{"uri": "a.mp4"}\n[1]\n{"uri": "b.mp4"}\n', "row 2 (line 2)", "it is no object"),
    ("m.jsonl", '{"uri": "a.mp4"}\n' + "[" * 100_000 + '\n{"uri": "b.mp4"}\n', "row 2 (line 2)", "it is not JSON"),
    ("m.jsonl", '{"uri": "a.mp4"}\n{"uri": "c.mp4", "caption": {"en": "x"}}\n{"uri": "b.mp4"}\n', "row 2 (line 2)",
     "column caption holds an object"),
    ("m.jsonl", '{"uri": "a.mp4"}\n{"uri": "c.mp4", "caption": [["x"]]}\n{"uri": "b.mp4"}\n', "row 2 (line 2)",
     "column caption holds a list"),
    ("m.json", '["a.mp4", {"uri": {"path": "c.mp4"}}, {"uri": "b.mp4"}]', "row 2", "column uri holds an object"),
    ("m.json", '[{"uri": "a.mp4"}, {"uri": "c.mp4", "spans": [[0, 1], [1, 2]], "captions": ["x", "y", "z"]}, "b.mp4"]',
     "row 2", "2 spans and 3 captions"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "place", "says"), BAD_ROWS)
def test_one_bad_row_fails_alone(tmp_path, name, text, place, says):
    path = manifest(tmp_path / name, text)
    found = read(path)
    assert {"a.mp4", "b.mp4"} <= set(found)
    (why,) = refused(path).values()
    assert why.startswith(f"{place} of {name}: ")
    assert says in why
    assert "c.mp4" not in found


def test_quotes_may_hold_what_they_do_in_csv(tmp_path):
    rows = ['a.mp4,"two\nlines, with a comma"', 'b.mp4,"a ""nice"" dog"', 'c.mp4,"a \\"nice\\" dog"', 'd.mp4,5" wide']
    found = read(manifest(tmp_path / "m.csv", "\n".join(["uri,caption", *rows])))
    assert {n: i.caption for n, i in found.items()} == {
        "a.mp4": "two\nlines, with a comma", "b.mp4": 'a "nice" dog', "c.mp4": 'a "nice" dog', "d.mp4": '5" wide',
    }  # fmt: skip


@given(captions=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), max_size=40),
                         min_size=1, max_size=6))  # fmt: skip
def test_what_a_csv_writer_writes_is_read(tmp_path_factory, captions):
    import csv

    path = tmp_path_factory.mktemp("csv") / "m.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["uri", "caption"], *([f"{i}.mp4", c] for i, c in enumerate(captions))])
    found = read(path)
    for i, caption in enumerate(captions):
        said = caption.strip()
        missing = said.casefold() in ("", "nan", "null", "none", "nat", "<na>")
        assert found[f"{i}.mp4"].caption == (None if missing else said)


def test_rows_without_anything_in_them_are_none(tmp_path):
    assert set(read(manifest(tmp_path / "m.csv", "uri,caption,,\na.mp4,x,,\n,,,\n\n , ,\n"))) == {"a.mp4"}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("m.csv", "name,licence\nx,y\n", "has no column that names a file .*its first line has name, licence"),
        ("m.csv", "a.mp4\nb.mp4\n", "a .txt file holds a path per line"),
        ("m.csv", "uri,caption,caption\na.mp4,x,y\n", "two columns named caption"),
        ("m.csv", "uri,caption\n,x\n", r"no row can be used; row 1 \(line 2\) of m.csv: no value"),
        ("m.jsonl", '["a.mp4"]\n', "m.jsonl"),
        ("m.jsonl", "\xff\xfe", "m.jsonl"),
        ("m.json", '{"a": {"b": 1}}', "no value in a column"),
        ("m.json", "{", "not a readable manifest"),
        ("m.parquet", "PAR1 not really", "not a readable manifest"),
        ("m.csv.gz", "not packed", "not a readable manifest"),
        ("m.csv", "uri\nhttp://127.0.0.1/a.mp4\nb.mp4\n", "allow-http"),
        ("m.csv", "", "m.csv: the list is empty: it has no row"),
        ("m.csv", "uri,caption\n", "m.csv: the list is empty"),
        ("m.txt", "It was a dark night.\nAnd it rained.\n", "names no files"),
    ],
)
def test_a_list_that_is_none_is_one_sentence(tmp_path, name, text, says):
    path = manifest(tmp_path / name, text.encode("latin-1"))
    with pytest.raises(IngestError, match=says) as caught:
        list_inputs([str(path)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ['{"videos": [{"uri": "a.mp4"}, {"uri": "b.mp4"}]}', '["a.mp4", "b.mp4"]',
                                  '{"uri": "a.mp4"}\n{"uri": "b.mp4"}\n'])  # fmt: skip
def test_json_in_the_shapes_it_comes_in(tmp_path, text):
    assert set(read(manifest(tmp_path / "m.json", text))) == {"a.mp4", "b.mp4"}


def test_what_unpacks_or_goes_on_without_end_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest_files, "MAX_UNPACKED_BYTES", 1 << 20)
    monkeypatch.setattr(manifest_files, "MAX_LINE_CHARS", 1 << 16)
    path = manifest(tmp_path / "m.csv.gz", gzip.compress(b"uri\n" + bytes(4 << 20)))
    with pytest.raises(IngestError, match="unpacks to over 1 MiB"):
        read(path)
    path = manifest(tmp_path / "m.jsonl", b'{"uri": "a.mp4"}\n' + b" " * (1 << 17) + b'\n{"uri": "b.mp4"}\n')
    assert set(refused(path)) == {"row 2"}


# --- spans -----------------------------------------------------------------------------------------------------------

TIMES = [("7", 7), ("7.25", 7.25), (7, 7), ("0:07", 7), ("01:02:03.5", 3723.5), ("00:00:07,250", 7.25), ("7.5s", 7.5),
         ("90:00", 5400)]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TIMES)
def test_times(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("bad", ["-1", "1e3", "NaN", "inf", -1, float("inf"), True, [1], "1:2:3:4", "2024-01-01", None])
def test_what_is_no_time(bad):
    with pytest.raises(ValueError, match="is no time"):
        seconds(bad)


@pytest.mark.parametrize(
    ("columns", "row"),
    [("start,end", "1.5,2.5"), ("start_s,end_s", "1.5,2.5"), ("Start Time,End Time", "0:01.5,00:00:02.500"),
     ("begin,stop", "1.5s,2.5s"), ("start_ms,end_ms", "1500,2500"), ("timestamp", '"[1.5, 2.5]"'),
     ("span", "\"['0:01.5', '0:02.5']\""), ("segments", '"[[1.5, 2.5]]"')],
)  # fmt: skip
def test_columns_of_times_are_spans(tmp_path, columns, row):
    path = manifest(tmp_path / "m.csv", f"uri,{columns},caption\na.mp4,{row},words\n")
    assert read(path)["a.mp4"].spans == (Span(1.5, 2.5, ("words",)),)
    assert read(path)["a.mp4"].caption is None


def test_a_file_s_rows_are_one_input_with_all_its_spans(tmp_path):
    rows = ["2,4,later", "0,2,first", "2,4,once more", ",,whole", "5,,on"]
    text = "\n".join(["uri,id,start,end,caption", *(f"a.mp4,x,{row}" for row in rows)])
    found = list_inputs([str(manifest(tmp_path / "m.csv", text))])
    (item,) = found.files
    assert item.captions == ("whole",)
    ends = float("inf")
    assert item.spans == (
        Span(0, 2, ("first",)), Span(0, ends, ("whole",)), Span(2, 4, ("later", "once more")), Span(5, ends, ("on",)),
    )  # fmt: skip
    assert not found.repeated_ids


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_row_without_times_beside_rows_with_times_is_the_whole_file(tmp_path, suffix, order):
    rows = [("a.mp4", None, None, "whole"), ("a.mp4", 0, 1.2, "half"), ("b.mp4", None, None, "alone")][::order]
    if suffix == "json":
        text = json.dumps([dict(zip(("path", "start", "end", "caption"), row, strict=True)) for row in rows])
    else:
        lines = (",".join("" if v is None else str(v) for v in row) for row in rows)
        text = "\n".join(["path,start,end,caption", *lines])
    a, b = list_inputs([str(manifest(tmp_path / f"m.{suffix}", text))]).files
    assert a.spans == (Span(0, 1.2, ("half",)), Span(0, float("inf"), ("whole",)))
    assert (b.spans, b.captions) == ((), ("alone",))


def test_a_folder_that_a_file_with_spans_lies_in_asks_for_no_more(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    listed = manifest(tmp_path / "m.csv", "path,start,end\na.mp4,0,1.2")
    (item,) = list_inputs([str(tmp_path), str(listed)]).files
    assert item.spans == (Span(0, 1.2),)


def test_spans_of_one_row_have_a_caption_each_or_share_one(tmp_path):
    rows = [{"uri": "a.mp4", "timestamps": [["0:00:00.5", "0:00:02"], ["0:00:02", "0:00:03"]], "caption": ["x", "y"]},
            {"uri": "b.mp4", "segments": [{"start": 0, "end": 1}, {"start": 1, "end": 2}], "caption": "z"},
            {"uri": "c.mp4", "segments": ["person", "dog"], "caption": "z"}]  # fmt: skip
    found = read(manifest(tmp_path / "m.json", json.dumps(rows)))
    assert found["a.mp4"].spans == (Span(0.5, 2, ("x",)), Span(2, 3, ("y",)))
    assert found["b.mp4"].spans == (Span(0, 1, ("z",)), Span(1, 2, ("z",)))
    assert (found["c.mp4"].spans, found["c.mp4"].caption) == ((), "z")
