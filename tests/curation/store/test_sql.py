from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.curation.store import Store, StoreError, sql_late, sql_untrusted, write_result
from reelwright.curation.store.schema import field
from reelwright.curation.store.sql import connect
from tests.curation.store.conftest import add_source

WORDS = ["pan_left", 'it\'s "so"', "ünï", ""]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """120 clips of three sources, with scores (some null) and captions."""
    store = Store.open(tmp_path_factory.mktemp("sql") / "store", create=True)
    for source in ("aa", "bb", "cc"):
        add_source(store, source, 40)
    ids = store.read("clips", ["clip_id"]).column(0).to_pylist()
    scores = [None if i % 7 == 0 else (i * 37 % 120) / 10 for i in range(120)]
    rows = pa.table(
        {"clip_id": ids, "score": pa.array(scores, pa.float32()), "caption": [WORDS[i % 4] for i in range(120)]}
    )
    store.merge("clips", rows, "clip_id")
    store.ensure_columns("clips", [field("caption_fingerprint", pa.string(), "", computed_by="caption")])
    return store


@pytest.fixture(scope="module")
def oracle(filled: Store) -> duckdb.DuckDBPyConnection:
    """The same rows in plain DuckDB."""
    con = duckdb.connect(":memory:")
    con.register("clips", filled.read("clips"))
    return con


CONDITIONS = st.sampled_from([
    "score > 5", "score < 3.5", "score >= 1 AND width < 660", "caption = 'pan_left'", "caption LIKE '%ü%'",
    "caption <> ''", "score IS NULL", "width BETWEEN 645 AND 650", "width IN (641, 642, 9)", "num_frames * 2 > 3",
    "source_md5 = 'bb' OR score = 3.7", "NOT (score > 5)", "fps = 25.0", "width % 2 = 0", "caption IN ('', 'ünï')",
    "start_s >= 10.5 AND end_s <= 60", "bitrate_bps IS NULL", "shot_index <> 3",
])  # fmt: skip
SELECTS = st.sampled_from(
    ["*", "* EXCLUDE (caption)", "clip_id", "clip_id, score", "clips.*", "width + 1, clip_id", "caption, clip_id AS c"]
)
ORDERS = st.sampled_from(["score DESC, clip_id", "score NULLS FIRST, clip_id", "clip_id", "width DESC, clip_id DESC"])


@settings(max_examples=25, deadline=None)
@given(
    select=SELECTS,
    where=st.none() | CONDITIONS,
    order=ORDERS,
    limit=st.none() | st.integers(0, 130),
    offset=st.integers(0, 5),
)
def test_sql_over_lance_equals_sql_over_arrow(
    filled: Store, oracle: Any, select: str, where: str | None, order: str, limit: int | None, offset: int
) -> None:
    query = f"SELECT {select} FROM clips" + (f" WHERE {where}" if where else "") + f" ORDER BY {order}"
    if limit is not None:
        query += f" LIMIT {limit} OFFSET {offset}"
    assert filled.sql(query).to_pylist() == oracle.sql(query).to_arrow_table().to_pylist()


@pytest.mark.parametrize(
    ("query", "is_late"),
    [
        ("SELECT * FROM clips ORDER BY score LIMIT 3", True),
        ("SELECT * FROM clips_full c WHERE c.score > 3 ORDER BY c.score LIMIT 3 OFFSET 2", True),
        ("SELECT * FROM clips WHERE score > 3 ORDER BY score", False),
        ("SELECT clip_id, caption FROM clips ORDER BY score LIMIT 3", True),
        ("SELECT clip_id, score FROM clips WHERE score > 3 ORDER BY score LIMIT 3", False),
        ("SELECT count(*) FROM clips LIMIT 1", False),
        ("SELECT DISTINCT caption FROM clips LIMIT 2", False),
        ("SELECT * FROM clips ORDER BY random() LIMIT 2", False),
        ("SELECT width AS score FROM clips ORDER BY score LIMIT 2", False),
        ("SELECT * FROM clips ORDER BY 1 LIMIT 2", False),
        ("SELECT * FROM clips LIMIT 10%", False),
        ("SELECT * FROM clips, shots LIMIT 2", False),
        ("SELECT row_number() OVER () FROM clips LIMIT 2", False),
        ("WITH clips AS (SELECT 1 AS x) SELECT * FROM clips LIMIT 1", False),
        ("SELECT * FROM sources LIMIT 1", False),
        ("not sql", False),
    ],
)
def test_only_queries_that_pick_rows_of_clips_run_in_two_steps(filled: Store, query: str, is_late: bool) -> None:
    assert sql_late.shrink(connect(filled), filled, query) == is_late


def test_views_join_what_belongs_together(filled: Store) -> None:
    rows = filled.sql("SELECT clip_id, uri, licence FROM clips_full WHERE source_md5 = 'bb'")
    assert rows.num_rows == 40
    assert set(rows.column("uri").to_pylist()) == {"/f/bb.mp4"}
    assert filled.sql("SELECT * FROM media LIMIT 1").column_names == ["clip_id", "size"]
    assert "latents" not in filled.sql("SELECT * FROM latents").column_names


def test_the_latest_failure_of_each_kind(store: Store) -> None:
    store.append("failures", [{"uri": "u", "stage": "s", "error": f"e{n}", "attempts": n} for n in (1, 3, 2)])
    store.append("failures", [{"uri": "u", "stage": "other", "error": "o", "attempts": 1}])
    assert set(store.sql("SELECT error FROM failures_latest").column(0).to_pylist()) == {"e3", "o"}


def test_parameters_are_values_and_never_sql(filled: Store) -> None:
    one = filled.sql("SELECT clip_id FROM clips WHERE caption = $c", params={"c": WORDS[1]})
    assert one.num_rows == 30
    assert filled.sql("SELECT clip_id FROM clips WHERE caption = ?", params=["' OR 1=1 --"]).num_rows == 0


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("SELECT captions FROM clips", "'captions' is not a column of clips; columns that look alike: caption"),
        ("SELECT c.widht FROM clips c", "'widht' is not a column of clips; columns that look alike: width"),
        ("SELECT sizee FROM media", "'sizee' is not a column of media; columns that look alike: size"),
        ("SELECT * FROM clip", "'clip' is not a table; tables that look alike: clips"),
        ("SELEC 1", "syntax error at or near \"SELEC\""),
        ("SELECT 1; SELECT 2", "one query at a time"),
        ("", "one query at a time"),
        ("DROP TABLE clips", "only SELECT runs here, and this is DROP"),
        ("-- nothing but this", "this text holds none"),
        ("SELECT blur_scor FROM sources", "'blur_scor' is not a column of sources. See: reel describe sources"),
        ("SELECT score FROM sources", "clips has a column of that name. See: reel describe sources"),
        ("SELECT s.widht FROM sources s JOIN clips c ON s.md5 = c.source_md5", "'widht' is not a column of sources"),
        ("SELECT scor FROM sources s JOIN clips c ON s.md5 = c.source_md5", "a column of clips; columns that look"),
        ("SELECT sprc FROM sources s, clips c", "'sprc' is not a column of sources or clips."),
        ("SELECT licens FROM clips_full", "'licens' is not a column of clips_full; columns that look alike: licence"),
        ("SELECT * EXCLUDE (scor) FROM clips", "'scor' is not a column of clips; columns that look alike: score"),
        ("SELECT * FROM clips JOIN sources USING (licens)", "'licens' is not a column of sources; columns that look"),
        ("PIVOT clips ON captoin USING count(*)", "'captoin' is not a column of clips; columns that look"),
        ("UNPIVOT clips ON scor INTO NAME n VALUE v", "'scor' is not a column of clips"),
        ("WITH w AS (SELECT clip_id AS id FROM clips) SELECT width FROM w", "is not a column of what this part"),
        ("WITH w AS (SELECT clip_id AS id FROM clips) SELECT w.width FROM w", "'width' is not a column of w"),
        ("COPY (PIVOT clips ON caption USING count(*)) TO '/tmp/x'", "only SELECT runs here, and this is COPY"),
        ("CREATE TABLE x AS PIVOT clips ON caption USING count(*)", "only SELECT runs here, and this is CREATE"),
        ("WITH p AS (PIVOT clips ON caption USING count(*)) INSERT INTO clips FROM p", "only SELECT runs here"),
        ("PRAGMA database_list", "only SELECT runs here, and this is PRAGMA"),
        ("EXPLAIN ANALYZE SELECT 1", "only SELECT runs here"),
        ("EXPLAIN /**/ ANALYZE SELECT 1", "only SELECT runs here"),
        ("COPY clips TO '/tmp/x'", "only SELECT runs here"),
        ("SELECT CAST(caption AS INT) FROM clips", "Could not convert string"),
    ],
)  # fmt: skip
def test_mistakes_are_explained_in_a_sentence(filled: Store, query: str, sentence: str) -> None:
    with pytest.raises(StoreError) as error:
        filled.sql(query)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "query",
    [
        "PIVOT clips ON caption USING count(*)",
        "PIVOT (FROM clips WHERE caption <> '') ON caption USING avg(score) GROUP BY source_md5 ORDER BY source_md5;",
        "WITH p AS (PIVOT clips ON caption USING count(*)) SELECT * FROM p",
        "SELECT * FROM (PIVOT clips ON caption USING count(*) GROUP BY source_md5)",
        "/* why */ PIVOT clips ON caption USING count(*) -- insert",
        "UNPIVOT (SELECT clip_id, width, height FROM clips) ON width, height INTO NAME side VALUE pixels",
        "DESCRIBE clips",
        "DESCRIBE SELECT clip_id FROM clips",
        "SUMMARIZE clips",
        "SHOW TABLES",
        "FROM clips",
        "FROM clips SELECT clip_id WHERE width > 650",
        "TABLE sources",
        "VALUES (1, 'a'), (2, 'b')",
        "WITH w AS (SELECT clip_id FROM clips) FROM w",
        "-- which are wide?\nSELECT clip_id FROM clips WHERE width > 650;  -- these",
        "/* a */ ; (SELECT 1) ;",
        "-- what it does\nEXPLAIN SELECT clip_id FROM clips",
    ],
)
def test_whatever_only_returns_rows_runs(filled: Store, query: str) -> None:
    assert filled.sql(query).num_rows


def test_a_pivot_counts_what_is_there(filled: Store) -> None:
    """The same query twice: nothing of the first is left behind."""
    for _ in range(2):
        counts = filled.sql("PIVOT clips ON caption USING count(*) GROUP BY source_md5").to_pylist()
        assert sum(row["pan_left"] for row in counts) == 30


def test_a_query_cannot_name_variables_of_this_process(filled: Store) -> None:
    secret = pa.table({"password": ["hunter2"]})
    with pytest.raises(StoreError, match="'secret' is not a table"):
        filled.sql("SELECT * FROM secret")
    assert secret.num_rows == 1


def test_a_trusted_user_may_read_and_write_own_files(filled: Store, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("clip_id,grade\naa-001,7\n")
    joined = filled.sql(f"SELECT grade FROM clips JOIN '{tmp_path}/mine.csv' USING (clip_id)")
    assert joined.to_pylist() == [{"grade": 7}]
    filled.sql(f"COPY (SELECT clip_id FROM clips) TO '{tmp_path}/out.parquet'", read_only=False)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 120


ATTACKS = [
    "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd'", "FROM read_text('/etc/passwd')",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))", "SELECT * FROM clips WHERE caption IN (FROM glob('/*'))",
    "WITH a AS (FROM read_blob('/etc/hosts')) SELECT * FROM a", "WITH clips AS (FROM glob('/*')) FROM clips",
    "SELECT * FROM parquet_scan('http://127.0.0.1:9/x.parquet')", "FROM 's3://bucket/x.parquet'",
    "COPY (SELECT 1) TO '/tmp/stolen.csv'", "COPY clips FROM '/etc/passwd'", "EXPORT DATABASE '/tmp/stolen'",
    "ATTACH '/tmp/a.db'", "ATTACH ':memory:' AS b", "INSTALL httpfs", "LOAD httpfs", "LOAD '/tmp/evil.so'",
    "PRAGMA database_list", "PRAGMA enable_logging", "CALL pragma_version()", "SET enable_external_access = true",
    "SET lock_configuration = false", "RESET lock_configuration", "SELECT 1; DROP VIEW clips", "DROP VIEW clips",
    "CREATE TABLE x AS SELECT 1", "INSERT INTO clips VALUES (1)", "UPDATE clips SET width = 1", "DELETE FROM clips",
    "CREATE MACRO f() AS 1", "FROM duckdb_settings()", "FROM duckdb_secrets()", "SELECT current_setting('threads')",
    "FROM pg_catalog.pg_class", "FROM information_schema.tables", "SHOW TABLES", "FROM query('SELECT 1')",
    "FROM arrow_scan(1::BIGINT, 2::BIGINT, 3::BIGINT)", "FROM pandas_scan(1)", "FROM sniff_csv('/etc/passwd')",
    "SELECT getenv('HOME')", "SELECT repeat('x', 3000000000)", "SELECT lpad('x', 2000000000, 'y')",
    "SELECT unnest(range(10000000000))", "FROM sqlite_scan('/tmp/a.db', 'b')",
    "FROM json_execute_serialized_sql('{}')",
    "EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT 1", "SELECT write_log('x')", "VACUUM", "CHECKPOINT",
    "FROM checkpoint()",
    "FROM enable_logging()", "BEGIN TRANSACTION", "PREPARE p AS SELECT 1", "EXECUTE p", "USE memory",
    "FROM repeat('x', 9)", "PIVOT clips ON caption USING count(*)", "FROM (PIVOT clips ON caption USING count(*))",
]  # fmt: skip


@pytest.mark.parametrize("query", ATTACKS)
def test_sql_from_a_page_reaches_nothing_but_the_store(filled: Store, query: str) -> None:
    with pytest.raises(StoreError):
        sql_untrusted(filled, query, timeout_s=5)
    assert not list(Path("/tmp").glob("stolen*"))


def test_sql_from_a_page_reads_tables_views_and_its_own_names(filled: Store) -> None:
    query = "WITH wide AS (SELECT clip_id FROM clips_full WHERE width > $w) SELECT count(*) AS n FROM wide, range(2)"
    result = sql_untrusted(filled, query, params={"w": 650})
    assert result.rows.to_pylist() == [{"n": 2 * 29 * 3}]


def test_sql_from_a_page_is_bounded_in_rows_and_time(filled: Store) -> None:
    result = sql_untrusted(filled, "SELECT * FROM clips a, clips b, clips c", max_rows=10)
    assert result.is_cut
    assert result.rows.num_rows == 10
    assert not sql_untrusted(filled, "SELECT clip_id FROM clips", max_rows=120).is_cut
    start = time.monotonic()
    with pytest.raises(StoreError, match=r"took longer than 0.3 s"):
        sql_untrusted(filled, "SELECT count(*) FROM range(100000000000) r(x) WHERE x * x % 7 = 1", timeout_s=0.3)
    assert time.monotonic() - start < 60  # in full it takes hours


HOSTILE = pa.table({"a": ['x,"y"\nz', "\x1b[2J", None], "n": [1.5, float("nan"), None], "l": [[1, 2], [], None]})


def test_results_are_csv_that_python_reads_back(tmp_path: Path) -> None:
    import csv

    assert write_result(HOSTILE, "csv", tmp_path / "r.csv") == 3
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["a", "n", "l"]
    assert rows[1] == ['x,"y"\nz', "1.5", "[1, 2]"]
    assert len(rows) == 4


def test_results_are_json_without_nan(tmp_path: Path) -> None:
    expected = [
        {"a": 'x,"y"\nz', "n": 1.5, "l": [1, 2]},
        {"a": "\x1b[2J", "n": None, "l": []},
        dict.fromkeys("anl"),
    ]
    write_result(HOSTILE.to_reader(), "jsonl", tmp_path / "r.jsonl")
    assert [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()] == expected
    write_result(HOSTILE.to_reader(), "json", tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == expected
    write_result(HOSTILE.slice(0, 0), "json", tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_every_kind_of_value_is_json_and_csv(filled: Store, tmp_path: Path) -> None:
    """What JSON has no word for is text or null; a whole number stays one."""
    kinds = """SELECT 'nan'::FLOAT AS nan, ['-inf'::DOUBLE, 1] AS list, {'x': 'nan'::DOUBLE} AS struct,
      MAP {'k': 'inf'::FLOAT} AS map, 'b'::ENUM ('a', 'b') AS enum,
      TIMESTAMP '2026-01-02 03:04:05' AS at, TIMESTAMPTZ '2026-01-02 03:04:05+00' AS atz,
      TIMESTAMP_NS '2026-01-02 03:04:05.123456789' AS ns, '12026-01-02'::DATE AS late, 'infinity'::TIMESTAMP AS never,
      INTERVAL 3 DAY AS days, TIME '03:04:05' AS time, 1.5::DECIMAL(9, 2) AS decimal, sum(3)::HUGEINT AS huge,
      '\\xAB\\x00'::BLOB AS bytes, [1.5::FLOAT, 2]::FLOAT[2] AS vector, true AS yes, NULL AS none,
      '\ud7ff' AS text, union_value(n := 2) AS "union", '6c4d7f0e-0000-4000-8000-000000000000'::UUID AS uuid"""
    for format, name in (("json", "r.json"), ("jsonl", "r.jsonl"), ("csv", "r.csv"), ("table", "r.txt")):
        assert write_result(filled.sql_stream(kinds), format, tmp_path / name) == 1
    (row,) = json.loads((tmp_path / "r.json").read_text())
    assert row == json.loads((tmp_path / "r.jsonl").read_text())
    expected = {"nan": None, "list": [None, 1], "struct": {"x": None}, "map": [["k", None]], "vector": [1.5, 2],
                "at": "2026-01-02T03:04:05", "time": "03:04:05", "decimal": 1.5, "huge": 3, "bytes": "ab00",
                "yes": True, "none": None, "text": "\ud7ff", "enum": "b"}  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row["ns"].endswith("05.123456789")
    assert row["late"].startswith("12026-01-02")


def test_an_object_never_loses_one_of_two_columns_of_a_name(filled: Store, tmp_path: Path) -> None:
    both = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    for format in ("json", "jsonl"):
        with pytest.raises(StoreError, match="two columns of the query are called 'a'"):
            write_result(both, format, tmp_path / "r")
    assert write_result(both, "csv", tmp_path / "r.csv") == 1


def test_csv_lines_end_as_other_tools_of_a_shell_expect(tmp_path: Path) -> None:
    write_result(HOSTILE, "csv", tmp_path / "r.csv")
    assert b"\r" not in (tmp_path / "r.csv").read_bytes()


def test_a_table_shortens_cells_as_asked() -> None:
    rows = pa.table({"text": ["word " * 40]})
    for width, longest in ((60, 60), (20, 20), (None, 199)):
        out = io.BytesIO()
        write_result(rows, "table", out, width=width)
        assert len(out.getvalue().decode().splitlines()[2]) == longest


def test_results_are_parquet(filled: Store, tmp_path: Path) -> None:
    assert write_result(filled.sql_stream("SELECT * FROM clips"), "parquet", tmp_path / "r.parquet") == 120
    assert pq.read_table(tmp_path / "r.parquet").num_rows == 120


def test_a_table_on_a_screen_holds_no_control_characters() -> None:
    out = io.BytesIO()
    write_result(HOSTILE, "table", out)
    text = out.getvalue().decode()
    assert "\x1b" not in text
    assert text.splitlines()[-1] == "(3 rows)"
    assert text.splitlines()[0].split() == ["a", "n", "l"]


def test_a_failed_write_leaves_no_file_and_says_why(filled: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        write_result(HOSTILE, "csv", tmp_path / "no" / "r.csv")
    with pytest.raises(StoreError, match="Could not convert"):
        write_result(filled.sql_stream("SELECT CAST(caption AS INT) FROM clips"), "csv", tmp_path / "r.csv")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="'xml' is not a format"):
        write_result(HOSTILE, "xml")
