"""Studies of people's scores inside the app: the pages of `reel evaluate --rate`, below an address per study."""

from __future__ import annotations

import shlex
import threading
from typing import Any

from starlette.requests import Request

from reelwright.curation.store import Store, StoreError
from reelwright.errors import ReelError, UserError, first_line
from reelwright.evaluation.rating.answers import progress
from reelwright.pipelines.app.about import shown
from reelwright.pipelines.app.work.rater_links import RaterLinks
from reelwright.pipelines.evaluate.rating.desk import RatingDesk
from reelwright.pipelines.evaluate.rating.studies import STUDY_ID, find_study

MOST_STUDIES, MOST_OPEN = 50, 20
UNREADABLE = "this study cannot be shown at the moment; tell whoever sent you the link"
"""What a rater is told, who is to learn nothing of the store."""


class Ratings:
    """The store's studies, each read when it is first asked for.

    Args:
        store: with studies, videos and ratings.
        links: make the raters' links.
    """

    def __init__(self, store: Store, links: RaterLinks) -> None:
        self._store, self._links = store, links
        self._lock = threading.Lock()
        self._desks: dict[str, RatingDesk] = {}

    def find(self, request: Request) -> RatingDesk:
        """Return the study that a request's address names. Raises UserError where there is none."""
        name = request.path_params["study"]
        if not STUDY_ID.fullmatch(name):
            raise UserError("there is no such study; see the list of studies")
        try:
            return self._desk(name)
        except StoreError as error:
            why = UNREADABLE if getattr(request.state, "holder", "") else first_line(error)
            raise UserError(why) from None

    def all(self) -> dict[str, Any]:
        """Return the studies, the newest first, with how far each rater is."""
        rows = self._store.sql(
            'SELECT s.study_id, s.kind, s.items, s."at", e.name FROM studies s LEFT JOIN evaluations e '
            f'ON e.evaluation_id = s.evaluation_id ORDER BY s."at" DESC LIMIT {MOST_STUDIES}'
        ).to_pylist()
        return {"studies": [self._facts(row) for row in rows], "plan": "" if rows else self._plan()}

    def _plan(self) -> str:
        """Return the command that plans a study of the newest evaluation; none where there is no evaluation."""
        found = self._store.sql('SELECT name FROM evaluations ORDER BY "at" DESC LIMIT 1').to_pylist()
        if not found:
            return ""
        name = shown(found[0]["name"] or "", 200)
        return shlex.join(["reel", "evaluate", "--rate", name, "--raters", "anna,ben,chen", "--store", self._store.uri])

    def _facts(self, row: dict[str, Any]) -> dict[str, Any]:
        found = {
            "study": row["study_id"], "evaluation": shown(row["name"] or "", 200), "kind": row["kind"],
            "items": row["items"], "at": shown(row["at"]), "dimensions": [], "raters": [], "problem": "",
        }  # fmt: skip
        try:
            desk = self._desk(row["study_id"])
        except ReelError as error:
            return found | {"problem": first_line(error)}
        done = progress(desk.study, desk.answers.all())
        raters = [
            {"name": name, "answered": one.answered, "tasks": one.tasks,
             "link": self._links.address(row["study_id"], name)} for name, one in done.items()
        ]  # fmt: skip
        return found | {"raters": raters, "dimensions": list(desk.study.settings.dimensions)}

    def _desk(self, name: str) -> RatingDesk:
        with self._lock:
            if name not in self._desks:
                try:
                    self._desks[name] = RatingDesk(self._store, find_study(self._store, name))
                except (KeyError, TypeError, ValueError) as error:  # a plan of another version, or nobody's
                    raise StoreError(f"the plan of study {name} cannot be read: {first_line(error)}.") from None
                while len(self._desks) > MOST_OPEN:
                    self._desks.pop(next(iter(self._desks)))
            return self._desks[name]
