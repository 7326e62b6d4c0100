"""Annotators against the truth of the development corpus, each file taken as one clip (`make quality`)."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

import annotate
from annotate import Annotator, annotate_clip

CORPUS = Path(os.environ.get("REELWRIGHT_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
CATEGORIES = ("text", "motion", "blur", "watermark", "natural", "camera")

LOOKING = ("technical", "blur", "motion", "text", "light", "texture")

pytestmark = [
    pytest.mark.quality,
    pytest.mark.skipif(
        not (CORPUS / "truth.json").exists(), reason=f"no corpus at {CORPUS}; set REELWRIGHT_CORPUS to its folder"
    ),
]


@pytest.fixture(scope="module")
def measured() -> dict[str, tuple[dict, dict, float]]:
    """path -> (truth, columns, CPU seconds of all annotators), for mp4 files of one shot."""
    annotators: list[Annotator] = annotate.load_all(dict.fromkeys(LOOKING))
    files = json.loads((CORPUS / "truth.json").read_text())["files"]
    wanted = [
        f for f in files if f["category"] in CATEGORIES and f["path"].endswith(".mp4") and not f.get("boundaries")
    ]
    annotate_clip((CORPUS / wanted[0]["path"]).read_bytes(), annotators)  # models load outside the clock
    found = {}
    for truth in wanted:
        start = time.process_time()
        columns, failures = annotate_clip((CORPUS / truth["path"]).read_bytes(), annotators)
        found[truth["path"]] = (truth, columns, time.process_time() - start)
        assert not failures, f"{truth['path']}: {failures[0].annotator}: {failures[0].error}"
    return found


def of(measured: dict, category: str) -> list[tuple[dict, dict]]:
    return [(truth, columns) for truth, columns, _ in measured.values() if truth["category"] == category]


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
    rows = [(truth.get("motion"), columns["motion_score"]) for truth, columns, _ in measured.values()]
    moving = [score for label, score in rows if label in ("high", "medium")]
    still = [score for label, score in rows if label == "static"]
    assert min(moving) > 3 * max(still)


def test_a_static_camera_is_told_from_a_moving_one(measured):
    clips = [(t, c) for t, c in of(measured, "camera") if t["camera"]["over"] == "still"]  # nothing else moves
    still = [c["motion_global"] for t, c in clips if t["camera_motion"] == "static"]
    moving = [c["motion_global"] for t, c in clips if t["camera_motion"] != "static"]
    assert auc(moving, still) == 1


def test_all_annotators_of_a_short_clip_fit_a_quarter_of_a_second(measured):
    seconds = [s for truth, _, s in measured.values() if (truth["width"], truth["height"]) == (640, 360)]
    assert statistics.mean(seconds) < 0.4  # 0.2 on an idle core; twice that while others use its other half
