"""A study as its pages ask for it: tasks of a rater, answers that are kept once acknowledged, videos without names."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from reelwright.curation.media.untagged import Untagged
from reelwright.curation.store import Store
from reelwright.errors import UserError
from reelwright.evaluation.rating.answers import progress, read_answer, tasks_now
from reelwright.evaluation.rating.study import Study
from reelwright.pipelines.evaluate.rating.pages import answer_facts, pictures_of, task_facts, videos_of
from reelwright.pipelines.evaluate.rating.studies import Answers
from reelwright.pipelines.evaluate.references import pictures

OPEN_VIDEOS = 64
"""Videos whose index is kept between a player's requests for parts."""


class RatingDesk:
    """A study and its answers.

    Args:
        store: with videos and ratings.
        study: that is rated.
        say: is given a line per answer.
    """

    def __init__(self, store: Store, study: Study, say: Callable[[str], None] | None = None) -> None:
        self.store, self.study, self.say = store, study, say
        self.answers = Answers(store, study)
        self.videos, self.pictures = videos_of(study), pictures_of(study)
        self._opened: OrderedDict[str, Untagged] = OrderedDict()
        self._lock = threading.Lock()

    def tasks(self, rater: str) -> dict[str, Any]:
        """Return what a rater's page shows: their tasks, and their answers so far."""
        answers = self.answers.all()
        tasks = [task_facts(self.study, task, "{}/{}".format) for task in tasks_now(self.study, rater, answers)]
        return {"tasks": tasks, "answers": answer_facts(self.study, rater, answers)}

    def save(self, rater: str, sent: Any) -> None:
        """Commit an answer. Raises UserError where it is none, StoreError where the store refuses."""
        self.answers.save([read_answer(self.study, rater, sent)])
        if self.say:
            done = progress(self.study, self.answers.all())[rater]
            self.say(f"{rater}: {done.answered} of {done.tasks}")

    def picture(self, name: str) -> bytes:
        """Return the JPEG that a video begins with, by its name in the pages. Raises UserError: there is none."""
        wanted = self.pictures.get(name, "")
        found = pictures(self.store, [wanted] if wanted else [])
        if wanted not in found:
            raise UserError("the study has no such picture")
        return found[wanted]

    def video(self, name: str) -> Untagged:
        """Return a video by its name in the pages, without what its file says of its model.

        Raises:
            UserError: the study has no such video.
        """
        if name not in self.videos:
            raise UserError("the study has no such video")
        with self._lock:
            if name in self._opened:
                self._opened.move_to_end(name)
                return self._opened[name]
        found = Untagged(self.store.open_generated(self.videos[name]))
        with self._lock:
            self._opened[name] = found
            while len(self._opened) > OPEN_VIDEOS:
                self._opened.popitem(last=False)
        return found
