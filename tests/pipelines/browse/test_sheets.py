"""A clip is found by what a person types, and shown or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from reelwright.curation.media.sheets import GAP
from reelwright.curation.store import Store, StoreError
from reelwright.pipelines.browse.sheets import clip_row, find_clip, write_clip, write_sheet
from tests.curation.media.test_sheets import GREEN, RED, assert_color, flat_clip, picture

IDS = ("aa11" + "0" * 20, "aa12" + "0" * 20, "bb00" + "0" * 20)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(tmp_path_factory.mktemp("sheets") / "store", create=True)
    store.commit_media([store.write_media(IDS[:2], [flat_clip([RED, GREEN]), b"no video"])])
    store.append("clips", [{"clip_id": i, "source_md5": "m", "start_s": 1.5, "width": 96, "height": 64} for i in IDS])
    store.append("sources", [{"source_id": "s", "md5": "m", "uri": "/f/it's a film.mp4", "state": "ok"}])
    return store


def test_a_clip_has_a_sheet_and_a_row_with_its_source(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "clip.png"
    row = clip_row(store, find_clip(store, "AA11"))
    assert write_sheet(store, row["clip_id"], out) == out
    assert (row["clip_id"], row["uri"], row["start_s"]) == (IDS[0], "/f/it's a film.mp4", 1.5)
    sheet = picture(out.read_bytes())
    assert_color(sheet[GAP + 20, GAP + 20], RED)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.png"]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("aa1", "begins the ids of several clips: aa11.*, aa12.*; give more"),
        ("", "begins with ''"),
        ("ab11", "look alike: aa11"),
        ("zz'; drop table clips", "no clip's id begins with"),
        ("%", "no clip's id begins with"),
        ("bb", "has no media"),
        ("aa12", "cannot be shown"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence(store: Store, tmp_path: Path, typed: str, says: str) -> None:
    with pytest.raises(StoreError, match=says):
        write_sheet(store, find_clip(store, typed), tmp_path / "clip.png")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*missing/clip\.png"):
        write_sheet(store, IDS[0], tmp_path / "missing" / "clip.png")


def test_a_clip_is_written_as_it_is_stored_whether_it_decodes_or_not(store: Store, tmp_path: Path) -> None:
    for clip_id, mp4 in store.read_media(store.read("media", ["clip_id"]).column(0).to_pylist()):
        assert write_clip(store, clip_id, tmp_path / "clip.mp4").read_bytes() == mp4
