"""Leftovers of a killed run are found among newer rows as among all, with what a finished run noted and without."""

import hashlib
import shutil

import pytest

from reelwright.curation.keys import sorter
from reelwright.curation.store import Store, known_kept
from reelwright.curation.store import leftovers as kept
from reelwright.curation.store.known_kept import up_to_date
from reelwright.curation.store.known_shelf import FOLDER
from reelwright.curation.store.leftovers import leftovers, note_finished
from reelwright.curation.store.leftovers_of_all import leftovers_of_all
from reelwright.curation.store.maintenance import Orphans
from tests.curation.store.conftest import add_source


@pytest.fixture(autouse=True)
def every_store_is_large(monkeypatch):
    monkeypatch.setattr(known_kept, "KEPT_FROM", 0)


def md5(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()


@pytest.fixture
def finished(store: Store) -> Store:
    """A store of three sources, whose run is over."""
    for name in ("a", "b", "c"):
        add_source(store, md5(name), 3)
    with store.committing():
        note_finished(store)
    return store


def found(store: Store) -> Orphans:
    """What a new process finds, after another that was killed while it looked."""
    with store.committing():
        up_to_date(store)
        again = Store.open(store.uri)
        return leftovers(again, up_to_date(again)[0])


def refuse(*_: object) -> None:
    raise AssertionError("all rows were looked at")


def killed_amid_a_source(store: Store) -> None:
    add_source(store, md5("new"), 4, finish=False)


def killed_before_its_clips(store: Store) -> None:
    store.commit_media([store.write_media(["x", "y"], [b"x", b"y"])])


def killed_after_its_shots(store: Store) -> None:
    store.append("shots", [{"source_md5": md5("shots"), "shot_index": 0}])


def failed(store: Store) -> None:
    add_source(store, md5("bad"), 2, finish=False)
    store.append("sources", [{"uri": "/f/bad.mp4", "source_id": "bad", "md5": md5("bad"), "state": "failed"}])


def killed_amid_a_new_cut(store: Store) -> None:
    store.delete("sources", f"md5 = '{md5('b')}'")


def a_source_that_became_another(store: Store) -> None:
    killed_amid_a_new_cut(store)
    add_source(store, md5("b"), 1, finish=False)
    store.append("sources", [{"uri": "/f/d.mp4", "source_id": "d", "md5": md5("b"), "state": "ok"}])


def a_row_without_an_md5(store: Store) -> None:
    store.append("clips", [{"clip_id": "nobody's"}])


def merged_and_went_on(store: Store) -> None:
    store.compact()
    add_source(store, md5("d"), 2)


QUICK = [killed_amid_a_source, killed_before_its_clips, killed_after_its_shots, failed, killed_amid_a_new_cut,
         a_source_that_became_another, a_row_without_an_md5, merged_and_went_on]  # fmt: skip


@pytest.mark.parametrize("end", QUICK, ids=lambda end: end.__name__)
def test_they_are_found_without_a_look_at_all_rows(finished, monkeypatch, end):
    end(finished)
    wanted = finished.orphans()
    assert bool(wanted) == (end not in (merged_and_went_on, a_source_that_became_another))
    with monkeypatch.context() as patched:
        patched.setattr(kept, "leftovers_of_all", refuse)
        assert found(finished) == wanted
    for name in ("the note is lost", "and made again"):
        shutil.rmtree(finished.path / FOLDER, ignore_errors=True)
        assert found(finished) == wanted, name


@pytest.mark.parametrize("end", QUICK, ids=lambda end: end.__name__)
def test_a_look_at_all_rows_finds_what_a_query_finds(finished, monkeypatch, end):
    monkeypatch.setattr(sorter, "RUN_BYTES", 0)
    end(finished)
    killed_before_its_clips(finished)
    finished.delete("clips", f"source_md5 = '{md5('c')}'")
    assert leftovers_of_all(finished, up_to_date(finished)[0]) == finished.orphans()


def test_a_source_that_is_ok_again_has_no_leftovers(finished, monkeypatch):
    killed_amid_a_new_cut(finished)
    assert found(finished) == finished.orphans()
    finished.append("sources", [{"uri": "/f/b.mp4", "source_id": "b", "md5": md5("b"), "state": "ok"}])
    monkeypatch.setattr(kept, "leftovers_of_all", refuse)
    assert not found(finished)


def test_clips_deleted_without_their_bytes_are_found_by_a_look_at_all_rows(finished):
    ids = finished.read("clips", ["clip_id"]).column(0).to_pylist()
    finished.delete("clips", f"clip_id = '{ids[0]}'")
    assert found(finished).clip_ids == [ids[0]]


def test_what_a_second_curator_left_is_found_by_a_third(finished):
    with Store.open(finished.uri).committing():  # it finds those of nobody, and is killed in its turn
        add_source(finished, md5("new"), 4, finish=False)
    assert found(finished) == found(finished) == finished.orphans()
    finished.remove_orphans()
    with finished.committing():
        note_finished(finished)
    assert not found(finished)
