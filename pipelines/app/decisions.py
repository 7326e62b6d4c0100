"""Decisions of people about clips as values: what an action makes of a clip's review, and how it is undone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from reelwright.curation.store.tables.reviews import VERDICTS
from reelwright.errors import UserError

UNDO, REDO, CAPTION = "undo", "redo", "caption"
FIELDS = ("verdict", "star", "tags", "caption")
MOST_STEPS = 1_000  # actions of a reviewer that can be undone


@dataclass(frozen=True)
class Review:
    """The decisions about a clip: the state after its last action."""

    verdict: str | None = None
    star: bool = False
    tags: tuple[str, ...] = ()
    caption: str | None = None
    caption_by: str = ""
    by: str = ""
    at: datetime | None = None


@dataclass
class Step:
    """An action that can be undone. changes: clip -> (its review before, after)."""

    action_id: str
    action: str
    changes: dict[str, tuple[Review, Review]] = field(default_factory=dict)


@dataclass
class History:
    """What a reviewer can undo and redo, the last at the end."""

    done: list[Step] = field(default_factory=list)
    undone: list[Step] = field(default_factory=list)


class Ledger:
    """The reviews of all clips, as the rows of `reviews` make them one after another."""

    def __init__(self) -> None:
        self.current: dict[str, Review] = {}
        self._authors: dict[tuple[str, str], str] = {}
        self.histories: defaultdict[str, History] = defaultdict(History)
        self.position = 0

    def plan(self, clip_ids: Iterable[str], change: Change, by: str, at: datetime) -> dict[str, Review]:
        """Return the reviews that an action changes, as they are after it."""
        nothing = Review()
        before = {one: self.current.get(one, nothing) for one in clip_ids}
        after = {one: replace(change.apply(was), by=by, at=at) for one, was in before.items()}
        changed = {one: now for one, now in after.items() if _content(now) != _content(before[one])}
        return self._signed(change.action, changed)

    def plan_back(self, reviewer: str, action: str, at: datetime) -> tuple[Step, dict[str, Review], int]:
        """Plan an undo or a redo of a reviewer's last action.

        Returns:
            The step; the reviews that it changes; and the clips that stay, as somebody decided about them since.

        Raises:
            UserError: there is nothing to undo or redo.
        """
        history = self.histories[reviewer]
        steps = history.done if action == UNDO else history.undone
        if not steps:
            raise UserError(f"there is nothing to {action} for {reviewer}")
        step = steps[-1]
        after: dict[str, Review] = {}
        for clip_id, (old, new) in step.changes.items():
            source, goal = (new, old) if action == UNDO else (old, new)
            now = self.current.get(clip_id, Review())
            changed = [name for name in FIELDS if getattr(old, name) != getattr(new, name)]
            if all(getattr(now, name) == getattr(source, name) for name in changed):
                values: dict[str, Any] = {name: getattr(goal, name) for name in changed}
                after[clip_id] = replace(now, **values, by=reviewer, at=at)
        return step, self._signed(action, after), len(step.changes) - len(after)

    def record(self, action_id: str, action: str, reviewer: str, after: Mapping[str, Review]) -> None:
        """Take over what an action made of some clips."""
        history, after = self.histories[reviewer], self._signed(action, after)
        self._authors |= {(one, now.caption): now.caption_by for one, now in after.items() if now.caption}
        if action == UNDO:
            history.undone += [history.done.pop()] if history.done else []
        elif action == REDO:
            history.done += [history.undone.pop()] if history.undone else []
        else:
            nothing = Review()
            step = Step(action_id, action, {i: (self.current.get(i, nothing), now) for i, now in after.items()})
            history.done.append(step)
            history.undone.clear()
            del history.done[:-MOST_STEPS]
        self.current.update(after)

    def _signed(self, action: str, after: Mapping[str, Review]) -> dict[str, Review]:
        """Return reviews with the authors of their captions: who writes one, or who wrote the one that came back."""
        made = {}
        for one, now in after.items():
            was = self.current.get(one, Review())
            author = now.by if action == CAPTION else self._authors.get((one, now.caption or ""), "")
            by = was.caption_by if now.caption == was.caption else author if now.caption else ""
            made[one] = replace(now, caption_by=by)
        return made


@dataclass(frozen=True)
class Change:
    """What an action does to a review.

    Args:
        action: keep, drop, clear (the verdict), tag, untag, star, unstar or caption.
        text: the tag, or the caption; an empty caption takes it back.
    """

    action: str
    text: str = ""

    def apply(self, was: Review) -> Review:
        """Return the review after the action."""
        if self.action in VERDICTS:
            return replace(was, verdict=self.action)
        if self.action in ("star", "unstar"):
            return replace(was, star=self.action == "star")
        if self.action == "tag":
            return replace(was, tags=tuple(sorted({*was.tags, self.text})))
        if self.action == "untag":
            return replace(was, tags=tuple(tag for tag in was.tags if tag != self.text))
        if self.action == CAPTION:
            return replace(was, caption=self.text or None)
        return replace(was, verdict=None)


def _content(review: Review) -> tuple[Any, ...]:
    return tuple(getattr(review, name) for name in FIELDS)
