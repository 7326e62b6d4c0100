"""The rows of one evaluation that its page's figures are reckoned from, by prompt and model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.evaluation.judging.recipe import IMAGE_ASPECT
from reelwright.evaluation.statistics.bootstrap import Resamples


@dataclass(frozen=True)
class Cells:
    """Sums and counts of a figure by prompt and model, both [prompts, models]."""

    sums: np.ndarray
    counts: np.ndarray

    def of(self, prompts: np.ndarray) -> Cells:
        """Return those of some prompts."""
        return Cells(self.sums[prompts], self.counts[prompts])


class Rows:
    """Queries over one evaluation's rows.

    Attributes:
        models: names, in the evaluation's order.
        prompts: prompt_id -> index.
        category: of each prompt.
    """

    def __init__(self, store: Store, evaluation: Mapping[str, Any], where: str | None) -> None:
        self.store, self.models = store, tuple(evaluation["models"])
        self.params = {"id": evaluation["evaluation_id"]}
        condition = f" AND ({where}\n)" if where else ""
        self.shown = f"WITH shown AS (SELECT * FROM generations WHERE evaluation_id = $id{condition})"
        prompts = self.ask("SELECT prompt_id, any_value(category) AS category FROM shown GROUP BY 1 ORDER BY 1")
        self.prompts = {name: i for i, name in enumerate(prompts["prompt_id"].to_pylist())}
        self.category = np.array([name or "" for name in prompts["category"].to_pylist()], dtype=object)
        self.place = {name: i for i, name in enumerate(self.models)}

    def ask(self, query: str) -> pa.Table:
        """Return the rows of a query that begins after the common table `shown`."""
        return self.store.sql(f"{self.shown} {query}", params=self.params)

    def places(self, rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Return the index of each row's prompt and of its model, -1 for a model that the evaluation does not name."""
        p = np.array([self.prompts[name] for name in rows["prompt_id"].to_pylist()], dtype=int)
        m = np.array([self.place.get(name, -1) for name in rows["model"].to_pylist()], dtype=int)
        return p, m

    def cells(self, p: np.ndarray, m: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> Cells:
        """Add rows up by prompt and model."""
        shape = (len(self.prompts), len(self.models))
        cells = Cells(np.zeros(shape), np.zeros(shape))
        known = m >= 0
        np.add.at(cells.sums, (p[known], m[known]), sums[known])
        np.add.at(cells.counts, (p[known], m[known]), counts[known])
        return cells

    def failed(self, dimension: str, asked: np.ndarray) -> np.ndarray:
        """Return how many failed generations a mean in this dimension has to count, [prompts, models].

        Where every prompt with a video was asked about, these are all; where prompts were drawn, those of the drawn.

        Args:
            dimension: image_alignment is asked only where there is a picture.
            asked: whether a prompt has an answer, [prompts].
        """
        made, failed = self._states
        if dimension in IMAGE_ASPECT:
            made, failed = made[..., 1:], failed[..., 1:]
        made, failed = made.sum(axis=-1), failed.sum(axis=-1)
        is_whole = asked[made.any(axis=1)].all()
        return failed if is_whole else np.where(asked[:, None], failed, 0.0)

    @cached_property
    def _states(self) -> tuple[np.ndarray, np.ndarray]:
        """Videos made and failed, each [prompts, models, 2]: begun from text alone, from a picture or video."""
        rows = self.ask(
            "SELECT prompt_id, model, (coalesce(task, 't2v') <> 't2v')::int AS given, "
            "count(*) FILTER (state = 'ok') AS made, count(*) FILTER (state <> 'ok') AS failed FROM shown GROUP BY ALL"
        )
        p, m = self.places(rows)
        found = []
        for name in ("made", "failed"):
            sums = np.zeros((len(self.prompts), len(self.models), 2))
            known = m >= 0
            np.add.at(sums, (p[known], m[known], rows["given"].to_numpy()[known]), rows[name].to_numpy()[known])
            found.append(sums)
        return found[0], found[1]


@cache
def draws_of(prompts: int) -> Resamples:
    """Return the draws of so many prompts, equal for all figures."""
    return Resamples(prompts)
