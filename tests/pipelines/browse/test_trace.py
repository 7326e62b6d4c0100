"""From one generation to the training clips nearest to it, with weights, scores and losses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.closed_loop.footage import KINDS, build, frames_of, mp4_of
from reelwright.curation.store import Store, StoreError
from reelwright.pipelines.browse.trace.find import trace
from reelwright.pipelines.browse.trace.page import render
from reelwright.pipelines.browse.trace.words import words

HOSTILE = "<b>sea</b>\x1b[2J\u202e waves"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two clips of each kind, one outside the snapshot; generations like the sea and a city, and a failed one."""
    store = build(tmp_path_factory.mktemp("trace") / "store", each=2, starved=2)
    odd = "select clip_id, 2 as w from clips_full where uri not like '%1.mp4'"
    store.snapshots.create("half", odd, weights="w")
    rows = [
        {"generation_id": "aa11", "prompt": "a boat on the open sea", "state": "ok", "lineage": lineage(store)},
        {"generation_id": "aa22", "prompt": HOSTILE, "state": "failed", "error": "no memory", "lineage": "{}"},
        {"generation_id": "bb33", "prompt": "the city", "state": "ok",
         "lineage": json.dumps({"snapshot": {"name": "half", "content_hash": "sha256:other"}})},
    ]  # fmt: skip
    same = {"evaluation_id": "e", "model": "toy", "category": "sea", "seed": 7}
    videos = {"aa11": mp4_of(frames_of("sea", 50)), "bb33": mp4_of(frames_of("city", 50))}
    store.add_generations([same | row for row in rows], videos)
    store.append("evaluations", [{"evaluation_id": "e", "name": "first", "models": ["toy"]}])
    pinned = store.snapshots.rows("half")["clip_id"].to_pylist()
    losses = [
        (run, clip, band, relative)
        for run, relative in (("old", 3.0), ("run-7", 1.5)) for clip in pinned for band in ("0.50-1.00", "all")
    ]  # fmt: skip
    store.append("clip_losses", [
        {"run": run, "run_id": run, "clip_id": clip, "band": band, "loss": 0.5, "relative": relative, "draws": 4,
         "first_step": 1, "last_step": 9, "at": datetime.now(UTC)}
        for run, clip, band, relative in losses
    ])  # fmt: skip
    return store


def lineage(store: Store) -> str:
    snapshot = store.snapshots.show("half")
    stated = {"name": "half", "content_hash": snapshot.content_hash, "store": store.uri}
    return json.dumps({"run": "run-7", "snapshot": stated, "checkpoint": "/gone/run-7/checkpoints/step-00000009"})


def test_the_nearest_clips_are_those_trained_on_that_say_and_show_the_same(store: Store) -> None:
    found = trace(store, "aa11", count=3)
    assert [one.name for one in found.trained_on] == ["half"]
    pinned = set(store.snapshots.rows("half")["clip_id"].to_pylist())
    assert len(found.by_caption) == len(found.by_picture) == 3
    assert {clip.clip_id for clip in [*found.by_caption, *found.by_picture]} <= pinned
    assert "sea" in found.by_caption[0].caption
    assert "sea" in found.by_picture[0].source
    first = found.by_caption[0]
    assert first.likeness > found.by_caption[1].likeness
    assert first.weight == {"half": 2.0}
    assert first.scores["cluster_name"]
    assert (first.losses["all"], first.loss_run) == ((1.5, 4), "run-7"), "of the generation's own run"
    assert any("16 x 9 px" in note for note in found.notes)
    said = "\n".join(words(found))
    assert "trained on   half sha256:" in said
    assert "loss 1.50 of the usual over 4 draws: hard to learn" in said


def test_a_snapshot_that_is_another_now_is_not_taken_for_it(store: Store) -> None:
    found = trace(store, "bb")
    assert [one.snapshot for one in found.trained_on] == [None]
    assert any("holds other clips" in note for note in found.notes)
    assert len(found.by_caption) == min(8, 2 * len(KINDS)), "all clips of the store are looked at"
    assert "city" in found.by_caption[0].caption
    assert "city" in found.by_picture[0].source


def test_a_generation_that_failed_is_traced_by_its_prompt(store: Store) -> None:
    found = trace(store, "aa22")
    assert found.by_caption
    assert not found.by_picture
    page = render(store, found)
    assert "It failed: <bdi>no memory</bdi>" in page
    assert "&lt;b&gt;sea" in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_the_command_prints_and_writes_a_page_with_pictures(store: Store, call, tmp_path: Path) -> None:
    done = call("trace", "aa11", "--store", store.uri, "-o", tmp_path, "-n", "2")
    assert done.returncode == 0, done.stderr
    assert "nearest in caption:" in done.stdout
    page = (tmp_path / "trace.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == 1 + 4
    assert "hard to learn" in page
    hostile = call("trace", "aa22", "--store", store.uri)
    assert "\x1b" not in hostile.stdout
    assert "begins the ids of several generations: aa11, aa22" in call("trace", "aa", "--store", store.uri).stderr


def test_what_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match="no generation's id begins with 'zz'"):
        trace(store, "zz")
    with pytest.raises(StoreError, match="no generation's id begins with ''"):
        trace(store, "")
