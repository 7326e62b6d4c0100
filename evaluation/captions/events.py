"""Events of captions: how many of the reference's a caption tells, and how many of its own are right.

AutoDQ's idea (Wang et al., 2024, Tarsier): a chat model takes captions apart into events and says which of them another
caption entails. In recall and precision alike only "entailment" counts: an event on which the other caption is silent
("neutral") is neither told nor right. DREAM-1K's published script has a setting by which precision would count it as
right; both of its calls turn that off, so the published figures are of entailment alone as well. The questions are
worded otherwise than there, and scores by different judges are not comparable: name the judge beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelwright.annotate.chat.asking import ask_json
from reelwright.annotate.chat.base import Chat, Question
from reelwright.annotate.chat.material import as_material, boundary_of
from reelwright.annotate.chat.prompts import load_prompt

MOST_EVENTS = 10  # of a caption
RELATIONS = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class EventScore:
    """One caption against its reference.

    recall: share of the reference's events that the caption entails; NaN of a reference without events. precision:
    share of the caption's events that the reference entails; NaN of a caption without events, which has none to be
    right or wrong about. invented: its events that the reference contradicts.
    """

    recall: float
    precision: float
    events: int
    invented: int

    @property
    def is_empty(self) -> bool:
        """Whether the caption tells no event."""
        return self.events == 0


class EventJudge:
    """Takes captions apart, and compares, by a chat model."""

    def __init__(self, chat: Chat, attempts: int = 3) -> None:
        """Take the chat, and the rounds in which an invalid answer is asked for again."""
        self.chat, self.attempts = chat, attempts

    def events_of(self, captions: Sequence[str]) -> list[list[str] | Exception]:
        """Return the events of each caption, or why there are none; a blank caption has none and costs no question."""
        prompt = load_prompt("caption_events")
        asked = [number for number, caption in enumerate(captions) if caption.strip()]
        questions = []
        for number in asked:
            shown = as_material(captions[number])
            text = prompt.filled(caption=shown, boundary=boundary_of(shown), most=MOST_EVENTS)
            questions.append(Question(text, prompt.system, schema=_EVENTS))
        found: list[list[str] | Exception] = [[] for _ in captions]
        for number, one in zip(asked, ask_json(self.chat, questions, _check_events, self.attempts), strict=True):
            found[number] = one if isinstance(one, Exception) else [text.strip() for text in one["events"]]
        return found

    def relations(self, events: Sequence[Sequence[str]], captions: Sequence[str]) -> list[list[str] | Exception]:
        """Return how each caption stands to each of its list of events. A blank caption entails nothing, unasked."""
        prompt = load_prompt("caption_entailment")
        found: list[list[str] | Exception] = [["neutral"] * len(some) for some in events]
        asked = [number for number, some in enumerate(events) if some and captions[number].strip()]
        questions = []
        for number in asked:
            shown, some = as_material(captions[number]), events[number]
            listed = "\n".join(f"{place}. {as_material(event)}" for place, event in enumerate(some, 1))
            text = prompt.filled(caption=shown, boundary=boundary_of(shown), events=listed, count=len(some))
            questions.append(Question(text, prompt.system, schema=_RELATIONS))
        answers = ask_json(self.chat, questions, _check_relations, self.attempts)
        for number, one in zip(asked, answers, strict=True):
            if isinstance(one, Exception):
                found[number] = one
            elif len(one["relations"]) == len(events[number]):
                found[number] = list(one["relations"])
            else:
                wanted = len(events[number])
                found[number] = ValueError(f"{len(one['relations'])} relations for {wanted} events")
        return found

    def score(
        self, captions: Sequence[str], references: Sequence[str], events: Sequence[Sequence[str]] | None = None
    ) -> list[EventScore | Exception]:
        """Score captions.

        Args:
            captions: to be scored.
            references: one per caption.
            events: of the references, where they are known, as DREAM-1K has them; else the judge takes them apart.

        Returns:
            A score per caption, or the exception of the first question about it that failed.
        """
        wanted: list[Any] = [list(some) for some in events] if events is not None else self.events_of(references)
        told: list[Any] = self.events_of(captions)
        failed = [isinstance(a, Exception) or isinstance(b, Exception) for a, b in zip(wanted, told, strict=True)]
        fine = [number for number, bad in enumerate(failed) if not bad]
        recalled = self.relations([wanted[n] for n in fine], [captions[n] for n in fine])
        right = self.relations([told[n] for n in fine], [references[n] for n in fine])
        found: list[EventScore | Exception] = [
            one if isinstance(one, Exception) else other for one, other in zip(wanted, told, strict=True)
        ]
        for number, first, second in zip(fine, recalled, right, strict=True):
            if isinstance(first, Exception):
                found[number] = first
                continue
            if isinstance(second, Exception):
                found[number] = second
                continue
            recall, precision = (one.count("entailment") / len(one) if one else float("nan") for one in (first, second))
            found[number] = EventScore(recall, precision, len(told[number]), second.count("contradiction"))
        return found


def event_figures(scores: Sequence[EventScore | Exception], subsets: Sequence[str] | None = None) -> dict[str, float]:
    """Return means over captions, and F1 of the mean recall and precision.

    Where the references are of several subsets, as DREAM-1K's five are, the published figures are means over subsets of
    each subset's means, and F1 of these.

    Two precisions are told: `precision` counts a caption without events as 0; `precision_published` counts it as 1, as
    DREAM-1K does, which an empty caption gains by. `empty` is the share of such captions. So with a reference without
    events: `recall` leaves it out, and `recall_published` counts it as 1.

    Args:
        scores: of captions.
        subsets: that each caption's reference is of; None: all of one.
    """
    known = [one for one in scores if isinstance(one, EventScore)]
    recall = _mean([one.recall for one in known])
    own = _mean([0.0 if one.is_empty else one.precision for one in known])
    of: dict[str, list[EventScore]] = {}
    for one, subset in zip(scores, subsets or [""] * len(scores), strict=True):
        if isinstance(one, EventScore):
            of.setdefault(subset, []).append(one)
    recalled, published = (
        _mean([np.nan_to_num([getattr(one, name) for one in some], nan=1.0).mean() for some in of.values()])
        for name in ("recall", "precision")
    )
    return {
        "captions": len(known), "failed": len(scores) - len(known), "recall": recall, "precision": own,
        "f1": _f1(recall, own), "recall_published": recalled, "precision_published": published,
        "f1_published": _f1(recalled, published), "subsets": len(of),
        "empty": _mean([one.is_empty for one in known]), "events": _mean([one.events for one in known]),
        "invented": _mean([one.invented for one in known]),
    }  # fmt: skip


_EVENTS = {
    "type": "object", "properties": {"events": {"type": "array", "items": {"type": "string"}, "maxItems": MOST_EVENTS}},
    "required": ["events"], "additionalProperties": False,
}  # fmt: skip
_RELATIONS = {
    "type": "object",
    "properties": {"relations": {"type": "array", "items": {"type": "string", "enum": list(RELATIONS)}}},
    "required": ["relations"], "additionalProperties": False,
}  # fmt: skip


def _check_events(found: dict[str, Any]) -> None:
    events = found.get("events")
    if not isinstance(events, list) or not all(isinstance(one, str) and one.strip() for one in events):
        raise ValueError('the object must be {"events": [sentences]}')
    if len(events) > MOST_EVENTS:
        raise ValueError(f"{len(events)} events; at most {MOST_EVENTS}")


def _check_relations(found: dict[str, Any]) -> None:
    relations = found.get("relations")
    if not isinstance(relations, list) or not all(one in RELATIONS for one in relations):
        raise ValueError(f'the object must be {{"relations": [words]}}, each of {", ".join(RELATIONS)}')


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _f1(recall: float, precision: float) -> float:
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0
