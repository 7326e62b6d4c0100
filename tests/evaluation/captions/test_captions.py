"""Measures of captions, against hand-computed cases and a chat that follows a rule."""

import json
import math
import re
from collections.abc import Sequence

import numpy as np
import pytest

from reelwright.annotate.chat.base import Answer, Chat, Question
from reelwright.evaluation.captions.camera_terms import camera_figures, said
from reelwright.evaluation.captions.cider import cider, tokens
from reelwright.evaluation.captions.events import EventJudge, EventScore, event_figures
from reelwright.evaluation.captions.similarity import gate


class Literal(Chat):
    """Takes each sentence for an event; a caption entails the events that it holds word by word."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        self.asked += len(questions)
        return [Answer(json.dumps(self._answer(q.text))) for q in questions]

    def _answer(self, text: str) -> dict[str, list[str]]:
        line = re.search(r"^-----\w+-----$", text, re.MULTILINE)
        assert line
        caption = text.split(line.group())[-2].strip()
        events = re.findall(r"^\d+\. (.*)$", text, re.MULTILINE)
        if not events:
            return {"events": [part for part in caption.split(". ") if part]}
        not_so = {event: f"no {event}" in caption for event in events}
        return {"relations": ["contradiction" if not_so[e] else "entailment" if e in caption else "neutral"
                              for e in events]}  # fmt: skip


def test_events_found_and_invented():
    told, empty = "a dog runs. a cat sits", ""
    reference = "a dog runs. a bird sings. no a cat sits"
    first, second = EventJudge(Literal()).score([told, empty], [reference, reference])
    assert first == EventScore(recall=1 / 3, precision=0.5, events=2, invented=1)
    assert (second.recall, second.events, second.is_empty) == (0.0, 0, True)
    figures = event_figures([first, second, ValueError("x")])
    assert figures["recall"] == pytest.approx(1 / 6)
    assert figures["precision"] == pytest.approx(0.25)  # an empty caption is not right about anything
    assert figures["precision_published"] == pytest.approx(0.75)
    assert figures["f1"] == pytest.approx(2 * (1 / 6) * 0.25 / (1 / 6 + 0.25))
    assert (figures["empty"], figures["failed"]) == (0.5, 1)


def test_recall_and_precision_count_entailment_alone():
    """By hand: of four events told two are entailed, one is contradicted, and on one the reference is silent."""
    told = ["a dog runs. a cat sits. a ball rolls. a car stops", "", "a dog runs. a man sings"]
    references = ["a dog runs. a ball rolls. a bird sings. no a cat sits", "a bird sings", ""]
    scores = EventJudge(Literal()).score(told, references)
    assert scores[0] == EventScore(recall=2 / 4, precision=2 / 4, events=4, invented=1)
    assert (scores[1].recall, scores[1].is_empty) == (0, True)
    assert (math.isnan(scores[2].recall), scores[2].precision) == (True, 0)
    found = event_figures(scores)
    assert found["recall"] == pytest.approx((0.5 + 0) / 2)  # the last reference has no event to recall
    assert found["precision"] == pytest.approx((0.5 + 0 + 0) / 3)
    assert found["recall_published"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert found["precision_published"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert found["f1_published"] == pytest.approx(0.5)
    assert (found["invented"], found["empty"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_published_figures_are_means_over_subsets():
    """Two captions of one subset, one of another: the other's counts as much as both."""
    scores = [EventScore(1.0, 1.0, 2, 0), EventScore(0.5, 0.5, 2, 0), EventScore(0.2, float("nan"), 0, 0)]
    found = event_figures([*scores, ValueError("x")], ["stock", "stock", "shorts", "shorts"])
    assert found["recall_published"] == pytest.approx((0.75 + 0.2) / 2)
    assert found["precision_published"] == pytest.approx((0.75 + 1) / 2)
    assert found["f1_published"] == pytest.approx(2 * 0.475 * 0.875 / (0.475 + 0.875))
    assert (found["subsets"], found["recall"]) == (2, pytest.approx(1.7 / 3))


def test_given_events_are_not_asked_for():
    chat = Literal()
    (score,) = EventJudge(chat).score(["a dog runs"], ["whatever"], [["a dog runs", "it barks"]])
    assert score.recall == 0.5
    assert chat.asked == 3  # the caption's events, and both comparisons


def test_camera_terms_against_the_column():
    texts = ["The camera pans to the left.", "The camera holds still.", "A dog.", "Handheld; it zooms in slowly.", "x"]
    assert [said(text) for text in texts[:4]] == [{"pan_left"}, {"static"}, set(), {"shake", "zoom_in"}]
    figures = camera_figures(texts, ["pan_left", "pan_left", "static", "zoom_in", "other"])
    assert figures == {"clips": 4, "said": 0.75, "accuracy": pytest.approx(1 / 3), "recall": 0.5}


def test_cider_of_a_hand_computed_case():
    """Two documents; words of one of them weigh ln 2, words of both 0; n-grams beyond the text's length score 0."""
    references = [["a red dog"], ["a blue cat"]]
    found = cider(["a red dog", "a blue dog"], references)
    assert found[0] == pytest.approx(10 * 3 / 4)  # equal in 1-, 2- and 3-grams, and it has no 4-gram
    own = {"blue": math.log(2) / 3, "dog": math.log(2) / 3}  # "a" is in both documents
    other = {"blue": math.log(2) / 3, "cat": math.log(2) / 3}
    cosine = own["blue"] * other["blue"] / (math.hypot(*own.values()) * math.hypot(*other.values()))
    bigrams = 1 / math.sqrt(2) / math.sqrt(2)  # "a blue" of two, each weighing ln 2
    assert found[1] == pytest.approx(10 * (cosine + bigrams) / 4)
    assert tokens("It's a RED dog!") == ["it", "s", "a", "red", "dog"]


@pytest.mark.parametrize(("factor", "flagged"), [(1.1, False), (0.96, False), (0.94, True), (-1.0, True)])
def test_a_fall_of_more_than_five_percent_is_flagged(factor, flagged):
    before = np.random.default_rng(0).uniform(0.2, 0.3, 200)
    found = gate(before, before * factor)
    assert found.is_flagged is flagged
    assert found.fall == pytest.approx(1 - factor)
    assert found.difference.low <= found.difference.value <= found.difference.high
