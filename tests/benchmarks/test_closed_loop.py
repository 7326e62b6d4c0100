"""The closed loop's measure tells kinds apart; the starved one is found and weighed up by the commands of a user."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.closed_loop.footage import KINDS, PROMPTS, STARVED, build, frames_of, mp4_of
from benchmarks.closed_loop.study import MEASURE, SEEDS, freeze, measure, weigh
from reelwright.curation.store import Store

pytestmark = pytest.mark.waits


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Six clips of each kind and one of the starved, whose prompts are answered with another kind."""
    store = build(tmp_path_factory.mktemp("closed") / "store", each=6, starved=1)
    rows, videos = [], {}
    for kind, prompts in PROMPTS.items():
        for n in range(len(prompts) * SEEDS):
            key = f"{kind}-{n}"
            rows.append({
                "generation_id": key, "evaluation_id": "e", "model": "toy", "category": kind, "state": "ok",
                "prompt_id": f"{kind}-{n // SEEDS}", "prompt": prompts[n // SEEDS], "sample": n % SEEDS,
            })  # fmt: skip
            videos[key] = mp4_of(frames_of("city" if kind == STARVED else kind, 3000 + n))
    store.append("evaluations", [{"evaluation_id": "e", "name": "before", "models": ["toy"]}])
    store.add_generations(rows, videos)
    freeze(store, "all")
    return store


def test_likeness_is_near_1_of_real_clips_and_below_0_of_another_kind(store):
    found = measure(store, "before")
    for kind in KINDS:
        assert found.likeness[kind].shape == (len(PROMPTS[kind]), SEEDS)
        assert len(found.frames[kind]) == len(PROMPTS[kind])
        mean = found.likeness[kind].mean()
        assert mean < 0 if kind == STARVED else 0.4 < mean < 2, (kind, mean)
    kept = store.sql(f"select category, avg({MEASURE}) as mean from generations group by 1").to_pylist()
    assert {row["category"]: row["mean"] for row in kept} == pytest.approx(
        {kind: of.mean() for kind, of in found.likeness.items()}
    )


def test_the_starved_kind_is_found_and_its_clip_weighs_more(store, tmp_path):
    measure(store, "before")
    found = weigh(store, "before", "all", "weighed", tmp_path / "weights.json")
    assert [one["category"] for one in found["categories"] if one["weak"]] == [STARVED]
    clips = store.sql("select clip_id, uri from clips_full").to_pylist()
    starved = {row["clip_id"] for row in clips if f"/{STARVED}-" in row["uri"]}
    rows = store.snapshots.rows("weighed").to_pylist()
    weight = {kind: np.mean([r["weight"] for r in rows if (r["clip_id"] in starved) is kind]) for kind in (True, False)}
    assert weight[True] > 1.5 * weight[False]
