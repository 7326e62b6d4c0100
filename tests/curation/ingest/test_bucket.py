"""Folders and globs of a bucket: the same files as fsspec's own lists of them, page by page."""

import contextlib
from collections.abc import Iterator

import fsspec
import pytest

from reelwright.curation import usage
from reelwright.curation.ingest import bucket
from reelwright.curation.ingest.inputs import Skipped
from reelwright.curation.ingest.resolve import IngestError, list_inputs
from reelwright.curation.media import remote
from tests.pipelines.emulators import emulator
from tests.pipelines.object_store import ObjectStore

KEYS = [
    "a.mp4", "b.MOV", "top.txt", "in/a.mp4", "in/ä ö.mp4", "in/b+c=1.mkv", "in/b[1].mp4", "in/c.json",
    "in/deep/a.mp4", "in/deep/er/d.webm", "in/deep/er/x.mp4", "in/dim/x.mp4", "inside/e.mp4", "in.mp4/f.mp4",
    "plain", "plainly/g.mp4",
]  # fmt: skip
ROOTS = ["", "/in", "/in/", "/in/deep", "/inside", "/plain", "/in/a.mp4", "/none"]
GLOBS = ["*.mp4", "*", "in/*", "in/*.mp4", "in/b*", "in/?.mp4", "in/[!a]*.m*", "*/*.mp4", "in/*/x.mp4", "in/d*/*/*",
         "i*/d*/a.mp4", "**", "**/*.mp4", "in/**", "in/**/x.mp4", "in/d*/**/*.webm", "**/er/*", "none/*", "in/*/",
         "in*/?.mp4"]  # fmt: skip


@pytest.fixture(scope="module", params=["s3", "gs", "az"])
def cloud(request) -> Iterator[ObjectStore]:
    """Each service in turn, with the same files; those but S3 where their emulators are installed."""
    with (
        contextlib.nullcontext(request.getfixturevalue("s3"))
        if request.param == "s3"
        else emulator(request.param) as one
    ):
        one.bucket("compared")
        for key in KEYS:
            one.files.pipe_file(f"compared/{key}", b"x")
        yield one


@pytest.fixture(scope="module")
def films(s3) -> str:
    """A bucket on S3, where a folder may be an object too and a name between slashes empty."""
    s3.files.mkdir("listed")
    for key in [*KEYS, "in/", "odd//h.mp4"]:
        s3.files.call_s3("put_object", Bucket="listed", Key=key, Body=b"x")
    return "listed"


@pytest.fixture(autouse=True)
def hasty(monkeypatch) -> None:
    """Pages of two names, and little patience with the server."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(bucket, "LISTED_AT_ONCE", 2)


def as_fsspec_says(files, root: str) -> list[str]:
    if any(c in root for c in "*?["):
        return [name for name, info in files.glob(root, detail=True).items() if info["type"] == "file"]
    return [root] if files.isfile(root) else files.find(root)


@pytest.mark.parametrize("below", [*ROOTS, *(f"/{one}" for one in GLOBS)])
def test_a_folder_or_glob_holds_what_fsspec_says(cloud, below):
    files, root = fsspec.core.url_to_fs(f"{cloud.protocol}://compared{below}")
    found = list(bucket.listed(files, cloud.protocol, root))
    assert set(found) == set(as_fsspec_says(cloud.files, root))
    assert len(found) == len(set(found)) or cloud.protocol == "gs", "but its emulator repeats folders on each page"


@pytest.mark.parametrize("below", ["", "/in", "/odd", "/in/*", "/**", "/odd/**"])
def test_objects_with_odd_names_are_listed_as_by_fsspec(s3, films, below):
    files, root = fsspec.core.url_to_fs(f"s3://{films}{below}")
    assert sorted(bucket.listed(files, "s3", root)) == sorted(as_fsspec_says(s3.files, root))
    assert not files.dircache, "a list of all is kept"


def test_names_come_with_the_page_that_holds_them(s3, films):
    files, root = fsspec.core.url_to_fs(f"s3://{films}")
    s3.clear_log()
    names = bucket.listed(files, "s3", root)
    next(names)
    assert len(s3.log()) == 1
    assert len(list(names)) == len(KEYS) + 1
    assert len(s3.log()) == len(KEYS) / 2 + 1


@pytest.mark.parametrize("below", ["", "/in", "/in/a.mp4", "/in/*.mp4", "/*/*.mp4", "/**/*.mp4"])
def test_each_request_is_counted(s3, films, below):
    s3.clear_log()
    usage.begin()
    list_inputs([f"s3://{films}{below}"])
    assert usage.end().requests == len(s3.log())


def test_inputs_are_sorted_and_what_is_no_video_is_told(films):
    found = list_inputs([f"s3://{films}/in", f"s3://{films}/in/a.mp4", f"s3://{films}/plain"])
    names = ["in/a.mp4", "in/b+c=1.mkv", "in/b[1].mp4", "in/deep/a.mp4", "in/deep/er/d.webm", "in/deep/er/x.mp4",
             "in/dim/x.mp4", "in/ä ö.mp4", "plain"]  # fmt: skip
    assert [item.uri for item in found.files] == [f"s3://{films}/{name}" for name in names]
    assert list(found.skipped) == [
        Skipped("listed/in/", "not a video by its name (no suffix)"),
        Skipped("listed/in/c.json", "a list, read where it is named itself (.json)"),
    ]


@pytest.mark.parametrize("kind", ["refuse", "reset", "cut"])
def test_an_outage_amid_a_list_is_waited_for(s3, films, kind):
    with s3.faults({"kind": kind, "path": "continuation-token", "after": 1, "times": 5}):
        found = list_inputs([f"s3://{films}/in"])
        assert sum(line.fault == kind for line in s3.log()) == 5
    assert len(found.files) == 8


def test_a_server_that_does_not_answer_at_first_is_told_at_once(s3, films):
    with s3.faults({"kind": "refuse"}), pytest.raises(IngestError, match=f"cannot list s3://{films}/in"):
        list_inputs([f"s3://{films}/in"])
    with pytest.raises(IngestError, match="cannot list s3://no-such-bucket"):
        list_inputs(["s3://no-such-bucket/in"])
