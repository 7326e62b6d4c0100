"""HPSv3 and VideoAlign judge an evaluation: small checkpoints in the published layouts, through Ray into columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reelwright.curation.media.frames import read
from reelwright.curation.store import Store
from reelwright.curation.store.evaluations import find_evaluation
from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.judging.recipe import JudgeRecipe
from reelwright.evaluation.measures.every_frame import every_frame
from reelwright.pipelines.evaluate.judging import judge
from reelwright.pipelines.evaluate.run import Options
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Video
from tests.pipelines.evaluate.made import PROMPTS, make_evaluation
from tests.training.rewards.qwen2_vl import published

pytestmark = [pytest.mark.usefixtures("ray_local"), pytest.mark.waits, pytest.mark.exhaustive]
QUIET = Options(quiet=True)


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Of both rewards: checkpoints, base and instructions in small."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("published")
    base = published.base(folder / "Qwen2-VL-small")
    rows = len(AutoTokenizer.from_pretrained(base))
    hps = published.write(published.weights(rows + 1, published.hpsv3_head()), folder / "HPSv3.safetensors")
    published.videoalign_settings(folder / "align")
    published.write(published.prefixed(published.weights(rows + 3, published.videoalign_head())),
                    folder / "align" / "checkpoint-20" / "model.pth")  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for name, checkpoint, text in (
        ("hpsv3_percentile", hps, published.HPSV3_TEXT),
        ("videoalign_ta", folder / "align", published.VIDEOALIGN_TEXT),
    ):
        words = folder / f"{name}.txt"
        words.write_text(text)
        found[name] = {
            "checkpoint": str(checkpoint), "base": str(base), "instruction": str(words), "dtype": "float32",
            "instruction_sha256": published.sha256(text), "device": "cpu", "gpus": 0,
        }  # fmt: skip
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two models' videos of a prompt; `tuned` was optimised by HPSv3 under another name."""
    store = make_evaluation(tmp_path, prompts=PROMPTS[:2], failed=())
    learned = [{"label": "taste", "name": "hpsv3_general", "models": []}]
    lineage = json.dumps({"base": {"learned_from": []}, "tuned": {"learned_from": learned}})
    store.merge("evaluations", pa.table({"evaluation_id": ["e1f0"], "lineage": [lineage]}), on="evaluation_id")
    return store


def test_both_judge_as_the_rewards_of_training_do_and_none_its_own_pupil(
    store: Store, parameters: dict[str, dict[str, Any]]
) -> None:
    evaluation = find_evaluation(store, "first")
    both = JudgeRecipe.model_validate({"rewards": {
        "hps": {"kind": "hpsv3_percentile", "parameters": parameters["hpsv3_percentile"]},
        "align": {"kind": "videoalign_ta", "parameters": parameters["videoalign_ta"]},
    }})  # fmt: skip
    with pytest.raises(EvaluationError, match=r"hps \(hpsv3_percentile\) cannot judge tuned, which was trained on it"):
        judge(store, evaluation, both, QUIET)
    assert "hps" not in store.schema("generations").names
    align = JudgeRecipe(rewards={"align": both.rewards["align"]})
    assert judge(store, evaluation, align, QUIET).made == {"align": 4}
    found = judge(store, evaluation, both, QUIET, allow_trained=True)
    assert (found.made, found.current["align"], sum(found.failed.values())) == ({"hps": 4}, 4, 0)
    rows = store.sql("select * from generations where state = 'ok' order by generation_id").to_pylist()
    assert len({(row["hps"], row["align"]) for row in rows}) == 4
    one = rows[1]
    ((_, mp4),) = store.read_generated([one["generation_id"]])
    _, (frames,) = read(mp4, [every_frame(96, "rgb")])
    for label, reward in both.reward_models().items():
        assert score(reward, [Video(frames, 10.0, one["prompt"])]) == pytest.approx([one[label]], abs=1e-5)
        assert one[f"{label}_fingerprint"] == reward.fingerprint
        assert one[f"{label}_error"] is None
