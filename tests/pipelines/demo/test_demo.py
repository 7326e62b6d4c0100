"""The demonstration reaches its report whatever the footage is like, and keeps one footage's results from another's."""

import os
import subprocess
import sys
from html import escape
from pathlib import Path

import pyarrow as pa
import pytest

from reelwright.curation.store import Store
from reelwright.pipelines.demo.__main__ import EVALUATION, folder_of
from reelwright.pipelines.demo.choice import choose, snapshot_name
from tests.conftest import ROOT
from tests.curation.store.conftest import add_source
from tests.footage import shots, write


def store_of(folder: Path, scores: list[tuple[float | None, float | None]], duration_s: float = 2.0) -> Store:
    """A store with a clip per pair of motion and sharpness."""
    store = Store.open(folder / "store", create=True)
    ids = add_source(store, "aa", len(scores)) if scores else []
    motion, blur = ([pair[i] for pair in scores] for i in (0, 1))
    if ids:
        rows = {"clip_id": ids, "duration_s": [duration_s] * len(ids), "motion_score": pa.array(motion, pa.float32()),
                "blur_score": pa.array(blur, pa.float32())}  # fmt: skip
        store.merge("clips", pa.table(rows), "clip_id")
    return store


GOOD, SOFT, STILL, NEITHER, UNKNOWN = (0.1, 90.0), (0.1, 3.0), (0.0, 90.0), (0.0, 3.0), (None, None)


@pytest.mark.parametrize(
    ("scores", "count", "note"),
    [
        ([GOOD] * 4 + [SOFT, STILL, NEITHER], 4, ""),
        ([GOOD] + [SOFT] * 3, 4, "soft ones are taken too"),
        ([STILL] * 3 + [NEITHER], 3, "still ones are taken"),
        ([NEITHER] * 4, 4, "all are taken"),
        ([UNKNOWN] * 3, 3, "all are taken"),
        ([GOOD], 1, ""),
        ([STILL], 1, "still ones are taken"),
        ([], 0, "no clip came of this footage"),
    ],
)
def test_conditions_are_loosened_until_there_are_clips_to_train_on(tmp_path, scores, count, note):
    store = store_of(tmp_path, scores)
    choice = choose(store)
    assert len(choice.clips) == count
    assert note in choice.note
    assert bool(choice.note) == bool(note)
    if choice.clips:
        made = store.snapshots.create("demo", choice.sql, weights="weight")
        assert sorted(store.snapshots.rows(made.name)["clip_id"].to_pylist()) == choice.clips


def test_clips_too_short_to_train_on_are_said(tmp_path):
    choice = choose(store_of(tmp_path, [GOOD] * 5, duration_s=1.0))
    assert (choice.sql, choice.clips) == ("", ())
    assert "none of the 5 clips is 1.1 s long" in choice.note


def test_other_clips_get_a_snapshot_of_their_own(tmp_path):
    store = store_of(tmp_path, [GOOD] * 4)
    choice = choose(store)
    assert snapshot_name(store, choice.clips) == ("demo", False)
    store.snapshots.create("demo", choice.sql, weights="weight")
    assert snapshot_name(store, choice.clips) == ("demo", True)
    add_source(store, "bb", 2)
    scores = {name: pa.array([90.0], pa.float32()) for name in ("motion_score", "blur_score")}
    store.merge("clips", pa.table({"clip_id": ["bb-000"], **scores}), "clip_id")
    more = choose(store)
    assert snapshot_name(store, more.clips) == ("demo-2", False)


def test_each_footage_has_its_own_folder(tmp_path):
    folders = {folder_of(Path("demo"), footage) for footage in (None, Path("/a/film"), Path("/b/film"), Path("/a/ ü/"))}
    assert len(folders) == 4
    assert folder_of(Path("demo"), None) == Path("demo")
    assert folder_of(Path("demo"), Path("/a/film/")) == folder_of(Path("demo"), Path("/a/film"))


@pytest.mark.exhaustive
@pytest.mark.waits
@pytest.mark.parametrize("kind", ["still", "short"])
def test_still_or_short_footage_reaches_the_report(tmp_path, kind):
    pictures = shots([30])[:1] * 60 if kind == "still" else shots([12, 12])
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "film.mp4", pictures, fps=25)
    asked = ["--footage", tmp_path / "in", "--out", tmp_path / "out", "--steps", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "reelwright.pipelines.demo", *asked],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    out = folder_of(tmp_path / "out", tmp_path / "in")
    assert (out / "report.html").is_file()
    assert (out / "generated.mp4").is_file() == (kind == "still")
    assert (out / EVALUATION).is_file() == (kind == "still")
    if kind == "still":
        lists_the_generations(out / EVALUATION, Store.open(out / "store"))
        assert str(out / EVALUATION) in done.stdout
    assert ("are taken" if kind == "still" else "no snapshot and no network") in done.stdout


def lists_the_generations(page: Path, store: Store) -> None:
    """The page has each prompt, each model's name and each video that was made."""
    text = page.read_text("utf-8")
    rows = store.read("generations", ["model", "prompt", "state"]).to_pylist()
    assert {row["state"] for row in rows} == {"ok"}
    assert text.count('<video src="data:video/mp4;base64,') == len(rows)
    for row in rows:
        assert escape(row["prompt"]) in text
        assert f"<bdi>{row['model']}</bdi>" in text
