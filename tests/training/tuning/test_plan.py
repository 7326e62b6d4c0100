"""Which samples a run trains on: what fits, what is held out, and what a person is told of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from reelwright.annotate.backends.videos.patches import PictureError
from reelwright.annotate.chat.frame_times import FrameSampling
from reelwright.training.errors import TrainError
from reelwright.training.tuning.objective import Row, TuneObjective, padded
from reelwright.training.tuning.plan import Plan, left_out_rows, make_plan
from reelwright.training.tuning.recipe import DataConfig
from reelwright.training.tuning.samples import Item, LeftOut, Pair, Sample, VideoRef, data_fingerprint, is_held_out
from reelwright.training.tuning.videos import Seen, VideoFacts, Videos

SAMPLING = FrameSampling(fps=2.0, min_frames=2, max_frames=4, short_side=56)
FACTS = VideoFacts(80, 8.0, 112, 84, "bytes")
"""Ten seconds, shown as four frames of 75 × 56."""


class Words(TuneObjective[str]):
    """A sample's texts are as long as its answer says; those of no video cannot be shown."""

    def __init__(self) -> None:
        self.seen: list[VideoFacts] = []

    def lengths(self, item: Item, facts: Sequence[VideoFacts]) -> list[int]:
        self.seen += facts
        if isinstance(item, Pair):
            return [fact.num_frames for fact in facts]
        if item.answer == "odd":
            raise PictureError("too narrow")
        return [int(item.answer)]

    def example(self, item: Item, seen: Sequence[Seen]) -> str:
        return item.key

    def weight(self, example: str) -> float:
        return 1.0

    def loss(self, network: nn.Module, examples: Sequence[str], device: Any) -> Tensor:
        raise NotImplementedError


def sample(key: str, answer: str, clip: str = "c", group: str = "") -> Sample:
    return Sample(key, VideoRef("clip", clip), answer=answer, group=group)


def planned(found: Sequence[Item | LeftOut], data: DataConfig | None = None, objective: Words | None = None) -> Plan:
    known = {VideoRef("clip", "c"): FACTS, VideoRef("clip", "short"): replace(FACTS, num_frames=8, content="others")}
    data = data or DataConfig(holdout=0.0, max_tokens=20, workers=2)
    return make_plan(found, objective or Words(), Videos(SAMPLING, 90), known, data, 0)


def test_what_fits_is_trained_on_and_the_rest_is_counted_by_its_reason() -> None:
    found = [sample("a", "20"), sample("b", "21"), LeftOut("f:3", "line"), sample("d", "7"), sample("e", "odd"),
             sample("g", "30"), sample("h", "5", clip="nowhere")]  # fmt: skip
    plan = planned(found)
    assert [one.key for one in plan.train] == ["a", "d"]
    assert plan.held_out == []
    assert plan.counts == {
        "train": 2, "held_out": 0, "longest_tokens": 20,
        "left_out": {"line": 1, "missing": 1, "size": 1, "too_long": 2},
    }  # fmt: skip
    assert plan.lines() == [
        "samples       2 to train on, 0 held out, at most 20 tokens",
        "left out      1: the line is no JSON object, or too long (such as f:3)",
        "left out      1: its video is not there (such as h: no store was named)",
        "left out      1: its video's frames cannot be shown to the model (such as e: too narrow)",
        "left out      2: it has more tokens than data.max_tokens (such as b: 21 tokens)",
    ]
    assert left_out_rows(plan.left_out)[0] == {"key": "b", "reason": "too_long", "why": "21 tokens"}


def test_a_pair_is_as_long_as_its_longer_text() -> None:
    long, short = VideoRef("clip", "c"), VideoRef("clip", "short")  # shown as four frames, and as two
    for pair in (Pair("p", long, short, "a dog", {"overall": 1}), Pair("q", short, long, "a dog", {"overall": 1})):
        assert planned([pair]).longest == 4
        most = DataConfig.model_construct(holdout=0.0, max_tokens=3, workers=1)
        with pytest.raises(TrainError, match=r"\(1 were read\); left out +1: it has more tokens than .* 4 tokens\)$"):
            planned([pair], most)


def test_tokens_are_counted_of_sampled_frames_that_last_as_long_as_the_video() -> None:
    objective = Words()
    planned([sample("a", "5")], objective=objective)
    (fact,) = objective.seen
    assert (fact.num_frames, fact.height, fact.width) == SAMPLING.shape(80, 8.0, 112, 84)
    assert fact.num_frames == 4
    assert fact.duration_s == pytest.approx(10)


def test_all_held_out_and_nothing_to_read_are_said() -> None:
    everything = DataConfig(holdout=0.999999, max_tokens=20)
    with pytest.raises(TrainError, match="all 3 samples are held out"):
        planned([sample(f"{i}", "5") for i in range(3)], everything)
    with pytest.raises(TrainError, match=r"\(0 were read\); name others"):
        planned([])


def test_a_share_is_held_out_by_groups_and_seed_and_a_larger_one_holds_the_same_and_more() -> None:
    items = [sample(f"k{i}", "5", group=f"g{i // 2}") for i in range(8000)]
    small, large = ([is_held_out(one, share, 0) for one in items] for share in (0.1, 0.3))
    assert abs(np.mean(small) - 0.1) < 4 * (0.1 * 0.9 / 4000) ** 0.5
    assert abs(np.mean(large) - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5
    assert all(one <= other for one, other in zip(small, large, strict=True))
    assert small[::2] == small[1::2]  # two of a group
    assert small != [is_held_out(one, 0.1, 1) for one in items]
    assert not any(is_held_out(one, 0.0, 0) for one in items)
    alone = [is_held_out(sample(f"k{i}", "5"), 0.3, 0) for i in range(100)]
    assert 0 < sum(alone) < 100  # without a group, by its own key
    plan = planned(items[:100], DataConfig(holdout=0.3, max_tokens=20))
    assert plan.held_out == [one for one, held in zip(items, large[:100], strict=False) if held]
    assert len(plan.train) + len(plan.held_out) == 100


def test_a_fingerprint_is_of_words_and_bytes_wherever_they_lie() -> None:
    here, there, other = (VideoRef("file", name) for name in ("here", "there", "other"))
    contents = {here: "x", there: "x", other: "y"}
    first, second = Sample("1", here, answer="a dog"), Sample("2", other, answer="a cat")
    found = data_fingerprint([first, second], contents)
    assert len(found) == 16
    assert data_fingerprint([second, first], contents) == found
    assert data_fingerprint([replace(first, key="9", group="g", video=there), second], contents) == found
    assert data_fingerprint([replace(first, answer="a fox"), second], contents) != found
    assert data_fingerprint([replace(first, video=other), second], contents) != found
    assert data_fingerprint([first, first, second], contents) != found


def test_texts_are_filled_up_on_the_right_and_masked_there() -> None:
    shown: Any = None
    found = padded([Row([5, 6, 7], shown), Row([8], shown)], 3, "cpu")
    assert found["input_ids"].tolist() == [[5, 6, 7], [8, 3, 3]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
