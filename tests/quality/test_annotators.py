"""Annotators against the truth of the development corpus, each file taken as one clip (`make quality`)."""

from __future__ import annotations

import json
import os
import statistics
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from reelwright import annotate
from reelwright.annotate import Annotator, annotate_clip

CORPUS = Path(os.environ.get("REELWRIGHT_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
CATEGORIES = ("text", "motion", "blur", "watermark", "natural", "camera")

LOOKING = ("technical", "blur", "motion", "text", "light", "texture", "camera_motion", "watermark")

pytestmark = [
    pytest.mark.quality,
    pytest.mark.skipif(
        not (CORPUS / "truth.json").exists(), reason=f"no corpus at {CORPUS}; set REELWRIGHT_CORPUS to its folder"
    ),
]


@pytest.fixture(scope="module")
def measured() -> dict[str, tuple[dict, dict]]:
    """path -> (truth, columns), for mp4 files of one shot."""
    annotators: list[Annotator] = annotate.load_all(dict.fromkeys(LOOKING))
    files = json.loads((CORPUS / "truth.json").read_text())["files"]
    wanted = [
        f for f in files if f["category"] in CATEGORIES and f["path"].endswith(".mp4") and not f.get("boundaries")
    ]
    found = {}
    for truth in wanted:
        columns, failures = annotate_clip((CORPUS / truth["path"]).read_bytes(), annotators)
        found[truth["path"]] = (truth, columns)
        assert not failures, f"{truth['path']}: {failures[0].annotator}: {failures[0].error}"
    return found


def of(measured: dict, category: str) -> list[tuple[dict, dict]]:
    return [(truth, columns) for truth, columns in measured.values() if truth["category"] == category]


def auc(high: list[float], low: list[float]) -> float:
    """Probability that one of `high` is above one of `low`; ties count half."""
    assert high
    assert low
    return statistics.mean((h > x) + 0.5 * (h == x) for h in high for x in low)


def test_text_coverage_is_within_one_percent_of_the_frame(measured):
    clips = of(measured, "text")
    errors = [abs(columns["text_coverage"] - truth["text_coverage"]) for truth, columns in clips]
    assert statistics.mean(errors) <= 0.01
    assert auc(
        [c["text_coverage"] for t, c in clips if t.get("text")],
        [c["text_coverage"] for t, c in clips if not t.get("text")],
    ) == pytest.approx(1)


def test_footage_without_text_is_left_alone(measured):
    plain = [c["text_coverage"] for t, c in of(measured, "natural") if t.get("text_present") is False]
    assert max(plain) <= 0.01


def test_blur_scores_fall_with_sigma(measured):
    series = defaultdict(list)
    for truth, columns in of(measured, "blur"):
        series[truth["blur_series"]].append((truth["blur_sigma"], columns["blur_score"]))
    assert len(series) >= 2
    for name, steps in series.items():
        scores = [score for _, score in sorted(steps)]
        assert all(sharper > softer for sharper, softer in pairwise(scores)), (name, scores)


def test_moving_clips_score_well_above_still_ones(measured):
    rows = [(truth.get("motion"), columns["motion_score"]) for truth, columns in measured.values()]
    moving = [score for label, score in rows if label in ("high", "medium")]
    still = [score for label, score in rows if label == "static"]
    assert min(moving) > 3 * max(still)


def test_a_static_camera_is_told_from_a_moving_one(measured):
    clips = [(t, c) for t, c in of(measured, "camera") if t["camera"]["over"] == "still"]  # nothing else moves
    still = [c["motion_global"] for t, c in clips if t["camera_motion"] == "static"]
    moving = [c["motion_global"] for t, c in clips if t["camera_motion"] != "static"]
    assert auc(moving, still) == 1


def test_camera_motion_is_named_right(measured):
    clips = of(measured, "camera")
    assert len(clips) == 36
    right = [c["camera_motion"] == t["camera_motion"] for t, c in clips]
    assert statistics.mean(right) >= 0.92


def test_watermarks_rank_above_clips_without_and_their_boxes_fit(measured):
    clips = of(measured, "watermark")
    assert average_precision([(c["watermark_score"], bool(t["watermark"])) for t, c in clips]) >= 0.9
    claimed = [iou(c["watermark_box"], t["watermark"]) for t, c in clips if t["watermark"] and c["watermark_box"]]
    assert statistics.mean(claimed) >= 0.5


def test_no_mark_is_claimed_on_still_or_slow_clips(measured):
    plain = [(t["path"], c["watermark_box"]) for t, c in of(measured, "motion") + of(measured, "camera")]
    assert not [path for path, box in plain if box]


def average_precision(scored: list[tuple[float, bool]]) -> float:
    """Precision at the rank of each positive, averaged."""
    ranked = [positive for _, positive in sorted(scored, key=lambda s: -s[0])]
    ranks = [rank for rank, positive in enumerate(ranked, 1) if positive]
    return statistics.mean(found / rank for found, rank in enumerate(ranks, 1))


def iou(a: list[float], b: list[float]) -> float:
    """Of boxes [x, y, w, h]."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
