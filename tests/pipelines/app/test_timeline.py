"""A source's timeline: each moment is in a clip, or has a reason why it is in none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from reelwright.curation.clips import ClipConfig
from reelwright.curation.store import Store
from reelwright.pipelines.app.timeline import gaps, timeline
from tests.pipelines.app.made import make_store

SOURCE = {"fps": 25.0, "duration_s": 20.0, "width": 1920, "height": 1080, "note": "a slide show at the end"}
BOUNDS = ClipConfig(min_s=1.0, max_s=10.0, min_side=64)


def shot(index: int, start: float, end: float, transition: str = "cut", **more: Any) -> dict[str, Any]:
    return {"shot_index": index, "start_s": start, "end_s": end, "transition": transition, "detector": "network",
            "confidence": 0.9, "crop_x": 0, "crop_y": 0, "crop_w": 1920, "crop_h": 1080, **more}  # fmt: skip


def clip(index: int, start: float, end: float) -> dict[str, Any]:
    return {"clip_id": f"{index}-{start}", "shot_index": index, "start_s": start, "end_s": end}


def told(found: list[dict[str, Any]]) -> list[tuple[str, float, float, str]]:
    return [(one["kind"], one["start_s"], one["end_s"], one["why"]) for one in found]


def test_each_moment_outside_of_clips_has_its_reason():
    shots = [
        shot(0, 0.0, 4.0, "start"),
        shot(1, 5.0, 5.5, "gradual"),  # after a dissolve of a second, and too short
        shot(2, 5.5, 9.0, crop_w=40, crop_h=40),
        shot(3, 9.0, 14.0),
    ]
    clips = [clip(0, 0.0, 4.0), clip(3, 9.0, 13.0)]
    assert told(gaps(shots, clips, SOURCE, BOUNDS)) == [
        ("transition", 4.0, 5.0, "gradual transition, found by network"),
        ("unused", 5.0, 5.5, "a shot of 0.50 s, under 1 s"),
        ("unused", 5.5, 9.0, "the picture inside the borders is 40 px, under 64 px"),
        ("unused", 13.0, 14.0, "a rest too short, a picture that stands, or a hole in the file's times"),
        ("dropped", 14.0, 20.0, "a slide show at the end"),
    ]


def test_a_source_that_is_all_in_clips_has_no_gap_and_rounding_is_none():
    shots = [shot(0, 0.0, 10.0, "start"), shot(1, 10.0, 20.0)]
    clips = [clip(0, 0.0, 5.0), clip(0, 5.02, 10.0), clip(1, 10.0, 19.97)]
    assert gaps(shots, clips, SOURCE, BOUNDS) == []


@pytest.mark.parametrize(("more", "why"), [
    ({"spans": "[[0, 3, []]]"}, "outside of the spans that the manifest names"),
    ({"no_clip_reason": "pictures that stand, or holes"}, "pictures that stand, or holes"),
    ({}, "a picture that stands, or a hole in the file's times"),
])  # fmt: skip
def test_a_shot_without_a_clip_says_what_the_source_says(more, why):
    found = gaps([shot(0, 0.0, 20.0, "start")], [], SOURCE | more, BOUNDS)
    assert told(found) == [("unused", 0.0, 20.0, why)]
    assert told(gaps([shot(0, 0.0, 20.0, "start")], [], SOURCE | more, None)) == told(found)


def test_a_fade_at_the_end_is_a_transition_where_no_frame_was_dropped():
    faded = SOURCE | {"frames_in_transitions": 50, "frames_dropped": 0}
    found = gaps([shot(0, 0.0, 18.0, "start")], [clip(0, 0.0, 18.0)], faded, BOUNDS)
    assert told(found) == [("transition", 18.0, 20.0, "gradual transition that ends the file")]


def ran(store: Store, day: int, recipe: str) -> None:
    at = datetime(2026, 1, day, tzinfo=UTC)
    store.append("runs", [{"run_id": f"{day}", "command": "curate", "recipe": recipe, "started_at": at}])


def test_a_store_s_timeline_is_in_order_and_cut_by_its_newest_run(tmp_path):
    store = make_store(tmp_path / "store", clips=6)
    store.append("shots", [{"source_md5": "source0", "shot_index": 9, "start_s": 18.0, "end_s": 20.0,
                            "transition": "cut"}])  # fmt: skip
    ran(store, 2, "clips: {min_s: 3.0}")
    ran(store, 1, "clips: {min_s: 0.5}")
    found = timeline(store, {"fps": 25.0, "duration_s": 20.0}, "source0")
    assert [one["start_s"] for one in found["clips"]] == [0, 2, 4, 6, 8, 10]
    assert [one["shot_index"] for one in found["shots"]] == [0, 9]
    assert ("unused", 18.0, 20.0, "a shot of 2.00 s, under 3 s") in told(found["gaps"])
    assert timeline(store, {}, "it's nowhere") == {"shots": [], "clips": [], "gaps": []}


@pytest.mark.parametrize("recipe", ["{", "clips: [1]", "clips: {min_s: -1}", "- 3", ""])
def test_a_recipe_that_cannot_be_read_takes_no_clip_away(tmp_path, recipe):
    store = make_store(tmp_path / "store", clips=2)
    ran(store, 1, recipe)
    assert len(timeline(store, {"duration_s": 20.0}, "source0")["clips"]) == 2
