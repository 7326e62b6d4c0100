"""A reward and a judge learn what people like, from the store's ratings."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from reelwright.annotate.chat.payload import jpegs, pixels
from reelwright.annotate.chat.registry import close_chats
from reelwright.curation.media.frames import Frames, read
from reelwright.curation.media.unencoded import Unencoded, read_unencoded
from reelwright.curation.store import Store
from reelwright.training.distributed.world import World
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Video
from reelwright.training.rewards.registry import load
from reelwright.training.tuning import rows
from reelwright.training.tuning.calibration import calibrated, fit
from reelwright.training.tuning.preference import greyed, tie_loss
from reelwright.training.tuning.recipe import JudgeRecipe, RewardRecipe, load_tune_recipe
from reelwright.training.tuning.run import TuneJob, read_result, run_tuning
from reelwright.training.tuning.samples import LeftOut
from reelwright.training.tuning.scoring import VideoScorer
from tests.annotate.chat import checkpoints
from tests.training.tuning.miniature import SETTINGS, clip, rated_store

COMMON = {name: value for name, value in SETTINGS.items() if name != "max_new_tokens"} | {
    "optim.schedule": "constant", "data.max_tokens": 2000, "data.holdout": 0.35, "compute.per_forward": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    torch.set_num_threads(1)
    return rated_store(tmp_path_factory.mktemp("rated") / "store", 40)


def tune(use: str, store: Store, folder, **settings) -> TuneJob:
    base = checkpoints.qwen_vl(folder / "base")
    recipe = load_tune_recipe(use, None, COMMON | {"base.model": str(base)} | settings)
    job = TuneJob(use, recipe, folder / "run", store)
    assert run_tuning(job, World.alone("cpu"), lambda _: None).finished
    return job


@pytest.fixture(scope="module")
def reward(store, tmp_path_factory) -> TuneJob:
    sql = rows.CHOICES + " and rater = 'ann'"
    return tune("reward", store, tmp_path_factory.mktemp("reward"), **{"data.sql": sql, "steps": 40})


def test_a_reward_learns_which_of_two_people_like(reward):
    measured = read_result(reward.folder)["measured"]
    assert measured["pairs"] >= 8
    assert measured["overall/accuracy"] > 0.9


def test_the_result_is_a_reward_of_the_grpo_part(reward):
    made = load("tuned", {"checkpoint": str(reward.folder / "model"), "dtype": "float32", "gpus": 0, "device": "cpu"})
    made.prepare()
    ordered = 0
    for number in range(100, 110):  # prompts that it has not seen
        videos = []
        for level in (1, 5):
            _, (frames,) = read(clip((40 * level + 15,) * 3, number), [Frames(count=8, height=56, color="rgb")])
            videos.append(Video(frames, 4.0, f"a dog {number}"))
        found = score(made, videos)
        ordered += found[0] < found[1]
    assert ordered >= 8
    assert made.fingerprint != load("tuned", {"checkpoint": str(reward.folder / "model"), "gpus": 0}).fingerprint
    assert score(made, [videos[0]]) == found[:1]


def test_scores_of_the_loaded_reward_are_those_that_were_measured(reward, store):
    """The same generation, through the store's file and through the reward's frames: one normalised score."""
    told = json.loads((reward.folder / "model" / "reward.json").read_text())["normal"]["overall"]
    row = json.loads((reward.folder / "held_out.jsonl").read_text().splitlines()[0])
    name = row["key"].partition(":")[0]
    ((_, mp4),) = store.read_generated([name])
    _, (frames,) = read(mp4, [Frames(count=8, height=56, color="rgb")])
    made = load("tuned", {"checkpoint": str(reward.folder / "model"), "dtype": "float32", "gpus": 0, "device": "cpu"})
    prompt = store.read("generations", ["prompt"], f"generation_id = '{name}'").to_pylist()[0]["prompt"]
    (found,) = score(made, [Video(frames, 4.0, prompt)])
    expect = (row["first"]["overall"] - told["mean"]) / told["std"]
    assert abs(found - expect) < 0.15  # frames went through the encoder's colours once more


def test_frames_are_judged_as_the_jpegs_that_it_was_tuned_on(reward):
    """Noise, which JPEG changes: the score is of what comes out of it, and not of the frames as they were."""
    scorer = VideoScorer(reward.folder / "model", "float32", "cpu")
    recipe = scorer.settings.recipe
    frames = np.random.default_rng(0).integers(0, 256, (8, 56, 56, 3), np.uint8)
    needs = [need for need in recipe.sampling.needs if isinstance(need, Frames)]
    facts, (seen,) = read_unencoded(Unencoded(frames, 4.0), needs)
    seen, _ = recipe.sampling.seen(seen, facts)

    def by_hand(shown: np.ndarray) -> float:
        row = scorer.objective.row("a dog", shown, 2.0 / len(shown))
        with torch.inference_mode():
            scores = scorer.objective.scores(scorer.network, [row], torch.device("cpu"))[0]
        return scorer.settings.normalised(scores.tolist())["overall"]

    assert recipe.jpeg_quality == 90
    found = scorer(frames, 4.0, "a dog")["overall"]
    assert found == pytest.approx(by_hand(pixels(jpegs(seen, 90))), abs=1e-6)
    assert abs(found - by_hand(seen)) > 1e-3


@pytest.mark.parametrize("parameters", [{"checkpoint": ""}, {"checkpoint": "nowhere"}])
def test_a_folder_that_is_no_tuned_reward_is_refused(parameters):
    with pytest.raises(ValueError, match=r"checkpoint|reward\.json"):
        load("tuned", parameters)


def test_an_unknown_dimension_is_refused(reward):
    with pytest.raises(ValueError, match="dimension = 'beauty'"):
        load("tuned", {"checkpoint": str(reward.folder / "model"), "dimension": "beauty"})


def test_a_judge_learns_people_s_scores(store, tmp_path):
    (tmp_path / "short.txt").write_text("version: 1\n\nJudge $aspect. $prompt\n")
    job = tune("judge", store, tmp_path, **{
        "data.sql": rows.SCORES, "steps": 60, "prompt": str(tmp_path / "short.txt"),
        "aspects": {"overall": "it", "text_alignment": "what nobody scored"},
    })  # fmt: skip
    measured = read_result(job.folder)["measured"]
    assert measured["overall/videos"] >= 16
    assert measured["overall/correlation"] > 0.9
    assert measured["overall/calibrated_error"] < 0.6
    told = json.loads((job.folder / "model" / "judge.json").read_text())
    assert told["calibration"]["overall"]["fitted_on"] >= 8
    assert told["aspects"] == {"overall": "it"}, "it is asked about what it has learnt, and nothing else"
    seen = [json.loads(line)["generation_id"] for line in (job.folder / "held_out.jsonl").read_text().splitlines()]
    assert told["tuned_on"]
    assert not set(told["tuned_on"]) & set(seen)
    chat = {"model": str(job.folder / "model"), "backend": "transformers", "send": "video", "device": "cpu", "gpus": 0,
            "dtype": "float32"}  # fmt: skip
    asked = {"chat": chat, "aspect": "it", "prompt": str(tmp_path / "short.txt"), "sampling": SETTINGS["sampling"]}
    made = load("judge", asked)
    held = [json.loads(line) for line in (job.folder / "held_out.jsonl").read_text().splitlines()[:4]]
    mp4s = dict(store.read_generated([row["generation_id"] for row in held]))
    for row in held:
        _, (frames,) = read(mp4s[row["generation_id"]], [Frames(count=8, height=56, color="rgb")])
        prompt = store.read("generations", ["prompt"], f"generation_id = '{row['generation_id']}'").to_pylist()[0]
        (found,) = made.judged([Video(frames, 4.0, prompt["prompt"])])  # type: ignore[attr-defined]
        points = told["calibration"]["overall"]["points"]
        assert found.uncalibrated == pytest.approx(row["judge"], abs=0.3)  # frames went through JPEG once more
        assert found.value == pytest.approx(calibrated([found.uncalibrated], points)[0])
    close_chats()


# --- the parts -------------------------------------------------------------------------------------------------------


def test_ties_are_rao_and_kupper_s_and_add_up():
    """Against the probabilities themselves, π₁/(π₁ + kπ₂) and their like, with π = e^s."""
    k, scores = 5.0, torch.tensor([[0.3, -1.2], [2.0, 0.1], [-0.7, 0.0]], dtype=torch.float64)
    first, second = scores[:, :1].exp(), scores[:, 1:].exp()
    wins, loses = first / (first + k * second), second / (second + k * first)
    chances = {1: wins, -1: loses, 0: 1 - wins - loses}
    difference = scores[:, :1] - scores[:, 1:]
    for choice, chance in chances.items():
        given = torch.full_like(difference, choice)
        expect = -chance.log().sum()
        torch.testing.assert_close(tie_loss(difference, given, k), expect, rtol=1e-12, atol=1e-12)
    assert tie_loss(difference, torch.full_like(difference, math.nan), k) == 0


def test_grey_is_luma_in_all_channels():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    found = greyed(frames)
    assert found.shape == frames.shape
    assert (found == found[..., :1]).all()
    assert np.abs(found[..., 0] - frames @ np.array([0.299, 0.587, 0.114])).max() <= 0.5


def test_ratings_out_of_the_recipe_are_left_out_by_reason(store):
    sql = "select generation_id, dimension, case when rater = 'ann' then 9 else value end as value from ratings" \
          " where kind = 'mos' and rater in ('ann', 'bob')"  # fmt: skip
    found = rows.scores(store, sql, JudgeRecipe())
    left = [one for one in found if isinstance(one, LeftOut)]
    assert len(left) == 80
    assert {one.reason for one in left} == {"rating"}
    missing = rows.choices(
        store, "select 'x' as generation_id, 'y' as other_id, 'overall' as dimension, 1 as value", RewardRecipe()
    )
    assert [one.reason for one in missing] == ["missing"]


def test_people_s_scores_become_shares_of_digits(store):
    (one, *_) = rows.scores(store, rows.SCORES + " and generation_id = 'p0m0'", JudgeRecipe())
    values = store.sql(rows.SCORES + " and generation_id = 'p0m0'").column("value").to_pylist()
    assert sum(int(d) * share for d, share in one.digits.items()) == pytest.approx(np.mean(values))
    assert one.group == "p0"


def test_videos_of_one_prompt_are_held_out_together(reward, store):
    held = {json.loads(line)["group"] for line in (reward.folder / "held_out.jsonl").read_text().splitlines()}
    counts = read_result(reward.folder)["data"]["counts"]
    assert counts["held_out"] == len(held)  # one pair per prompt here
    assert dataclasses.asdict(rows.choices(store, rows.CHOICES, RewardRecipe())[0])["group"].startswith("p")


@pytest.mark.parametrize("kind", ["isotonic", "linear"])
def test_a_calibration_rises_and_takes_a_bent_scale_back(kind):
    human = np.linspace(1, 5, 60)
    judge = 2 + 0.4 * human + 0.05 * np.sin(np.arange(60))
    points = fit(judge, human, kind)
    found = calibrated(judge, points)
    assert np.abs(found - human).mean() < 0.2
    assert (np.diff(calibrated(np.linspace(0, 6, 50), points)) >= 0).all()
