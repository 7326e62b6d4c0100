"""A model's id follows its content, wherever it lies and however often it is asked for."""

import os

import pytest

from reelwright.annotate.backends import identity


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    identity._file_hash.cache_clear()
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"w" * (2 << 20))
    return model


def test_the_id_is_of_the_content(folder, tmp_path):
    before = identity.model_id(str(folder))
    (folder / "README.md").write_text("words that decide nothing")
    assert identity.model_id(str(folder)) == before
    (folder / "config.json").write_text('{"a": 1}')
    assert identity.model_id(str(folder)) != before


def test_a_large_file_is_read_once_for_all_processes_and_again_when_it_changes(folder, tmp_path):
    first = identity.content_hash(folder)
    (note,) = (tmp_path / "cache" / "reelwright" / "hashes").iterdir()
    identity._file_hash.cache_clear()
    note.write_text("0" * 64)  # what another process would find
    assert identity.content_hash(folder) != first
    os.utime(folder / "model.safetensors", ns=(1, 1))
    identity._file_hash.cache_clear()
    assert identity.content_hash(folder) == first


def test_a_home_that_cannot_be_written_to_is_no_error(folder, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(identity.content_hash(folder)) == 16
