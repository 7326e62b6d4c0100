"""What became of files between runs: moved, missing and back, replaced, growing, broken twice."""

import os
import shutil
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.records.history import History
from reelwright.curation.scan import Scan
from reelwright.curation.store import Store
from reelwright.pipelines.curate.driver import SPOILT, Curation
from reelwright.pipelines.curate.plan import make_plan
from reelwright.pipelines.curate.probing import Probing
from reelwright.pipelines.curate.sources import Source
from reelwright.pipelines.curate.work import settings_of
from reelwright.pipelines.curate.workers import tasks
from reelwright.pipelines.curate.workers.results import Cut
from reelwright.pipelines.curate.workers.tasks import CutJob
from reelwright.pipelines.runtime.progress import Progress
from tests.footage import footage, frames, write
from tests.pipelines.helpers import check_whole, contents, curate, recipe_of

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(tmp_path / "store", create=True)


def rows(store: Store) -> dict[str, dict]:
    """By the file's name; of several rows of one file the newest."""
    found = sorted(store.read("sources").to_pylist(), key=lambda r: r["ingested_at"])
    return {Path(r["uri"]).name: r for r in found}


def todo(store: Store, *names: Path, **options) -> list[str]:
    """Names of the files that a run would read."""
    files = list_inputs([str(n) for n in names]).files
    return [Path(i.uri).name for i in History(store, files, recipe_of().cutting_fingerprint, **options).todo]


def test_a_folder_that_was_renamed_is_known_by_its_bytes(store, tmp_path):
    (film, *_) = footage(tmp_path / "old", 2, lengths=(40,))
    shutil.copy(film, tmp_path / "old" / "zz copy.mp4")
    curate(store, [tmp_path / "old"])
    before = contents(store)
    (tmp_path / "old").rename(tmp_path / "new")
    plan = make_plan(recipe_of(store=store.uri), list_inputs([str(tmp_path / "new")]), quiet=True)
    assert "3 inputs: 0 new, 2 done before, 1 duplicates" in plan
    summary = curate(store, [tmp_path / "new"])
    assert (summary.ok, summary.duplicate, summary.failed, summary.clips, summary.moved) == (2, 1, 0, 0, 2)
    after = contents(store)
    assert {k: after[k] for k in ("clips", "shots", "media")} == {k: before[k] for k in ("clips", "shots", "media")}
    assert len(store.read("sources", filter="state = 'ok'")) == 2
    found = rows(store)
    assert found[film.name]["uri"] == str(tmp_path / "new" / film.name)
    assert found[film.name]["moved_from"] == str(film)
    assert found["zz copy.mp4"]["duplicate_of"] == str(tmp_path / "new" / film.name)
    check_whole(store)
    again = curate(store, [tmp_path / "new"])
    assert (again.done_before, again.moved) == (3, 0)
    recut = curate(store, [tmp_path / "new"], recipe_of(encode__crf=40), recut=True)
    assert (recut.ok, recut.failed, recut.clips) == (2, 0, 2)
    check_whole(store)


@pytest.mark.parametrize("recut", [False, True])
def test_a_duplicate_takes_the_place_of_a_file_that_is_gone(store, tmp_path, recut):
    a, other = footage(tmp_path / "in", 2, lengths=(40,))
    b, c = (Path(shutil.copy(a, tmp_path / "in" / f"zz {n}.mp4")) for n in (1, 2))
    curate(store, [tmp_path / "in"])
    assert rows(store)[b.name]["duplicate_of"] == str(a)
    a.unlink()
    summary = curate(store, [tmp_path / "in"], recipe_of(encode__crf=40) if recut else None, recut=recut)
    assert (summary.inputs, summary.ok, summary.duplicate, summary.moved) == (3, 2, 1, 1)
    assert summary.clips == (2 if recut else 0)
    found = rows(store)
    assert set(found) == {other.name, b.name, c.name}
    assert (found[b.name]["state"], found[b.name]["moved_from"]) == ("ok", str(a))
    assert found[c.name]["duplicate_of"] == str(b)
    check_whole(store)
    assert curate(store, [tmp_path / "in"], recipe_of(encode__crf=40) if recut else None).done_before == 3
    shutil.copy(b, a)  # the disk is back
    assert curate(store, [tmp_path / "in"]).duplicate == 2
    assert rows(store)[a.name]["duplicate_of"] == str(b)


def test_a_new_copy_is_recut_where_the_old_file_is_gone(store, tmp_path):
    (a,) = footage(tmp_path / "in", 1, lengths=(40,))
    curate(store, [a])
    a.rename(b := tmp_path / "moved.mp4")
    kept = curate(store, [b], recipe_of(encode__crf=40))
    assert (kept.ok, kept.cut_otherwise, kept.moved, kept.clips) == (1, 1, 1, 0)
    b.rename(c := tmp_path / "moved again.mp4")
    summary = curate(store, [c], recipe_of(encode__crf=40), recut=True)
    assert (summary.ok, summary.moved, summary.clips, summary.done_before) == (1, 1, 1, 0)
    assert [(r["uri"], r["moved_from"], r["state"]) for r in store.read("sources").to_pylist()] == [
        (str(c), str(b), "ok")
    ]
    check_whole(store)


def test_what_is_there_or_cannot_be_told_does_not_move(store, tmp_path):
    (a,) = footage(tmp_path / "in", 1, lengths=(40,))
    curate(store, [a])
    b = Path(shutil.copy(a, tmp_path / "b.mp4"))
    assert curate(store, [b]).duplicate == 1
    assert rows(store)[b.name]["moved_from"] is None


def test_a_file_whose_place_another_took_moves_too(store, tmp_path):
    """a.mp4 became b.mp4, and another film is a.mp4 now, as cameras number them."""
    (a,) = footage(tmp_path / "in", 1, lengths=(40,))
    curate(store, [a])
    a.rename(b := a.with_name("b.mp4"))
    write(a, frames(40, seed=9))
    summary = curate(store, [a.parent])
    assert (summary.ok, summary.moved, summary.clips) == (2, 1, 1)
    assert rows(store)[b.name]["moved_from"] == str(a)
    check_whole(store)
    assert curate(store, [a.parent]).done_before == 2
    a.rename(c := a.with_name("c.mp4"))  # and each in the other's place
    b.rename(a)
    c.rename(b)
    summary = curate(store, [a.parent])
    assert (summary.ok, summary.duplicate, summary.moved, summary.clips) == (2, 0, 2, 0)
    check_whole(store)
    assert curate(store, [a.parent]).done_before == 2


def test_a_file_that_is_still_named_and_gone_is_a_duplicate_of_the_one_that_is_there(store, tmp_path):
    (a,) = footage(tmp_path / "in", 1, lengths=(40,))
    b = Path(shutil.copy(a, tmp_path / "in" / "b.mp4"))
    (tmp_path / "m.csv").write_text(f"uri\n{a}\n{b}\n")
    curate(store, [tmp_path / "m.csv"])
    b.unlink() if rows(store)[b.name]["state"] == "ok" else a.unlink()
    summary = curate(store, [tmp_path / "m.csv"])
    assert (summary.ok, summary.duplicate, summary.failed, summary.moved) == (1, 1, 0, 1)
    assert sorted(r["state"] for r in rows(store).values()) == ["duplicate", "ok"]
    assert curate(store, [tmp_path / "m.csv"]).done_before == 2


def test_a_missing_file_is_tried_once_it_is_there(store, tmp_path):
    (film,) = footage(tmp_path / "in", 1, lengths=(40,))
    away = film.rename(tmp_path / "away.mp4")
    (tmp_path / "m.csv").write_text(f"uri\n{film}\n")
    assert curate(store, [tmp_path / "m.csv"]).failed == 1
    assert todo(store, tmp_path / "m.csv") == []
    away.rename(film)
    summary = curate(store, [tmp_path / "m.csv"])
    assert (summary.ok, summary.failed, summary.clips) == (1, 0, 1)
    assert store.count("sources") == 1


def test_an_unreadable_file_is_tried_once_it_can_be_read(store, tmp_path, monkeypatch):
    """Another user's right is not to be had where tests run as root: a link that leads nowhere, then somewhere."""
    (film,) = footage(tmp_path / "in", 1, lengths=(40,))
    (tmp_path / "m.csv").write_text("uri\nlink.mp4\n")
    link = tmp_path / "link.mp4"
    link.symlink_to(tmp_path / "unmounted" / film.name)
    assert curate(store, [tmp_path / "m.csv"]).failed == 1
    assert todo(store, tmp_path / "m.csv") == []
    film.parent.rename(tmp_path / "unmounted")
    assert curate(store, [tmp_path / "m.csv"]).ok == 1


def test_broken_twins_are_failures_both(store, tmp_path):
    """Those that do not open, and those that fail when they are scanned; in one run and in two."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.mp4").write_bytes(b"no film" * 100)
    for name in ("c", "d"):
        write(tmp_path / "in" / f"{name}.mp4", frames(60))
    short = recipe_of(limits__max_frames=50)
    summary = curate(store, [tmp_path / "in"], short)
    assert (summary.ok, summary.duplicate, summary.failed) == (0, 0, 4)
    (tmp_path / "more").mkdir()
    for name in ("a", "c"):
        shutil.copy(tmp_path / "in" / f"{name}.mp4", tmp_path / "more" / f"{name} later.mp4")
    summary = curate(store, [tmp_path / "in", tmp_path / "more"], short)
    assert (summary.ok, summary.duplicate, summary.failed, summary.done_before) == (0, 0, 6, 4)
    assert len(store.read("failures", ["uri"]).to_pylist()) == 6
    summary = curate(store, [tmp_path / "in", tmp_path / "more"], retry_failed=True)
    assert (summary.ok, summary.duplicate, summary.failed) == (1, 2, 3)
    check_whole(store)


LIMITS = {"memory_mib": 2048, "stall_s": 60, "max_s": 600, "max_frames": 10_000}


def test_a_file_that_grows_while_it_is_read_has_failed_and_is_tried_next_time(store, tmp_path):
    (film,) = footage(tmp_path / "in", 1, lengths=(40,))
    data, stop = film.read_bytes(), threading.Event()

    def grow() -> None:
        with open(film, "ab") as file:
            while not stop.wait(0.01):
                file.write(b"\0" * 100)
                file.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        summary = curate(store, [film])
    finally:
        stop.set()
        writer.join()
    assert (summary.ok, summary.failed, summary.clips) == (0, 1, 0)
    (failure,) = store.read("failures", ["error"]).to_pylist()
    assert "changed while it was read" in failure["error"]
    check_whole(store)
    film.write_bytes(data)
    assert curate(store, [film]).ok == 1
    check_whole(store)


class TouchedInBetween(Curation):
    """A run whose first file is written to once a clip of it is cut."""

    def _cut(self, source: Source, cut: Cut, payload: Any) -> None:
        super()._cut(source, cut, payload)
        os.utime(source.item.uri, ns=(0, 0))


class OneByOne(Probing):
    """Each file is begun when the one before is done."""

    def in_order(self) -> Iterator[Source]:
        if not self._flow.waiting("scan") + self._flow.waiting("cut"):
            yield from islice(super().in_order(), 1)


def test_a_file_with_the_bytes_of_one_that_changed_is_left_to_the_next_run(store, tmp_path):
    """Clips of these bytes are deleted when the run ends; a copy's would go with them, and the copy be called done."""
    (film,) = footage(tmp_path / "in", 1, lengths=(40, 30, 40))
    later = shutil.copy(film, tmp_path / "in" / "zz copy.mp4")
    recipe, inputs = recipe_of(batches__cut_clips=1, resources__cut={"cpus": 2}), list_inputs([str(tmp_path / "in")])
    history = History(store, inputs.files, recipe.cutting_fingerprint)
    with store.committing(), Progress("curate", quiet=True) as progress:
        run = TouchedInBetween(store, recipe, inputs, history, [])
        run.probing = OneByOne(history.todo, run.flow, run.limits, recipe.images)
        summary = run.run(progress)
    assert (summary.ok, summary.duplicate, summary.failed) == (0, 0, 2)
    assert run.state["clips"] > 0, "none was cut before the file changed"
    why = {Path(row["uri"]).name: row["error"] for row in store.read("failures", ["uri", "error"]).to_pylist()}
    assert "changed while it was read" in why[film.name]
    assert why["zz copy.mp4"] == SPOILT
    assert (store.count("clips"), store.count("media"), store.count("shots")) == (0, 0, 0)
    check_whole(store)
    again = curate(store, [later])
    assert (again.ok, again.clips) == (1, 3)
    check_whole(store)


@pytest.mark.parametrize("stage", ["scan", "cut"])
def test_a_file_that_changed_since_it_was_probed_is_not_believed(tmp_path, stage):
    (film,) = footage(tmp_path / "in", 1, lengths=(40,))
    was = tasks.probe(str(film), LIMITS).status
    recipe = recipe_of()
    shots, borders = recipe.shots.model_dump(), recipe.borders.model_dump()
    assert isinstance(tasks.scan(str(film), shots, borders, LIMITS, was), Scan)
    os.utime(film, ns=(0, was[1] + 1))
    if stage == "scan":
        found = tasks.scan(str(film), shots, borders, LIMITS, was)
    else:
        settings = settings_of(recipe, (), LIMITS).model_dump_json()
        found = tasks.cut(CutJob(str(film), "", [], None, was), settings)[0].changed
    assert found.stage == stage
    assert found.message.startswith("io: the file changed while it was read")


def test_a_rerun_over_failures_does_not_say_that_all_is_current(call, tmp_path):
    (film,) = footage(tmp_path / "in", 1, lengths=(40,))
    (tmp_path / "in" / "broken.mp4").write_bytes(b"no film" * 100)
    run = ("curate", tmp_path / "in", "--store", tmp_path / "store", "--set", "annotators=[blur]", "-q")
    call(*run)
    again = call(*run).stdout
    assert "nothing new; 1 source failed before (reel failures --store" in again
    assert "current" not in again
    (tmp_path / "in" / "broken.mp4").unlink()
    assert "nothing to do: every source and every score is current" in call(*run).stdout
    film.rename(film.with_name("renamed.mp4"))
    assert "1 sources moved" in call(*run).stdout
