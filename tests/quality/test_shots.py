"""Shot boundaries against the development corpus's truth, scored by the corpus's own scorer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import av
import pytest

from reelwright.curation.shots import ANALYSIS_WIDTH, ShotConfig, make_detector

SHARED = Path(__file__).parents[3] / "shared"
CORPUS = SHARED / "corpus"

pytestmark = [
    pytest.mark.quality,
    pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no corpus to measure on at {CORPUS}"),
]


def boundaries(path: Path, fps: float) -> list[list[int]]:
    detector = make_detector(ShotConfig(), fps)
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            height = max(2, round(frame.height * ANALYSIS_WIDTH / frame.width / 2) * 2)
            small = frame.reformat(width=ANALYSIS_WIDTH, height=height, format="rgb24", interpolation="AREA")
            found += detector.push(small.to_ndarray()[None])
    return [[t.first, t.last] for t in found + detector.flush()]


def test_shots_are_found_better_than_by_the_network_alone():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("score", SHARED / "tools" / "score.py")
    scorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scorer)
    files = json.loads((CORPUS / "truth.json").read_text())["files"]
    files = [f for f in files if f["category"] != "dups" and "boundaries" in f]
    wrong: list = []
    figures = scorer.score_shots(files, {f["path"]: boundaries(CORPUS / f["path"], f["fps"]) for f in files}, wrong)
    print(figures, *wrong, sep="\n")
    assert figures["shot_f1"] >= 0.97
    assert figures["cut_recall"] >= 0.97
    assert figures["gradual_recall"] >= 0.9
    assert figures["false_boundaries"] <= 2
