"""The whole pipeline on real files: counts add up, runs are the same wherever they ran, nothing is done twice."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reelwright.curation.ingest.resolve import IngestError, list_inputs
from reelwright.curation.records.history import History
from reelwright.curation.records.rows import failure_row
from reelwright.curation.results import Failed
from reelwright.curation.store import Store, StoreError
from tests.footage import HOSTILE, footage, frames, shots, write
from tests.pipelines.helpers import check_whole, contents, curate, recipe_of

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture(scope="package")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good files, one twice, and every kind of bad one."""
    folder = tmp_path_factory.mktemp("material")
    films = footage(folder, 3, lengths=(40, 60))
    shutil.copy(films[1], folder / "zz copy of film01.mp4")
    for name, make in HOSTILE.items():
        make(folder / name, films[0])
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture(scope="package")
def curated(material: Path, tmp_path_factory: pytest.TempPathFactory, ray_local: None) -> Path:
    """A store of it, not to be changed."""
    path = tmp_path_factory.mktemp("curated") / "store"
    summary = curate(path, [material])
    assert (summary.ok, summary.duplicate, summary.failed) == (3, 1, len(HOSTILE))
    assert summary.clips == 6
    return path


@pytest.fixture
def store(curated: Path, tmp_path: Path) -> Store:
    """A copy of it, to be changed."""
    shutil.copytree(curated, tmp_path / "store")
    return Store.open(tmp_path / "store")


def test_counts_add_up_and_every_source_ends_somewhere(curated, material):
    opened = Store.open(curated)
    rows = {Path(r["uri"]).name: r for r in opened.read("sources").to_pylist()}
    assert len(rows) == len(list(material.iterdir())) - 1
    assert rows["zz copy of film01.mp4"]["duplicate_of"] == str(material / "film01.mp4")
    assert rows["film00.mp4"]["num_clips"] == 2
    assert all(rows[name]["state"] == "failed" for name in HOSTILE)
    failed = opened.read("failures", ["uri", "stage", "error", "attempts"]).to_pylist()
    assert sorted(Path(f["uri"]).name for f in failed) == sorted(HOSTILE)
    assert all(f["stage"] == "probe" and f["attempts"] == 1 for f in failed)
    assert {f["error"].partition(":")[0] for f in failed} == {"empty", "text", "truncated", "playlist"}
    check_whole(curated)


def test_clips_have_all_their_columns(curated):
    for clip in Store.open(curated).read("clips").to_pylist():
        assert clip["blur_score"] > 0
        assert clip["blur_fingerprint"]
        assert clip["light_fingerprint"]
        assert clip["num_frames"] == clip["end_frame"] - clip["start_frame"]
        assert (clip["width"], clip["height"], clip["fps"]) == (160, 96, 25)


def test_the_same_whatever_the_order_place_and_batches(curated, material, tmp_path):
    elsewhere = shutil.copytree(material, tmp_path / "elsewhere")
    names = sorted((str(p) for p in elsewhere.glob("*.mp4")), reverse=True)
    batches = {"batches__cut_clips": 1, "batches__commit_mib": 1, "batches__commit_s": 0.2}
    curate(tmp_path / "store", names, recipe_of(**batches))
    assert contents(tmp_path / "store") == contents(curated)
    check_whole(tmp_path / "store")


def test_a_rerun_does_nothing(store, material):
    before = {t.name: t.version for t in store.tables()}
    summary = curate(store, [material])
    assert summary.done_before == summary.inputs
    assert summary.stage_seconds["annotated again"] == 0
    assert {t.name: t.version for t in store.tables()} == before


def test_a_new_or_changed_annotator_computes_its_own_columns_only(store, material):
    before, media = contents(store), store.dataset("media").version
    for scale in (1.0, 2.0):
        recipe = recipe_of(annotators=["blur", "light", {"flaky": {"scale": scale}}])
        assert curate(store, [material], recipe).stage_seconds["annotated again"] == 6
        after = contents(store)
        for old, new in zip(before["clips"], after["clips"], strict=True):
            assert {k: new[k] for k in old if not k.startswith("flaky")} == {
                k: v for k, v in old.items() if not k.startswith("flaky")
            }
            if scale == 2:
                assert new["flaky_mean"] == pytest.approx(2 * old["flaky_mean"])
                assert new["flaky_fingerprint"] != old["flaky_fingerprint"]
        assert curate(store, [material], recipe).stage_seconds["annotated again"] == 0
        before = after
    assert store.dataset("media").version == media


@pytest.mark.exhaustive
def test_an_annotator_that_fails_or_kills_costs_only_its_own_column(store, material, tmp_path):
    switch = tmp_path / "switch"
    switch.touch()
    recipe = recipe_of(annotators=["blur", "light", {"flaky": {"switch": str(switch)}}, "deadly"])
    before = {c["clip_id"]: c for c in contents(store)["clips"]}

    def again(**options) -> float:
        return curate(store, [material], recipe, **options).stage_seconds["annotated again"]

    assert again() == 6
    clips = {c["clip_id"]: c for c in contents(store)["clips"]}
    assert {i: {k: c[k] for k in before[i]} for i, c in clips.items()} == before
    assert all(c["flaky_mean"] is None for c in clips.values())
    killed = {c["clip_id"] for c in clips.values() if c["deadly_mean"] is None}
    assert len(killed) == 3
    failures = store.read("failures", filter="clip_id IS NOT NULL").to_pylist()
    assert {f["clip_id"] for f in failures if f["stage"] == "flaky"} == set(clips)
    assert {f["clip_id"] for f in failures if f["stage"] == "deadly"} == killed
    assert all("not today" in f["error"] for f in failures if f["stage"] == "flaky")
    assert all(f["error"].startswith("crash") for f in failures if f["stage"] == "deadly")
    assert all(f["uri"].endswith(".mp4") and f["attempts"] == 1 for f in failures)
    assert again() == 0  # what failed is left alone

    switch.unlink()
    assert again(retry_failed=True) == 6
    assert all(c["flaky_mean"] > 0 for c in contents(store)["clips"])
    twice = store.read("failures", filter="stage = 'deadly' AND attempts = 2").to_pylist()
    assert {f["clip_id"] for f in twice} == killed


@pytest.mark.exhaustive
def test_a_deadly_annotator_costs_new_footage_only_its_own_column_too(tmp_path):
    film = write(tmp_path / "a.mp4", shots((40, 40)))
    summary = curate(tmp_path / "store", [film], recipe_of(annotators=["blur", "deadly", "light"]))
    assert (summary.ok, summary.clips, summary.clips_failed, summary.annotations_failed) == (1, 2, 0, 1)
    dark, bright = contents(tmp_path / "store")["clips"]
    assert all(c["blur_score"] > 0 and c["light_fingerprint"] for c in (dark, bright))
    assert dark["deadly_mean"] > 0
    assert bright["deadly_mean"] is None


def test_what_failed_is_tried_again_when_asked_or_when_the_file_changed(tmp_path):
    (good,) = footage(tmp_path / "in", 1, lengths=(40,))
    bad = tmp_path / "in" / "a.mp4"
    bad.write_bytes(good.read_bytes()[:1000])
    store = Store.open(tmp_path / "store", create=True)
    assert curate(store, [bad.parent]).failed == 1
    assert curate(store, [bad.parent]).done_before == 2
    assert curate(store, [bad.parent], retry_failed=True).failed == 1
    assert [f["attempts"] for f in store.read("failures").to_pylist()] == [1, 2]
    write(bad, frames(40, seed=5))
    summary = curate(store, [bad.parent])
    assert (summary.ok, summary.failed, summary.clips) == (2, 0, 1)
    assert store.count("sources") == 2
    check_whole(store)


def test_a_file_that_was_touched_is_not_cut_again_and_is_read_once(tmp_path):
    (film,) = footage(tmp_path / "in", 1, lengths=(40,))
    store = Store.open(tmp_path / "store", create=True)
    curate(store, [film])
    before = contents(store)
    os.utime(film)
    summary = curate(store, [film])
    assert (summary.ok, summary.done_before, summary.clips) == (1, 1, 0)
    assert contents(store) == before
    assert not History(store, list_inputs([str(film)]).files, recipe_of().cutting_fingerprint).todo


def test_a_file_that_was_replaced_is_curated_and_the_old_clips_stay(tmp_path):
    (film,) = footage(tmp_path / "in", 1, lengths=(40,))
    store = Store.open(tmp_path / "store", create=True)
    curate(store, [film])
    old = contents(store)["media"]
    write(film, shots((50, 50), seed=7))
    assert curate(store, [film]).clips == 2
    assert curate(store, [film]).done_before == 1
    after = contents(store)["media"]
    assert old.items() < after.items()
    assert len(after) == 3
    check_whole(store)


def test_a_good_version_outlives_a_broken_one_that_is_mended(tmp_path):
    """Good, overwritten by half a download, mended with other bytes, and then as it was in the beginning."""
    (film,) = footage(tmp_path / "in", 1, lengths=(40,))
    first = film.read_bytes()
    store = Store.open(tmp_path / "store", create=True)
    curate(store, [film])
    film.write_bytes(first[:900])
    assert curate(store, [film]).failed == 1
    write(film, frames(50, seed=7))
    assert curate(store, [film]).clips == 1
    check_whole(store)
    assert sorted(r["state"] for r in contents(store)["sources"]) == ["ok", "ok"]
    before = contents(store)["media"]
    assert len(before) == 2
    film.write_bytes(first)
    shutil.copy(film, copy := tmp_path / "in" / "other.mp4")
    summary = curate(store, [film, copy])
    assert (summary.ok, summary.duplicate, summary.done_before, summary.clips) == (1, 1, 1, 0)
    assert curate(store, [film, copy]).done_before == 2
    assert contents(store)["media"] == before
    check_whole(store)


def test_recut_cuts_anew_only_when_asked(store, material):
    longer = recipe_of(clips__max_s=2)
    summary = curate(store, [material], longer)
    assert (summary.cut_otherwise, summary.clips) == (3, 0)
    summary = curate(store, [material], longer, recut=True)
    assert summary.ok == 3
    assert summary.clips == 6  # the 60-frame shots are divided; the 40-frame ones are what they were
    assert store.count("clips") == 9
    check_whole(store)
    summary = curate(store, [material], longer, recut=True)
    assert summary.done_before == summary.inputs


def test_recut_of_a_file_that_is_gone_keeps_its_clips(tmp_path):
    films = footage(tmp_path / "in", 2, lengths=(40,))
    store = Store.open(tmp_path / "store", create=True)
    curate(store, films)
    before = contents(store)
    now = films[0].stat()
    films[0].write_bytes(bytes(now.st_size))  # a disk that lost its bytes: the same size and time
    os.utime(films[0], ns=(now.st_atime_ns, now.st_mtime_ns))
    summary = curate(store, films, recipe_of(encode__crf=40), recut=True)
    assert (summary.ok, summary.failed) == (1, 1)
    after = contents(store)
    assert [r["state"] for r in after["sources"]] == ["ok", "ok"]
    same = {i for i, data in after["media"].items() if data == before["media"].get(i)}
    assert len(same) == 1
    assert set(after["media"]) == set(before["media"])
    check_whole(store)


def test_duplicates_that_come_later_find_the_same_survivor(tmp_path):
    """By bytes and by the publisher's id, through a duplicate too: a run in parts equals one run."""
    films = footage(tmp_path / "in", 2, lengths=(40,))
    a, b = films
    c = Path(shutil.copy(b, tmp_path / "in" / "z copy.mp4"))
    ids = {a: "v1", b: "v1", c: ""}  # b is a's duplicate by id, c is b's by bytes, and so a's

    def manifest(name: str, files: list[Path]) -> Path:
        path = tmp_path / name
        path.write_text("uri,source_id\n" + "".join(f"{f},{ids[f]}\n" for f in files))
        return path

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    curate(whole, [manifest("all.csv", [c, b, a])])
    for i, file in enumerate([a, b, c]):
        curate(parts, [manifest(f"{i}.csv", [file])])
    rows = contents(whole)["sources"]
    assert rows == contents(parts)["sources"]
    assert [(r["state"], r["duplicate_of"]) for r in rows] == [("ok", None), *[("duplicate", a.name)] * 2]


def test_a_broken_file_does_not_stand_in_for_a_good_one_of_the_same_id(tmp_path):
    (good,) = footage(tmp_path / "in", 1, lengths=(40,))
    (tmp_path / "in" / "a broken.mp4").write_bytes(good.read_bytes()[:900])
    (tmp_path / "m.csv").write_text(f"uri,source_id\nin/a broken.mp4,v1\nin/{good.name},v1\n")
    summary = curate(tmp_path / "store", [tmp_path / "m.csv"])
    assert (summary.ok, summary.duplicate, summary.failed) == (1, 0, 1)


def test_a_file_that_gave_way_to_one_that_failed_later_gets_its_turn(tmp_path):
    """The longer of two with one id opens, and fails in the scan, when the other is a duplicate already."""
    a, b = write(tmp_path / "a.mp4", frames(60)), write(tmp_path / "b.mp4", frames(40, seed=3))
    (tmp_path / "m.csv").write_text(f"uri,source_id\n{a.name},v1\n{b.name},v1\n")
    short = recipe_of(limits__max_frames=50)
    summary = curate(tmp_path / "store", [tmp_path / "m.csv"], short)
    assert (summary.ok, summary.duplicate, summary.failed, summary.clips) == (1, 0, 1, 1)
    check_whole(tmp_path / "store")
    earlier = Store.open(tmp_path / "earlier", create=True)  # stores of before hold it as a duplicate
    curate(earlier, [a], short)
    earlier.append("sources", [{"uri": str(b), "source_id": "v1", "md5": "0" * 32, "state": "duplicate",
                                "duplicate_of": str(a), "ingested_at": datetime.now(UTC)}])  # fmt: skip
    summary = curate(earlier, [tmp_path / "m.csv"], short)
    assert (summary.ok, summary.duplicate, summary.failed, summary.clips) == (1, 0, 1, 1)


def test_a_clip_that_was_lost_is_cut_when_failures_are_tried_again(store, material):
    """As a cut whose worker died for good leaves it: the source is ok, one clip is only in `failures`."""
    before = contents(store)
    lost = before["clips"][0]
    for table in ("clips", "media"):
        store.delete(table, f"clip_id = '{lost['clip_id']}'")
    row = store.read("sources", filter=f"md5 = '{lost['source_md5']}' AND state = 'ok'")
    store.delete("sources", f"md5 = '{lost['source_md5']}' AND state = 'ok'")
    store.append("sources", [row.to_pylist()[0] | {"num_clips": 1}])
    why = Failed("cut", "the worker was lost")
    store.append("failures", [failure_row(row["uri"][0].as_py(), lost["source_md5"], lost["clip_id"], why, 1, "f")])
    assert curate(store, [material]).clips == 0
    summary = curate(store, [material], retry_failed=True)
    assert (summary.ok, summary.clips) == (3, 1)
    assert contents(store) == before
    check_whole(store)
    assert curate(store, [material], retry_failed=True).clips == 0


def test_facts_of_a_manifest_reach_the_store(tmp_path):
    (film,) = footage(tmp_path / "in", 1, lengths=(40,))
    (tmp_path / "m.jsonl").write_text(
        f'{{"uri": "in/{film.name}", "id": "v\'7", "license": "CC-BY", "caption": "a \'b\' – ü"}}'
    )
    curate(tmp_path / "store", [tmp_path / "m.jsonl"])
    (row,) = Store.open(tmp_path / "store").read("sources", ["source_id", "licence", "caption"]).to_pylist()
    assert row == {"source_id": "v'7", "licence": "CC-BY", "caption": "a 'b' – ü"}


def test_names_that_are_not_tame(tmp_path):
    (film,) = footage(tmp_path / "in", 1, lengths=(30,))
    data = film.read_bytes()
    for i, name in enumerate(["-i.mp4", "it's.mp4", 'a"b.mp4', "new\nline.mp4", "Видео №1.mp4", "concat:a|b.mp4"]):
        (film.parent / name).write_bytes(data + bytes(i + 1))  # other bytes, the same film
    nameless = os.path.join(os.fsencode(film.parent), b"latin \xe9.mp4")  # no Unicode: the store could not hold it
    shutil.copy(film, nameless)
    (skipped,) = list_inputs([str(film.parent)]).skipped
    assert skipped.reason.startswith("not named in UTF-8")
    with pytest.raises(IngestError, match="rename"):
        list_inputs([os.fsdecode(nameless)])
    summary = curate(tmp_path / "store", [film.parent])
    assert summary.ok == 7
    assert summary.clips == 7
    summary = curate(tmp_path / "store", [film.parent])
    assert summary.done_before == 7
    check_whole(tmp_path / "store")


def test_a_file_without_end_costs_only_itself(tmp_path):
    films = footage(tmp_path / "in", 1, lengths=(40,))
    write(tmp_path / "in" / "short.mp4", frames(30, seed=9))
    summary = curate(tmp_path / "store", [films[0].parent], recipe_of(limits__max_frames=35))
    assert (summary.ok, summary.failed) == (1, 1)
    (failed,) = Store.open(tmp_path / "store").read("failures", ["stage", "error"]).to_pylist()
    assert failed["stage"] == "scan"
    assert failed["error"].startswith("limit: over 35 frames")


def test_streams_that_change_half_way_are_curated(tmp_path):
    """Their size, both ways; and a clock that jumps from 0 to the time of day."""
    folder = tmp_path / "in"
    folder.mkdir()
    large, small = write(tmp_path / "l.ts", frames(30, 320, 192)), write(tmp_path / "s.ts", frames(30, first=30))
    (folder / "a.ts").write_bytes(large.read_bytes() + small.read_bytes())
    (folder / "b.ts").write_bytes(small.read_bytes() + large.read_bytes())
    write(folder / "c.mkv", frames(60), pts=[0, *(10**12 + 3600 * i for i in range(59))])
    summary = curate(tmp_path / "store", [folder])
    assert (summary.ok, summary.clips_failed) == (3, 0)
    store = Store.open(tmp_path / "store")
    rows = store.read("clips").to_pylist()
    assert sum(c["num_frames"] for c in rows) >= 3 * 55
    names = {s["md5"]: Path(s["uri"]).name for s in store.read("sources").to_pylist()}
    sizes = {(names[c["source_md5"]], c["width"], c["height"]) for c in rows}
    assert sizes == {("a.ts", 320, 192), ("b.ts", 160, 96), ("c.mkv", 160, 96)}


def test_a_second_run_at_once_is_refused_in_a_sentence(store, material):
    program = (
        "import sys; from reelwright.curation.store import Store\n"
        "with Store.open(sys.argv[1]).committing(): print('in', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", program, store.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline().strip() == b"in"
        with pytest.raises(StoreError, match=f"process {other.pid} .* has been writing to this store"):
            curate(store, [material])
    finally:
        other.stdin.close()
        other.wait()
        other.stdout.close()


def test_each_run_is_on_record(curated):
    opened = Store.open(curated)
    (run,) = opened.read("runs").to_pylist()
    assert run["state"] == "finished"
    assert '"ok": 3' in run["counts"]
    assert "ultrafast" in run["recipe"]
    read = sum(row["bytes"] or 0 for row in opened.read("sources", ["bytes"]).to_pylist())
    written = sum(len(mp4) for _, mp4 in opened.read_media(opened.read("clips", ["clip_id"])["clip_id"].to_pylist()))
    assert json.loads(run["stage_bytes"]) == {"clips": written, "inputs": read}


@pytest.mark.exhaustive
def test_workers_and_sandboxes_that_are_killed_change_nothing(curated, material, tmp_path):
    """While a run goes on something dies every now and then: a Ray worker, a sandbox's child. No file is blamed."""
    import random
    import threading

    import psutil

    stop, killed, bereft = threading.Event(), [], set()
    me = psutil.Process()

    def strike() -> None:
        rng = random.Random(0)
        while not stop.wait(0.3) and len(killed) < 4:
            name = ("reelwright.curation.media.sandbox_child", "ray::reel:")[len(killed) % 2]
            ours = [p for p in me.children(recursive=True) if name in " ".join(_command(p))]
            ours = [p for p in ours if _parent(p) not in bereft]  # a file that kills two in a row is to blame
            if ours:
                victim = rng.choice(ours)
                if "sandbox" in name:
                    bereft.add(_parent(victim))
                victim.kill()
                killed.append(name)

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        extra = footage(tmp_path / "more", 5, lengths=(60, 60), seed=50)
        summary = curate(tmp_path / "store", [*material.glob("film*.mp4"), *extra])
    finally:
        stop.set()
        thread.join()
    assert len(killed) >= 2
    assert (summary.ok, summary.failed, summary.clips_failed) == (8, 0, 0)
    got, expect = contents(tmp_path / "store")["media"], contents(curated)["media"]
    assert got.items() >= expect.items()
    check_whole(tmp_path / "store")


def _command(process) -> list[str]:
    import psutil

    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _parent(process) -> int:
    import psutil

    try:
        return process.ppid()
    except psutil.Error:
        return 0
