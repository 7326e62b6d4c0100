from __future__ import annotations

import csv
import json
import os
import stat
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.export import FORMATS, ExportOptions, export
from tests.curation.store.conftest import add_source, fake_mp4

HOSTILE = [
    "plain",
    'quo"te, comma',
    "line\nbreak\r\nand more",
    "../../etc/passwd",
    "ünï ☃ \x7f \x01",
    "NA",
    "12",
    "",
    None,
]
EVIL_ID = "../../evil"
QUERY = "SELECT clip_id FROM clips ORDER BY clip_id"


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Nine clips with hostile captions; a tenth whose id is a path."""
    store = Store.open(tmp_path_factory.mktemp("export") / "store", create=True)
    ids = add_source(store, "aa", len(HOSTILE))
    store.merge("clips", pa.table({"clip_id": ids, "caption": HOSTILE}), "clip_id")
    store.append("clips", [{"clip_id": EVIL_ID, "source_md5": "aa", "width": 641, "height": 360, "num_frames": 50}])
    store.commit_media([store.write_media([EVIL_ID], [fake_mp4(EVIL_ID)])])
    embedding = pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))
    store.merge("clips", pa.table({"clip_id": ids[:1], "caption_embedding": embedding}), "clip_id")
    store.snapshots.create("all", QUERY)
    return store


def expected(store: Store) -> dict[str, str]:
    """mp4 digest by caption would lose repeats, so: clip id -> caption."""
    rows = store.sql("SELECT clip_id, caption FROM clips ORDER BY clip_id").to_pylist()
    return {row["clip_id"]: row["caption"] or "" for row in rows}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("of", [{"sql": QUERY}, {"snapshot": "all"}], ids=["query", "snapshot"])
def test_counts_add_up_and_nothing_leaves_the_folder(filled: Store, tmp_path: Path, format: str, of: dict) -> None:
    result = export(filled, tmp_path / "deep" / "out", format, **of)
    assert (result.clips, result.empty_captions) == (10, 3)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    modes = {(p.is_dir(), stat.S_IMODE(p.stat().st_mode)) for p in (tmp_path / "deep").rglob("*")}
    assert modes <= {(True, 0o755), (False, 0o644)}, "others may read them"
    assert all(p.is_relative_to(tmp_path / "deep" / "out") for p in files)
    assert len(files) == result.files + 2  # and what it says of itself
    assert result.clips == result.empty_captions + sum(result.caption_kinds.values())
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".part")]


@pytest.mark.parametrize("format", FORMATS)
def test_a_format_that_may_be_moved_says_nowhere_where_it_lies(filled: Store, tmp_path: Path, format: str) -> None:
    export(filled, tmp_path / "out", format, sql=QUERY)
    (tmp_path / "out" / "reelwright-export.json").unlink()
    texts = [p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.suffix in (".json", ".jsonl", ".toml", ".csv")]
    assert any(str(tmp_path).encode() in text for text in texts) != FORMATS[format].portable


def test_webdataset_is_read_back_by_tarfile(filled: Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "out", "webdataset", snapshot="all", options=ExportOptions(shard_bytes=6_000))
    shards = sorted((tmp_path / "out").glob("*.tar"))
    assert len(shards) > 2
    found = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            members = tar.getmembers()
            data = {m.name: tar.extractfile(m).read() for m in members}  # type: ignore[union-attr]
        assert sum(len(b) for n, b in data.items() if n.endswith(".mp4")) <= 6_000 or len(data) == 2
        assert [m.name.partition(".")[0] for m in members[::2]] == [m.name.partition(".")[0] for m in members[1::2]]
        for name in [n for n in data if n.endswith(".json")]:
            row = json.loads(data[name])
            assert data[name.replace(".json", ".mp4")] == fake_mp4(row["clip_id"])
            assert row["weight"] == 1.0
            assert "caption_embedding" not in row
            found[row["clip_id"]] = row["caption"]
    assert found == expected(filled)


def test_the_same_snapshot_gives_the_same_bytes(filled: Store, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export(filled, tmp_path / name, "webdataset", snapshot="all")
    assert (tmp_path / "a/shard-000000.tar").read_bytes() == (tmp_path / "b/shard-000000.tar").read_bytes()


def test_a_folder_has_every_column_and_the_path_of_each_file(filled: Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "out", "folder", sql=QUERY)
    rows = pq.read_table(tmp_path / "out" / "clips.parquet").to_pylist()
    assert {r["clip_id"]: r["caption"] or "" for r in rows} == expected(filled)
    for row in rows:
        assert (tmp_path / "out" / row["file"]).read_bytes() == fake_mp4(row["clip_id"])


def test_diffusion_pipe_finds_captions_by_the_name_of_each_video(filled: Store, tmp_path: Path) -> None:
    export(filled, tmp_path / 'o"ut', "diffusion-pipe", sql=QUERY)
    config = tomllib.loads((tmp_path / 'o"ut' / "dataset.toml").read_text())
    folder = Path(config["directory"][0]["path"])
    assert config["frame_buckets"] == [29, 45], "50 frames at 25 fps, resampled to 16 and to 24"
    assert config["resolutions"] == [[640, 352]]
    listed = json.loads((folder / "captions.json").read_text(encoding="ascii"))
    assert {p.name for p in folder.glob("*.mp4")} == set(listed)
    want = expected(filled)
    evil = next(name for name in listed if name.startswith("clip-"))
    assert listed == {evil if i == EVIL_ID else f"{i}.mp4": [caption] for i, caption in want.items()}


def test_musubi_tuner_finds_path_and_caption_on_each_line(filled: Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "out", "musubi-tuner", sql=QUERY)
    rateless, at_25 = tomllib.loads((tmp_path / "out" / "dataset.toml").read_text())["datasets"]
    assert ("source_fps" in rateless, at_25["source_fps"]) == (False, 25.0)
    texts = [Path(data["video_jsonl_file"]).read_text().split("\n")[:-1] for data in (at_25, rateless)]
    rows = [json.loads(line) for lines in texts for line in lines]
    want = {i: caption for i, caption in expected(filled).items() if i != EVIL_ID} | {EVIL_ID: ""}
    assert all(set(row) == {"video_path", "caption"} for row in rows)
    assert [row["caption"] for row in rows] == list(want.values())
    assert [Path(row["video_path"]).read_bytes() for row in rows] == [fake_mp4(i) for i in want]


def test_diffsynth_finds_video_and_prompt(filled: Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "out", "diffsynth", sql=QUERY)
    with (tmp_path / "out" / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"] for row in rows] == list(expected(filled).values())
    as_json = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().split("\n")[:-1]]
    assert as_json == rows
    assert [(tmp_path / "out" / row["video"]).read_bytes() for row in rows] == [fake_mp4(i) for i in expected(filled)]


def test_a_query_s_own_caption_comes_before_the_clip_s(filled: Store, tmp_path: Path) -> None:
    query = "SELECT clip_id, 'wide: ' || width AS caption, 7 AS grade FROM clips WHERE clip_id = 'aa-001'"
    export(filled, tmp_path / "out", "folder", sql=query)
    (row,) = pq.read_table(tmp_path / "out" / "clips.parquet").to_pylist()
    assert (row["caption"], row["grade"], row["num_frames"]) == ("wide: 641", 7, 50)


@pytest.mark.parametrize("format", FORMATS)
def test_a_query_may_call_anything_by_the_name_of_a_column(filled: Store, tmp_path: Path, format: str) -> None:
    odd = "SELECT clip_id, 'heavy' AS weight, 'wide' AS width, 'nan'::DOUBLE AS fps, [1] AS num_frames FROM clips"
    assert export(filled, tmp_path / "out", format, sql=odd).clips == 10


def test_a_store_without_captions_exports_empty_ones_and_counts_them(store: Store, tmp_path: Path) -> None:
    add_source(store, "aa", 3)
    assert export(store, tmp_path / "out", "musubi-tuner", sql=QUERY).empty_captions == 3


def test_what_exists_is_replaced_only_if_it_is_an_export_and_force_says_so(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(filled, out, "folder", sql=QUERY)
    with pytest.raises(StoreError, match=r"already holds an export; .* --force"):
        export(filled, out, "diffsynth", sql=QUERY)
    export(filled, out, "diffsynth", sql=QUERY, force=True)
    assert not (out / "clips.parquet").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not an export of reel's, so it stays"):
        export(filled, tmp_path / "home", "folder", sql=QUERY, force=True)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("format", "of", "sentence"),
    [
        ("musubi", {"sql": QUERY}, "did you mean musubi-tuner"),
        ("xml", {"sql": QUERY}, "'xml' is not an export format; choose one of: diffsynth"),
        ("folder", {}, "either a query or a snapshot"),
        ("folder", {"sql": QUERY, "snapshot": "all"}, "either a query or a snapshot"),
        ("folder", {"snapshot": "al"}, "there is no snapshot 'al'; names that look alike: all"),
        ("folder", {"sql": "SELECT width FROM clips"}, "has to return clip_id once"),
        ("folder", {"sql": f"({QUERY}) UNION ALL ({QUERY})"}, "twice; return each clip once"),
        ("folder", {"sql": QUERY.replace("ORDER", "WHERE false ORDER")}, "returns no clip"),
        ("folder", {"sql": "SELECT 'nobody' AS clip_id"}, "clip nobody has no media"),
    ],
)
def test_mistakes_are_explained_and_leave_nothing_behind(
    filled: Store, tmp_path: Path, format: str, of: dict, sentence: str
) -> None:
    with pytest.raises(StoreError) as error:
        export(filled, tmp_path / "out", format, **of)
    assert sentence in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["webdataset", "folder"])
def test_an_object_store_gets_the_files_that_a_folder_gets(filled: Store, tmp_path: Path, format: str) -> None:
    import fsspec

    files, uri = fsspec.filesystem("memory"), f"memory://exports/{format}"
    here = export(filled, tmp_path / "out", format, sql=QUERY)
    there = export(filled, uri, format, sql=QUERY)
    assert (there.clips, there.bytes, there.files, there.path) == (here.clips, here.bytes, here.files, uri)
    names = {p.relative_to(tmp_path / "out").as_posix(): p for p in (tmp_path / "out").rglob("*") if p.is_file()}
    root = f"/exports/{format}"
    assert {name.removeprefix(f"{root}/") for name in files.find(root)} == set(names)
    for name, path in names.items():
        if name != "reelwright-export.json":
            assert files.cat_file(f"{root}/{name}") == path.read_bytes()
    with pytest.raises(StoreError, match="already holds an export"):
        export(filled, uri, format, sql=QUERY)
    files.pipe_file(f"{root}/shard-000009.tar", b"of an earlier, longer export")
    export(filled, uri, format, sql=QUERY, force=True)
    assert len(files.find(root)) == len(names)
    files.rm_file(f"{root}/reelwright-export.json")
    with pytest.raises(StoreError, match="not an export"):
        export(filled, uri, format, sql=QUERY, force=True)


@pytest.mark.parametrize(("uri", "format", "why"), [
    ("memory://exports/x", "diffusion-pipe", "their place on this machine"), ("https://host/x", "webdataset", "s3://"),
    ("s3://bucket", "webdataset", "names no folder"), ("s3://a/b::file:///x", "webdataset", "s3://"),
])  # fmt: skip
def test_an_address_that_cannot_hold_an_export_is_refused(filled, tmp_path, monkeypatch, uri, format, why) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=why):
        export(filled, uri, format, sql=QUERY)
    assert not list(tmp_path.iterdir())
