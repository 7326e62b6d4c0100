"""Copies of remote inputs: whole or not there, below their bound, and gone when the run is."""

import contextlib
import os
from pathlib import Path

import pytest

from reelwright.curation.media import input_cache
from reelwright.curation.media.input_cache import InputCache

MANY = 1 << 30


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def keep(cache: InputCache, uri: str, data: bytes) -> bool:
    with cache.keeping(uri, len(data)) as copy:
        copy.write(data)
    return content(cache, uri) == data


def content(cache: InputCache, uri: str) -> bytes | None:
    file = cache.open(uri)
    if file is None:
        return None
    with file:
        return file.read()


def test_a_copy_is_whole_or_not_there(folder):
    cache = InputCache("run", MANY)
    with cache.keeping("s3://b/x", 6) as copy:
        copy.write(b"abc")
        assert content(cache, "s3://b/x") is None
    assert content(cache, "s3://b/x") is None, "it is half of the file"
    with contextlib.suppress(OSError), cache.keeping("s3://b/x", 3) as copy:
        copy.write(b"abc")
        raise OSError("the connection broke")
    assert content(cache, "s3://b/x") is None
    assert keep(cache, "s3://b/x", b"abcdef")
    assert content(InputCache("another", MANY), "s3://b/x") is None
    cache.clear()
    assert content(cache, "s3://b/x") is None
    assert not [p for p in folder.rglob("*") if p.is_file() and p.name != "lock"]


def test_the_copy_that_was_not_read_for_longest_makes_room(folder):
    cache = InputCache("run", 250)
    assert keep(cache, "a", b"a" * 100)
    assert keep(cache, "b", b"b" * 100)
    for seconds, name in ((100, "a"), (50, "b")):
        os.utime(cache._path(name), (1e9 - seconds, 1e9 - seconds))
    reading = cache.open("a")  # so that it was read last
    assert reading
    os.utime(cache._path("b"))
    os.utime(cache._path("a"), (2e9, 2e9))
    assert keep(InputCache("later run", 250), "c", b"c" * 100)
    assert content(cache, "b") is None
    assert content(cache, "a") == b"a" * 100
    assert keep(cache, "d", b"d" * 200)
    assert reading.read() == b"a" * 100, "an open copy was cut short"
    assert content(cache, "a") is None
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 250


def test_a_file_larger_than_the_bound_or_of_unknown_size_is_not_kept():
    cache = InputCache("run", 10)
    assert not keep(cache, "large", b"x" * 11)
    with cache.keeping("unknown", None) as copy:
        assert not copy.takes
    assert keep(cache, "small", b"x" * 10)
    assert not keep(InputCache("run", 0), "none", b"x")


def test_what_a_killed_run_left_goes_once_it_is_a_day_old(folder):
    left = InputCache("killed", MANY)
    assert keep(left, "a", b"a")
    part = left._path("b").with_suffix(".77.part")
    part.write_bytes(b"half")
    assert keep(InputCache("new", MANY), "c", b"c")
    assert content(left, "a") == b"a"
    assert part.exists()
    for path in (left._path("a"), part):
        os.utime(path, (1e9, 1e9))
    assert keep(InputCache("new", MANY), "d", b"d")
    assert content(left, "a") is None
    assert not part.exists()


def test_a_disk_that_is_nearly_full_is_left_alone(monkeypatch):
    monkeypatch.setattr(input_cache, "KEPT_FREE_SHARE", 1.0)
    monkeypatch.setattr(input_cache, "KEPT_FREE_BYTES", 1 << 60)
    assert not keep(InputCache("run", MANY), "a", b"a")
