"""An evaluation of many generations in a store: listed, filtered, reported."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.curation.store.evaluations import find_evaluation
from reelwright.evaluation.rating.scales import TEXT
from reelwright.pipelines.evaluate.report.page import write_page

MODELS = ("base", "tuned", "distilled", "other")
RATERS = ("anna", "ben", "chen", "dora", "emil")
CATEGORIES = 48
MEASURES = (
    "motion_score", "still_share", "motion_worst", "camera_share", "blur_score", "blur_worst", "flicker",
    "flicker_global", "colour_drift", "colour_drift_rate", "brightness_drift", "saturation_drift", "cuts",
    "transitions", "cut_loudest", "repeated_share", "loop_share", "text_coverage", "watermark_score",
    "nearest_similarity",
)  # fmt: skip
"""As many columns of numbers as the default measures have."""
AT = datetime(2026, 1, 2, tzinfo=UTC)


def fill(store: Store, generations: int, video_bytes: int = 16_000) -> None:
    """Write an evaluation of 4 models, of each video what all measures and raters leave.

    That is the columns of the default measures with their fingerprints and errors, three people's scores in four
    dimensions, a judge's in the same, and bytes in place of a video, which a page puts in unread.
    """
    rng = np.random.default_rng(5)
    prompts = generations // len(MODELS)
    rows: list[dict[str, Any]] = [
        {
            "generation_id": f"{m}{p:06d}", "evaluation_id": "e1", "model": model, "prompt_id": f"p{p:05d}",
            "prompt": f"prompt {p} of some words", "category": f"category {p % CATEGORIES:02d}", "task": "t2v",
            "seed": 1,
            "sample": 0, "state": "ok" if (p + m) % 97 else "failed", "error": None if (p + m) % 97 else "no memory",
            "width": 832, "height": 480, "fps": 15.0, "num_frames": 93, "wall_s": 30.0, "at": AT,
        }
        for m, model in enumerate(MODELS) for p in range(prompts)
    ]  # fmt: skip
    made = [row["generation_id"] for row in rows if row["state"] == "ok"]
    for start in range(0, len(rows), 1000):
        some = rows[start : start + 1000]
        store.add_generations(
            some, {row["generation_id"]: rng.bytes(video_bytes) for row in some if row["state"] == "ok"}
        )
    evaluation = {"evaluation_id": "e1", "name": "large", "at": AT, "suite": "ours", "models": list(MODELS),
                  "settings": json.dumps({"steps": 50}), "prompts": prompts, "wanted": len(rows)}  # fmt: skip
    store.append("evaluations", [evaluation])
    measured: dict[str, Any] = {"generation_id": made}
    for number, name in enumerate(MEASURES):
        measured[name] = rng.gamma(1 + number % 5, 0.1, len(made))
        measured |= {
            f"{name}_fingerprint": ["0123456789abcdef"] * len(made),
            f"{name}_error": pa.nulls(len(made), pa.string()),
        }
    store.merge("generations", pa.table(measured), on="generation_id")
    ratings = [
        {
            "rating_id": f"{name}{d}{r}", "study_id": "s", "item_id": name, "evaluation_id": "e1", "kind": "mos",
            "generation_id": name, "dimension": dimension, "rater": RATERS[(k + r) % len(RATERS)], "is_human": True,
            "value": float(np.clip(round(3 + 0.2 * int(name[0]) + noise), 1, 5)), "repeat": 0, "seconds": 4.0, "at": AT,
        }
        for k, name in enumerate(made) for d, dimension in enumerate(TEXT)
        for r, noise in enumerate(rng.normal(0, 0.8, 3))
    ]  # fmt: skip
    ratings += [
        {
            "rating_id": f"j{name}{d}", "evaluation_id": "e1", "kind": "mos", "generation_id": name, "repeat": 0,
            "dimension": dimension, "rater": "judge-7b", "is_human": False, "value": float(value), "at": AT,
        }
        for d, dimension in enumerate(TEXT)
        for name, value in zip(made, np.clip(rng.normal(3, 0.5, len(made)), 1, 5), strict=True)
    ]  # fmt: skip
    store.append("ratings", pa.Table.from_pylist(ratings, schema=store.schema("ratings")))


def measure_page(generations: int) -> dict[str, float]:
    """Seconds of a list, a filtered list and the page, best of 3."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store", create=True)
        fill(store, generations)
        evaluation = find_evaluation(store, "large")
        listed = "SELECT generation_id, model, prompt, category, state, motion_score FROM generations"
        filtered = (
            f"{listed} JOIN (SELECT generation_id, avg(value) AS mos FROM ratings GROUP BY 1) USING (generation_id) "
            "WHERE category = 'category 07' AND mos < 3 ORDER BY mos"
        )
        return {
            "generations": store.count("generations"),
            "ratings": store.count("ratings"),
            "listed_s": best(lambda: store.sql(listed).num_rows),
            "filtered_s": best(lambda: store.sql(filtered).num_rows),
            "reported_s": best(lambda: write_page(store, evaluation, Path(folder) / "page.html")),
            "reported_cpu_s": best(
                lambda: write_page(store, evaluation, Path(folder) / "page.html"), clock=time.process_time
            ),
            "report_of_filtered_s": best(
                lambda: write_page(store, evaluation, Path(folder) / "page.html", where="motion_score > 0.4")
            ),
        }


def best(work: Callable[[], object], times: int = 3, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the quickest of several calls; by `process_time`, of all threads together."""
    found = []
    for _ in range(times):
        began = clock()
        work()
        found.append(clock() - began)
    return min(found)
