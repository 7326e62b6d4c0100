"""What a user names becomes a list of inputs, in one order, with nothing lost silently."""

import http.server
import json
import socket
import threading
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.ingest import IngestError, list_inputs
from curation.media.decode import Video
from curation.media.probe import md5_of
from tests.footage import frames, write


def names(found) -> list[str]:
    return [Path(i.uri).name for i in found.files]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "footage"
    (root / "deep" / "er").mkdir(parents=True)
    (root / ".hidden").mkdir()
    for name in ("b.mp4", "a.MOV", "deep/c.mkv", "deep/er/d e.webm", "notes.txt", "deep/poster.jpg", ".hidden/x.mp4",
                 "._b.mp4"):  # fmt: skip
        (root / name).write_bytes(b"x")
    return root


def test_a_folder_is_walked_and_what_is_passed_over_is_told(folder):
    found = list_inputs([str(folder)])
    assert names(found) == ["a.MOV", "b.mp4", "c.mkv", "d e.webm"]
    assert [i.uri for i in found.files] == sorted(i.uri for i in found.files)
    assert sorted(Path(p).name for p in found.ignored) == ["notes.txt", "poster.jpg"]
    assert all(Path(i.uri).is_absolute() for i in found.files)


def test_each_file_is_listed_once_however_it_is_named(folder, monkeypatch):
    monkeypatch.chdir(folder)
    ways = ["b.mp4", str(folder / "b.mp4"), f"file://{folder}/b.mp4", "*.mp4", "../footage/b.mp4", "."]
    found = list_inputs(ways)
    assert names(found) == ["a.MOV", "b.mp4", "c.mkv", "d e.webm"]


def test_globs(folder):
    assert names(list_inputs([str(folder / "*.mp4")])) == ["b.mp4"]
    assert names(list_inputs([str(folder / "**" / "*")])) == ["a.MOV", "b.mp4", "c.mkv", "d e.webm"]


def test_a_name_with_glob_characters_is_first_a_name(tmp_path):
    (tmp_path / "take [1].mp4").write_bytes(b"x")
    assert names(list_inputs([str(tmp_path / "take [1].mp4")])) == ["take [1].mp4"]


def test_a_file_named_outright_needs_no_suffix(tmp_path):
    (tmp_path / "footage").write_bytes(b"x")
    assert names(list_inputs([str(tmp_path / "footage")])) == ["footage"]


ROWS = [
    {"uri": "clips/a.mp4", "source_id": "id-a", "licence": "CC-BY", "caption": "a boat"},
    {"uri": "b.mp4", "source_id": "id-b", "licence": None, "caption": None},
]


def _manifest(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(v or "" for v in r.values()) for r in rows)]
        path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    else:
        path.write_text("\n".join(json.dumps(r) for r in rows) + "\n\n")
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_manifests_are_relative_to_themselves(tmp_path, suffix):
    found = list_inputs([str(_manifest(tmp_path / f"list.{suffix}", ROWS))])
    assert [i.uri for i in found.files] == [str(tmp_path / "b.mp4"), str(tmp_path / "clips/a.mp4")]
    b, a = found.files
    assert (a.source_id, a.licence, a.caption) == ("id-a", "CC-BY", "a boat")
    assert (b.source_id, b.licence, b.caption) == ("id-b", None, None)


def test_columns_go_by_the_names_people_use(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("video_path,id,license,text\nx.mp4,7,CC0,words\n")
    (item,) = list_inputs([str(path)]).files
    assert (Path(item.uri).name, item.source_id, item.licence, item.caption) == ("x.mp4", "7", "CC0", "words")


def test_a_manifest_and_its_folder_together_give_one_input_with_the_manifest_s_facts(folder):
    (folder / "list.csv").write_text("uri,licence\nb.mp4,CC-BY\n")
    for order in ([folder, folder / "list.csv"], [folder / "list.csv", folder]):
        found = list_inputs([str(p) for p in order])
        assert {Path(i.uri).name: i.licence for i in found.files}["b.mp4"] == "CC-BY"
        assert len(found.files) == 4


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("m.csv", "name,licence\nx,y\n", "row 1: no value in a column named"),
        ("m.csv", "uri\n\n,\n", "row 1: no value"),
        ("m.jsonl", '{"uri": "a.mp4"}\n{broken\n', "not a readable manifest"),
        ("m.jsonl", '["a.mp4"]\n', "m.jsonl"),
        ("m.jsonl", '"a.mp4"\n', "m.jsonl"),
        ("m.jsonl", "\xff\xfe", "m.jsonl"),
        ("m.parquet", "PAR1 not really", "not a readable manifest"),
        ("m.csv", "uri\nhttp://127.0.0.1/a.mp4\n", "allow-http"),
        ("m.csv", "", "no video files"),
    ],
)
def test_a_bad_manifest_is_one_sentence(tmp_path, name, text, says):
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(IngestError, match=says):
        list_inputs([str(path)])


@pytest.mark.parametrize("given", [["missing.mp4"], [], ["nothing/*.mp4"], ["nosuch://bucket/x"]])
def test_nothing_to_read_is_one_sentence(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IngestError) as caught:
        list_inputs(given)
    assert "\n" not in str(caught.value)


def test_a_remote_folder_is_listed(tmp_path):
    files = fsspec.filesystem("memory")
    good = write(tmp_path / "a.mp4", frames(5)).read_bytes()
    for name in ("/bucket/b.mp4", "/bucket/deep/a.mp4", "/bucket/readme.md"):
        files.pipe(name, good)
    try:
        found = list_inputs(["memory://bucket"])
        assert [i.uri for i in found.files] == ["memory:///bucket/b.mp4", "memory:///bucket/deep/a.mp4"]
        assert len(found.ignored) == 1
        for item in found.files:
            with Video(item.uri) as video:
                assert len(list(video.frames())) == 5
            assert md5_of(item.uri)["bytes"] == len(good)
        assert list_inputs(["memory://bucket/b.mp4"]).files[0].uri == "memory:///bucket/b.mp4"
        with pytest.raises(IngestError):
            list_inputs(["memory://empty"])
    finally:
        files.rm("/bucket", recursive=True)


@pytest.fixture
def bucket():
    """Some files on a file system that only fsspec knows."""
    files = fsspec.filesystem("memory")
    rows = b"uri,licence\nx/a.mp4,CC-BY\nmemory://bucket/x/deep/c.mkv,CC0\n"
    for name, data in (("x/a.mp4", b"1"), ("x/b.mov", b"2"), ("x/deep/c.mkv", b"3"), ("x/notes.txt", b"4"),
                       ("m.csv", rows), ("local.csv", b"uri\n/etc/passwd.mp4\n"),
                       ("web.jsonl", b'{"uri": "http://127.0.0.1/a.mp4"}')):  # fmt: skip
        files.pipe(f"/bucket/{name}", data)
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


def test_globs_of_remote_files(bucket):
    def named(glob: str) -> list[str]:
        return [i.uri.removeprefix("memory:///bucket/") for i in list_inputs([f"{bucket}/{glob}"]).files]

    assert named("x/*.mp4") == ["x/a.mp4"]
    assert named("**/*.m*") == ["x/a.mp4", "x/b.mov", "x/deep/c.mkv"]
    assert named("x/*") == ["x/a.mp4", "x/b.mov"]
    for nothing in ("x/*.avi", "x/*.txt"):
        with pytest.raises(IngestError, match="no video files"):
            named(nothing)


def test_remote_manifests_are_read_and_name_no_file_of_this_machine(bucket):
    found = list_inputs([f"{bucket}/m.csv"]).files
    assert [(i.uri, i.licence) for i in found] == [
        ("memory://bucket/x/a.mp4", "CC-BY"),
        ("memory://bucket/x/deep/c.mkv", "CC0"),
    ]
    with pytest.raises(IngestError, match="a local file"):
        list_inputs([f"{bucket}/local.csv"])
    with pytest.raises(IngestError, match="--allow-http"):
        list_inputs([f"{bucket}/web.jsonl"])
    with pytest.raises(IngestError, match="cannot read"):
        list_inputs([f"{bucket}/missing.csv"])


@pytest.fixture
def web(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    write(tmp_path / "a b.mp4", frames(5))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_web_is_fetched_only_where_allowed(web):
    with pytest.raises(IngestError, match="--allow-http"):
        list_inputs([f"{web}/a%20b.mp4"])
    (item,) = list_inputs([f"{web}/a%20b.mp4"], allow_http=True).files
    with Video(item.uri) as video:
        assert len(list(video.frames())) == 5


WAYS_TO_THE_WEB = [
    "HTTP://127.0.0.1:{port}/a.mp4",
    "https://127.0.0.1:{port}/a.mp4",
    "simplecache::http://127.0.0.1:{port}/a.mp4",
    "zip://a.mp4::http://127.0.0.1:{port}/x.zip",
    "zip://a.mp4::simplecache::http://127.0.0.1:{port}/x.zip",
    "reference://a.mp4::http://127.0.0.1:{port}/x.json",
    "s3://bucket/a.mp4::http://127.0.0.1:{port}/x",
    "webhdfs://127.0.0.1:{port}/a.mp4",
    "github://o:r@main/a.mp4",
    "sftp://127.0.0.1:{port}/a.mp4",
    "jlab://127.0.0.1:{port}/a.mp4",
]


def test_no_other_spelling_of_the_web_gets_past(tmp_path):
    """Named, or in a manifest; and nothing is asked of a server meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for way in WAYS_TO_THE_WEB:
            uri = way.format(port=server.getsockname()[1])
            (tmp_path / "m.jsonl").write_text(json.dumps({"uri": uri}))
            for name in (uri, str(tmp_path / "m.jsonl")):
                with pytest.raises(IngestError):
                    list_inputs([name])
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
