"""What a user names becomes a list of inputs, in one order, with nothing lost silently."""

import contextlib
import glob
import http.server
import os
import socket
import threading
from pathlib import Path

import fsspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reelwright.curation.ingest.folders import Folders
from reelwright.curation.ingest.inputs import ManifestConfig, RepeatedId, RepeatedIds
from reelwright.curation.ingest.resolve import IngestError, NothingFound, inputs_in_words, list_inputs
from reelwright.curation.media.decode import Video
from reelwright.curation.media.probe import md5_of
from tests.footage import frames, write


def names(found) -> list[str]:
    return [Path(i.uri).name for i in found.files]


def reasons(found) -> dict[str, str]:
    return {Path(s.path).name: s.reason for s in found.skipped}


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
    assert reasons(found) == {
        "notes.txt": "a list, read where it is named itself (.txt)",
        "poster.jpg": "not a video by its name (.jpg)",
        ".hidden": "a hidden folder",
        "._b.mp4": "hidden",
    }
    assert all(Path(i.uri).is_absolute() for i in found.files)


def test_each_file_is_listed_once_however_it_is_named(folder, monkeypatch):
    monkeypatch.chdir(folder)
    ways = ["b.mp4", str(folder / "b.mp4"), f"file://{folder}/b.mp4", "*.mp4", "../footage/b.mp4", "."]
    found = list_inputs(ways)
    assert names(found) == ["a.MOV", "b.mp4", "c.mkv", "d e.webm"]


def test_what_cameras_and_recorders_name_their_files_is_known(tmp_path):
    known = ["insv", "lrv", "360", "mod", "tod", "m2t", "3gpp", "dav", "trp", "m1v", "mp2v", "vro", "evo", "dvr-ms",
             "mk3d", "h265", "266", "mjpg", "M2P", "REC"]  # fmt: skip
    for i, suffix in enumerate(known):
        (tmp_path / f"{i:02d}.{suffix}").write_bytes(b"x")
    assert len(list_inputs([str(tmp_path)]).files) == len(known)


def test_a_video_without_its_suffix_is_named_and_read_where_it_is_named_itself(tmp_path):
    film = write(tmp_path / "a.mp4", frames(3))
    for name in ("clip_0001", "b.dat", "Day 3. Wind from the west and more", "c.mp4.part"):
        (tmp_path / name).write_bytes(film.read_bytes())
    (tmp_path / "words.dat").write_text("no video")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    found = list_inputs([str(tmp_path)])
    assert names(found) == ["a.mp4"]
    assert reasons(found) == {
        "clip_0001": "looks like mp4, read where it is named itself (no suffix)",
        "b.dat": "looks like mp4, read where it is named itself (.dat)",
        "Day 3. Wind from the west and more": "looks like mp4, read where it is named itself (an odd suffix)",
        "c.mp4.part": "an unfinished download (.part)",
        "words.dat": "not a video by its name (.dat)",
        "pipe": "no regular file",
        "broken": "a link to nothing",
    }
    assert names(list_inputs([str(tmp_path / "b.dat")])) == ["b.dat"]
    assert "skipped 7 files and folders: " in inputs_in_words(found, ManifestConfig())[0]


def test_linked_folders_are_walked_once_and_never_in_a_circle(tmp_path):
    disk, root = tmp_path / "disk", tmp_path / "footage"
    (disk / "deep").mkdir(parents=True)
    (root / "sub").mkdir(parents=True)
    for path in (disk / "a.mp4", disk / "deep" / "b.mp4", root / "sub" / "c.mp4"):
        path.write_bytes(b"x")
    (root / "linked").symlink_to(disk)
    (root / "again").symlink_to(disk)
    (root / "a_sub").symlink_to(root / "sub")
    (disk / "deep" / "up").symlink_to(root)
    (root / "sub" / "self").symlink_to(root / "sub")
    found = list_inputs([str(root)])
    assert [i.uri.removeprefix(f"{root}/") for i in found.files] == ["again/a.mp4", "again/deep/b.mp4", "sub/c.mp4"]
    circle = "a link to a folder that is read already"
    assert reasons(found) == {"linked": circle, "a_sub": circle, "up": circle, "self": circle}
    both = list_inputs([str(root), str(disk)])
    assert [i.uri for i in both.files] == sorted(map(str, [disk / "a.mp4", disk / "deep/b.mp4", root / "sub/c.mp4"]))


def test_a_glob_of_all_below_follows_links_and_ends(tmp_path):
    root, disk = tmp_path / "in", tmp_path / "disk"
    (root / "a" / ".hidden").mkdir(parents=True)
    disk.mkdir()
    for path in (root / "a" / "x1.mp4", root / "a" / ".hidden" / "x2.mp4", root / "a" / ".x3.mp4", disk / "x4.mp4",
                 root / "x5.mov", root / "b[1].mp4"):  # fmt: skip
        path.write_bytes(b"x")
    for name in ("one", "two", "three"):  # paths through them are without number
        (root / "a" / name).symlink_to(root)
    (root / "disk").symlink_to(disk)
    assert names(list_inputs([f"{root}/**/x*.mp4"])) == ["x1.mp4", "x4.mp4"]
    assert names(list_inputs([f"{root}/**"])) == ["x1.mp4", "b[1].mp4", "x4.mp4", "x5.mov"]
    assert names(list_inputs([f"{root}/**/[x-z]?.m*", str(root)])) == ["x1.mp4", "b[1].mp4", "x4.mp4", "x5.mov"]
    assert names(list_inputs([f"{root}/*/**/*4.mp4"])) == ["x4.mp4"]
    assert names(list_inputs([f"{root}/**/[!x]*.mp4"])) == ["b[1].mp4"]


NAMES = st.text("ab.[]x!-", min_size=1, max_size=4).filter(lambda n: n not in (".", ".."))


PARTS = ["**", "*", "a*", "?b", "[ab]*", "[!a]", "*.x", ".*", "x"]


@given(
    made=st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=8),
    pattern=st.lists(st.sampled_from(PARTS), max_size=3),
)
@example(made=[["a", ".b", "x"], [".b", "ab"]], pattern=[".*", "*"])
def test_a_pattern_matches_what_python_s_glob_does(tmp_path_factory, made, pattern):
    root = tmp_path_factory.mktemp("glob")
    for parts in made:
        path = root.joinpath(*parts)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.is_dir() or path.write_bytes(b"")
    whole = "/".join([glob.escape(str(root)), "**", *pattern])
    expected = {p for p in glob.glob(whole, recursive=True) if os.path.isfile(p)}
    assert set(Folders(lambda path, why: None).files(str(root), whole)) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's eyes")
def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    closed = tmp_path / "in" / "closed"
    closed.mkdir(parents=True)
    (tmp_path / "in" / "a.mp4").write_bytes(b"x")
    (closed / "b.mp4").write_bytes(b"x")
    closed.chmod(0)
    is_root = os.geteuid() == 0  # for whom no folder is closed
    if is_root:
        for parent in (tmp_path, *tmp_path.parents[:4]):  # pytest keeps its folders to their owner
            if parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o055)
        os.seteuid(65534)
    try:
        found = list_inputs([str(tmp_path / "in")])
    finally:
        if is_root:
            os.seteuid(0)
    assert names(found) == ["a.mp4"]
    assert reasons(found) == {"closed": "a folder that cannot be read (Permission denied)"}


def test_names_that_are_not_utf_8_are_counted(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4"), "wb") as file:
        file.write(b"x")
    (skipped,) = list_inputs([str(tmp_path)]).skipped
    assert (os.fsencode(skipped.path)[-8:], skipped.reason) == (b"caf\xe9.mp4", "not named in UTF-8; rename it")


def test_where_nothing_is_left_it_says_what_there_was(tmp_path):
    (tmp_path / "list.csv").write_text("uri\na.mp4\n")
    with pytest.raises(NothingFound, match=r"skipped: 1 × a list, .* \(\.csv\)") as caught:
        list_inputs([str(tmp_path)])
    assert [Path(s.path).name for s in caught.value.skipped] == ["list.csv"]


SAME = "uri,id\na.mp4,x1\nb.mp4,x1\nb.mp4,x1\nc.mp4,x2\n"


def test_ids_that_several_files_have_are_named_or_refused(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text(SAME)
    found = list_inputs([str(path)])
    assert found.repeated_ids == RepeatedIds(1, (RepeatedId("x1", 2, str(tmp_path / "a.mp4")),))
    (said,) = inputs_in_words(found, ManifestConfig())
    assert "x1 (2 files" in said
    assert "the others are duplicates" in said
    with pytest.raises(IngestError, match=r"x1 \(2 files.*manifests\.repeated_ids"):
        list_inputs([str(path)], manifests=ManifestConfig(repeated_ids="refuse"))


def test_globs(folder):
    assert names(list_inputs([str(folder / "*.mp4")])) == ["b.mp4"]
    assert names(list_inputs([str(folder / "**" / "*")])) == ["a.MOV", "b.mp4", "c.mkv", "d e.webm"]


def test_a_name_with_glob_characters_is_first_a_name(tmp_path):
    (tmp_path / "take [1].mp4").write_bytes(b"x")
    assert names(list_inputs([str(tmp_path / "take [1].mp4")])) == ["take [1].mp4"]


def test_a_file_named_outright_needs_no_suffix(tmp_path):
    (tmp_path / "footage").write_bytes(b"x")
    assert names(list_inputs([str(tmp_path / "footage")])) == ["footage"]


def test_a_manifest_and_its_folder_together_give_one_input_with_the_manifest_s_facts(folder):
    (folder / "list.csv").write_text("uri,licence\nb.mp4,CC-BY\n")
    for order in ([folder, folder / "list.csv"], [folder / "list.csv", folder]):
        found = list_inputs([str(p) for p in order])
        assert {Path(i.uri).name: i.licence for i in found.files}["b.mp4"] == "CC-BY"
        assert len(found.files) == 4


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
        assert reasons(found) == {"readme.md": "not a video by its name (.md)"}
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
            (tmp_path / "m.jsonl").write_text(f'{{"uri": "{uri}"}}')
            for name in (uri, str(tmp_path / "m.jsonl")):
                with pytest.raises(IngestError):
                    list_inputs([name])
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_an_empty_list_beside_other_inputs_is_passed_over_by_name(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "empty.csv").write_text("uri,caption\n")
    found = list_inputs([str(tmp_path / "a.mp4"), str(tmp_path / "empty.csv")])
    assert [item.uri for item in found.files] == [str(tmp_path / "a.mp4")]
    assert [(s.path, s.reason) for s in found.skipped] == [(str(tmp_path / "empty.csv"), "a list without a row")]


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(IngestError, match="holds a user or a password") as error:
        list_inputs(["https://me:hunter2@example.org/film.mp4"], allow_http=True)
    assert "hunter2" not in str(error.value)
    assert "example.org" in str(error.value)
