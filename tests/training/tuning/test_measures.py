"""Losses, answers and judgements of a small model, against its plain logits, one text at a time."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.tuning.answers import Answers
from reelwright.training.tuning.base import Base, add_adapters, load_base
from reelwright.training.tuning.feed import Feed
from reelwright.training.tuning.objective import Row, model_inputs
from reelwright.training.tuning.predict import answer, expected_digits
from reelwright.training.tuning.recipe import BaseConfig, CaptionerRecipe, JudgeRecipe, LoraConfig, load_tune_recipe
from reelwright.training.tuning.samples import Sample, Turn, VideoRef
from reelwright.training.tuning.template import IGNORED
from reelwright.training.tuning.uses import Captioner, JudgeUse
from reelwright.training.tuning.videos import Videos
from tests.annotate.chat import checkpoints
from tests.training.tuning.miniature import COLOURS, SETTINGS, clip

ALONE = World.alone("cpu")
SCALE = range(1, 6)
SHORT = {name: SETTINGS[name] for name in ("sampling", "base.dtype")}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.set_num_threads(1)
    folder = checkpoints.qwen_vl(tmp_path_factory.mktemp("base") / "qwen")
    made = load_base(BaseConfig(model=str(folder), dtype="float32"))
    add_adapters(made.model, LoraConfig(rank=2, dropout=0.5), 0)
    with torch.no_grad():
        for name, weight in made.model.named_parameters():
            if ".lora_B." in name:
                weight.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    return made


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[VideoRef]:
    """Two clips of other lengths, and one that is not there."""
    folder = tmp_path_factory.mktemp("clips")
    for number, frames in enumerate((8, 14)):
        (folder / f"{number}.mp4").write_bytes(clip(list(COLOURS.values())[number], number, frames))
    return [VideoRef("file", str(folder / f"{number}.mp4")) for number in range(3)]


@pytest.fixture(scope="module")
def judge(base: Base, tmp_path_factory: pytest.TempPathFactory) -> JudgeUse:
    prompt = tmp_path_factory.mktemp("words") / "short.txt"
    prompt.write_text("version: 1\n\nJudge $aspect in $count frames of $duration s. $prompt\n")
    recipe = load_tune_recipe("judge", None, {**SHORT, "prompt": str(prompt), "aspects": {"overall": "it"}})
    assert isinstance(recipe, JudgeRecipe)
    return JudgeUse(recipe, base)


def captioner(base: Base, **settings: Any) -> Captioner:
    recipe = load_tune_recipe("captioner", None, {**SHORT, **settings})
    assert isinstance(recipe, CaptionerRecipe)
    return Captioner(recipe, base)


def feed_of(objective: Answers) -> Feed[Row]:
    return Feed(objective, Videos(load_tune_recipe("captioner", None, SHORT).sampling, 0), 1)


@pytest.fixture(scope="module")
def judging(judge: JudgeUse) -> Iterator[Feed[Row]]:
    made = feed_of(judge.objective)
    yield made
    made.close()


def judgement(video: VideoRef, shares: dict[str, float]) -> Sample:
    likeliest = max(shares, key=lambda digit: shares[digit])
    words = json.dumps({"score": int(likeliest)})
    return Sample("k", video, (), words, "g", "a dog", "overall", shares)


def logits_of(base: Base, ids: Sequence[int], row: Row) -> Tensor:
    """Log-probabilities of each next token, of one whole forward pass."""
    base.model.eval()
    inputs = model_inputs(base.form, [replace(row, ids=list(ids))], 0, "cpu")
    with torch.no_grad():
        return base.model(**inputs).logits[0].double().log_softmax(-1)


def ids_by_digit(judge: JudgeUse, item: Sample, row: Row, frames: int, seconds: float) -> dict[int, list[int]]:
    """Tokens of the same judgement with each digit of the scale."""
    turns = judge.objective.turns(item, frames, seconds)[:-1]
    texts = {digit: Turn("assistant", json.dumps({"score": digit})) for digit in SCALE}
    made = {d: judge.base.template.encode([*turns, text], row.video.tokens).ids for d, text in texts.items()}
    return made


def test_a_loss_is_the_cross_entropy_of_learnt_tokens_with_shares_for_a_digit(
    base: Base, judge: JudgeUse, judging: Feed[Row], clips: list[VideoRef]
) -> None:
    shares = {"2": 0.25, "3": 0.5, "5": 0.25}
    items = [judgement(clips[0], shares), judgement(clips[1], {"4": 1.0})]
    rows = [judging.example(item) for item in items]
    expect = 0.0
    for item, row, facts in zip(items, rows, ((4, 2.0), (4, 3.5)), strict=True):
        assert isinstance(row, Row)
        by_digit = ids_by_digit(judge, item, row, *facts)
        own = max(shares, key=lambda digit: shares[digit]) if item is items[0] else "4"
        assert row.ids == by_digit[int(own)]
        likely = logits_of(base, row.ids, row)
        (place,) = {at for at, (a, b) in enumerate(zip(by_digit[1], by_digit[2], strict=True)) if a != b}
        for at, label in enumerate(row.labels):
            if label == IGNORED:
                continue
            weights = item.digits if at == place else {own: 1.0}
            for digit, share in weights.items():
                expect -= share * float(likely[at - 1, by_digit[int(digit)][at]])
    base.model.eval()
    both = judge.objective.loss(base.model, rows, "cpu")  # type: ignore[arg-type]
    assert both.item() == pytest.approx(expect, rel=1e-5)
    one, other = (judge.objective.loss(base.model, [row], "cpu").item() for row in rows)  # type: ignore[list-item]
    assert one + other == pytest.approx(expect, rel=1e-5)
    learnt = [sum(label != IGNORED for label in row.labels) for row in rows]  # type: ignore[union-attr]
    assert [judge.objective.weight(row) for row in rows] == learnt  # type: ignore[arg-type]


def test_tokens_are_those_that_were_counted_beforehand(
    judge: JudgeUse, judging: Feed[Row], clips: list[VideoRef]
) -> None:
    from reelwright.training.tuning.plan import make_plan
    from reelwright.training.tuning.recipe import DataConfig

    items = [judgement(video, {"4": 1.0}) for video in clips]
    plan = make_plan(items, judge.objective, judging.videos, {}, DataConfig(holdout=0.0, workers=1), 0)
    assert len(plan.train) == 2
    rows = [judging.example(item) for item in plan.train]
    assert plan.longest == max(len(row.ids) for row in rows if isinstance(row, Row))


def test_an_expected_digit_is_the_mean_by_the_scale_s_probabilities(
    base: Base, judge: JudgeUse, judging: Feed[Row], clips: list[VideoRef]
) -> None:
    level = {str(digit): 0.2 for digit in SCALE}
    items = [replace(judgement(video, {"3": 1.0}), digits=level) for video in clips]
    found = expected_digits(base.model, judge.objective, judging, items, "cpu", SCALE)
    assert found[2] is None
    for item, mean, facts in zip(items[:2], found, ((4, 2.0), (4, 3.5)), strict=False):
        row = judging.example(item)
        assert isinstance(row, Row)
        by_digit = ids_by_digit(judge, item, row, *facts)
        (place,) = {at for at, (a, b) in enumerate(zip(by_digit[1], by_digit[2], strict=True)) if a != b}
        likely = logits_of(base, row.ids, row)[place - 1]
        chances = {digit: math.exp(likely[ids[place]]) for digit, ids in by_digit.items()}
        expect = sum(digit * chance for digit, chance in chances.items()) / sum(chances.values())
        assert mean == pytest.approx(expect, abs=1e-4)


def test_an_answer_is_the_likeliest_token_until_an_end(base: Base, clips: list[VideoRef]) -> None:
    """Against a loop of whole forward passes, with neither cache nor `generate`."""
    use = captioner(base)
    feed = feed_of(use.objective)
    items = [Sample("k", video, (Turn("user", "What?"), Turn("assistant", "a dog"))) for video in clips]
    found = answer(base.model, use.objective, feed, items, ALONE, max_new_tokens=6)
    assert found[2] is None
    for item, text in zip(items[:2], found, strict=False):
        row = use.objective.question(item, feed.videos.seen(item.video))
        ids: list[int] = []
        while len(ids) < 6 and not set(ids) & base.template.ends:
            ids.append(int(logits_of(base, [*row.ids, *ids], row)[-1].argmax()))
        words = [token for token in ids if token not in base.template.ends]
        assert text == base.template.tokenizer.decode(words, skip_special_tokens=True).strip()
    feed.close()


def test_a_captioner_is_measured_with_and_without_what_it_learnt(
    base: Base, clips: list[VideoRef], tmp_path: Path
) -> None:
    use = captioner(base, max_new_tokens=6)
    feed = feed_of(use.objective)
    asked = Turn("user", "What?")
    items = [Sample(f"k{n}", video, (asked, Turn("assistant", "a dog"))) for n, video in enumerate(clips)]
    (now,) = answer(base.model, use.objective, feed, items[:1], ALONE, max_new_tokens=6)
    items[0] = replace(items[0], turns=(asked, Turn("assistant", now or "")))
    told = use.measure(base.model, feed, items, ALONE, tmp_path)
    feed.close()
    rows = [json.loads(line) for line in (tmp_path / "held_out.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == ["k0", "k1", "k2"]
    assert rows[0]["answer"] == rows[0]["reference"] == now
    assert rows[0]["before"] != now  # without adapters
    assert rows[1]["reference"] == "a dog"
    assert rows[2]["answer"] is None
    read = rows[:2]
    assert (told["answers"], told["unreadable"], told["empty"]) == (2, 1, sum(not row["answer"] for row in read) / 2)
    assert told["same_as_reference"] == 0.5
    assert told["same_as_reference_before"] == 0
    assert told["words"] == sum(len(row["answer"].split()) for row in read) / 2
    assert told["words_before"] == sum(len(row["before"].split()) for row in read) / 2


def test_a_judge_is_measured_against_the_mean_of_people(
    base: Base, judge: JudgeUse, judging: Feed[Row], clips: list[VideoRef], tmp_path: Path
) -> None:
    shares = [{"2": 0.25, "5": 0.75}, {"4": 1.0}]
    items = [judgement(video, share) for video, share in zip(clips[:2], shares, strict=True)]
    told = judge.measure(base.model, judging, [*items, replace(items[0], digits={})], ALONE, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "held_out.jsonl").read_text().splitlines()]
    assert [row["human"] for row in rows] == [4.25, 4.0]
    level = [replace(item, digits={str(digit): 0.2 for digit in SCALE}) for item in items]
    expect = expected_digits(base.model, judge.objective, judging, level, "cpu", SCALE)
    assert [row["judge"] for row in rows] == pytest.approx(expect)
    assert [row["before"] for row in rows] != pytest.approx(expect, abs=1e-3)
    assert told["overall/videos"] == 2


def test_digits_of_several_tokens_are_refused(judge: JudgeUse, judging: Feed[Row], clips: list[VideoRef]) -> None:
    odd = Sample("k", clips[0], (), "it is 1", "g", "a dog", "overall", {"1": 0.5, "12": 0.5})
    with pytest.raises(TrainError, match="does not write 1 and 12 as one token each"):
        judging.example(odd)
