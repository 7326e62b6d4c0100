"""Judges of an evaluation's generations on Ray: a chat model's answers go into `ratings`, rewards into columns."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from reelwright.annotate.keys import Keys, keys_of
from reelwright.curation.media.frames import read
from reelwright.curation.records.runs import recorded_run
from reelwright.curation.store import Store
from reelwright.curation.store.schema import field as column
from reelwright.curation.store.sql_text import is_one_of, literal
from reelwright.evaluation.judging.contamination import refuse_learned
from reelwright.evaluation.judging.recipe import JudgeRecipe
from reelwright.evaluation.measures.every_frame import every_frame
from reelwright.evaluation.rating.scales import is_asked
from reelwright.pipelines.evaluate.counts import JudgedCounts
from reelwright.pipelines.evaluate.run import Options
from reelwright.pipelines.runtime.actors import Actors, Result, Work
from reelwright.pipelines.runtime.progress import Progress
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Reward, Unscored, Video
from reelwright.training.rewards.judge import Judge, Judged

VIDEOS_A_CALL = 4  # whole videos in memory: half a GB each at 720p
COMMIT_S = 10.0
READ_BY = column("read_by", pa.string(), "of a judge: expectation (mean of the digits by their probabilities) or digit")
JUDGED_WITH = column("judge_fingerprint", pa.string(), "of a judge: model, prompt, frames, scale and calibration")
ABOUT = column("judge", pa.string(), "of a judge: model and revision, prompt, frames, scale, calibration: JSON")
TUNED_ON = column("is_tuned_on", pa.bool_(), "of a tuned judge: whether it was tuned on people's scores of this prompt")
UNCALIBRATED = column("uncalibrated", pa.float64(), "of a tuned judge: the value before its calibration; null: none")


class Scorer:
    """A Ray actor that keeps judges that ask one model, or a reward. keys: environment variables of its servers."""

    def __init__(self, rewards: Mapping[str, Reward], store_uri: str, keys: Mapping[str, str]) -> None:
        os.environ.update(keys)
        self.rewards, self.store = rewards, Store(store_uri)
        self._prepared: set[str] = set()

    def score(self, label: str, rows: Mapping[str, Mapping[str, Any]], ids: Sequence[str]) -> list[Judged | Unscored]:
        """Score generations by one of them. rows: id -> prompt, and frames that were given."""
        reward = self.rewards[label]
        if label not in self._prepared:
            reward.prepare()
            self._prepared.add(label)
        videos = [_video(mp4, rows[name]) for name, mp4 in self.store.read_generated(ids)]
        if isinstance(reward, Judge):
            return reward.judged(videos)
        return [one if isinstance(one, Unscored) else Judged(one, False) for one in score(reward, videos)]


def judge(
    store: Store, evaluation: dict[str, Any], recipe: JudgeRecipe, options: Options, *, allow_trained: bool = False
) -> JudgedCounts:
    """Judge the generations of an evaluation that are ok; what is there by the same judge is not asked again.

    Args:
        store: has them.
        evaluation: its row of `evaluations`.
        recipe: of the judges.
        options: of the run.
        allow_trained: whether a reward may judge a model that learned from it.

    Raises:
        EvaluationError: a parameter is wrong, or a model learned from a judge.
        UserError: a key of a server is not set.
    """
    judges, rewards = recipe.judges(), recipe.reward_models()
    if not allow_trained:
        origins = json.loads(evaluation["lineage"])
        refuse_learned({**judges, **rewards}, {name: one.get("learned_from", ()) for name, one in origins.items()})
    keys = keys_of({**judges, **rewards})
    condition = f"evaluation_id = {literal(evaluation['evaluation_id'])} AND state = 'ok'"
    columns = ["generation_id", "prompt_id", "prompt", "task", "lineage"]
    rows = [row | {"given": given_frames(row["task"], row.pop("lineage"))}
            for row in store.read("generations", columns, condition).to_pylist()]  # fmt: skip
    found = JudgedCounts()
    run = _Run(store, evaluation["evaluation_id"], {row["generation_id"]: row for row in rows}, found)
    learned = recipe.tuned_on()
    run.tuned_on = {row["prompt_id"] for row in rows if row["generation_id"] in learned}
    if run.tuned_on:
        prompts = len({row["prompt_id"] for row in rows})
        found.notes.append(
            f"the judge was tuned on people's scores of {len(run.tuned_on):,} of the {prompts:,} prompts here: on "
            "these it is no opinion of its own. Judge with it what it has not seen"
        )
    todo = {name: run.unjudged(name, one) for name, one in judges.items()}
    todo |= {name: run.unscored(name, one) for name, one in rewards.items()}
    if any(todo.values()):
        said = json.dumps({name: one.describe() for name, one in {**judges, **rewards}.items()})
        with (
            recorded_run(store, "evaluate", said) as record,
            options.cluster(),
            Progress("judge", quiet=options.quiet) as progress,
        ):
            progress.tell = record.tell
            run.total = sum(map(len, todo.values()))
            try:
                groups: list[dict[str, Reward]] = [dict(judges), *({name: one} for name, one in rewards.items())]
                for group in groups:
                    run.group(group, {name: todo[name] for name in group}, keys, progress)
            finally:
                run.commit()
                record.counts = {"judged": sum(found.made.values()), "failed": sum(found.failed.values())}
    return found


class _Run:
    """Scores on their way from judges into tables."""

    def __init__(self, store: Store, evaluation: str, rows: Mapping[str, dict[str, Any]], found: JudgedCounts) -> None:
        self.store, self.evaluation, self.of_id, self.found = store, evaluation, rows, found
        self.ratings: list[dict[str, Any]] = []
        self.stale: dict[tuple[str, str], list[str]] = {}  # (generation, dimension) -> ids of answers to be replaced
        self.not_asked: dict[str, list[str]] = {}  # dimension -> generations
        self.columns: dict[str, list[dict[str, Any]]] = {}
        self.tuned_on: set[str] = set()  # prompts
        self.done = self.total = 0
        self.committed_at = time.monotonic()

    def unjudged(self, dimension: str, one: Judge) -> list[str]:
        """Return the generations that this judge has not rated.

        Ratings by the same model with another prompt or other frames stay until this judge's are in the table. So do
        this judge's own of videos that it is not asked about in the dimension, as it was once asked about all.
        """
        self.store.ensure_columns("ratings", [READ_BY, JUDGED_WITH, UNCALIBRATED, ABOUT, TUNED_ON])
        condition = (f"evaluation_id = {literal(self.evaluation)} AND {is_one_of('dimension', [dimension])} "
                     f"AND NOT is_human AND {is_one_of('rater', [one.chat.model])}")  # fmt: skip
        there = self.store.read("ratings", ["rating_id", "generation_id", JUDGED_WITH.name], condition).to_pylist()
        have = {row["generation_id"] for row in there if row[JUDGED_WITH.name] == one.fingerprint}
        for row in there:
            if row[JUDGED_WITH.name] != one.fingerprint:
                self.stale.setdefault((row["generation_id"], dimension), []).append(row["rating_id"])
        self._drop_stale((name, dimension) for name in have)  # a run that was killed between adding and dropping
        self.found.current[dimension] = len(have)
        asked = {n for n, row in self.of_id.items() if is_asked(dimension, row["task"], row["prompt"] or "")}
        self.not_asked[dimension] = [name for name in self.of_id if name not in asked]
        return [name for name in self.of_id if name in asked and name not in have]

    def _drop_stale(self, answered: Iterable[tuple[str, str]]) -> None:
        old = [name for key in answered for name in self.stale.pop(key, [])]
        if old:
            self.store.delete("ratings", is_one_of("rating_id", old))

    def unscored(self, label: str, one: Reward) -> list[str]:
        """Return the generations whose column is not of this reward."""
        self.store.ensure_columns("generations", _fields(label, one))
        condition = f"evaluation_id = '{self.evaluation}' AND {label}_fingerprint = '{one.fingerprint}'"
        have = set(self.store.read("generations", ["generation_id"], condition).column(0).to_pylist())
        self.found.current[label] = len(have & self.of_id.keys())
        return [name for name in self.of_id if name not in have]

    def group(
        self, rewards: Mapping[str, Reward], todo: Mapping[str, Sequence[str]], keys: Keys, progress: Progress
    ) -> None:
        """Score generations by judges that ask one model, or by a reward, in one process."""
        import ray

        if not any(todo.values()):
            return
        gpus = max(reward.resources.gpus for reward in rewards.values())
        own = Keys({key: keys[key] for reward in rewards.values() for key in reward.keys})
        remote = ray.remote(Scorer).options(num_cpus=1, num_gpus=gpus)
        with Actors(lambda: remote.remote(dict(rewards), self.store.uri, own), 1) as actors:
            for name, ids in todo.items():
                for start in range(0, len(ids), VIDEOS_A_CALL):
                    some = tuple(ids[start : start + VIDEOS_A_CALL])
                    actors.queue.append(Work("score", (name, {one: self.of_id[one] for one in some}), some))
            while actors:
                for result in actors.next_done():
                    name = result.work.args[0]
                    self._collect(name, rewards[name], result)
                if time.monotonic() - self.committed_at >= COMMIT_S:
                    self.commit()
                progress.show(self.done, self.total, failed=sum(self.found.failed.values()))

    def _collect(self, name: str, reward: Reward, result: Result) -> None:
        lost = [Unscored(f"the worker was lost ({result.lost})")] * len(result.work.items)
        for generation, value in zip(result.work.items, result.value or lost, strict=True):
            self.done += 1
            if isinstance(value, Unscored):
                self.found.failed[name] += 1
                self.found.why.setdefault(name, value.why)
            else:
                self.found.made[name] += 1
            if isinstance(reward, Judge):
                self._rate(name, reward, generation, value)
            else:
                failed = isinstance(value, Unscored)
                row = {"generation_id": generation, name: None if failed else value.value,
                       f"{name}_fingerprint": None if failed else reward.fingerprint,
                       f"{name}_error": value.why if isinstance(value, Unscored) else None}  # fmt: skip
                self.columns.setdefault(name, []).append(row)

    def _rate(self, dimension: str, one: Judge, generation: str, value: Judged | Unscored) -> None:
        """Keep a rating; a failure is none, and is asked again by the next run."""
        if isinstance(value, Unscored):
            return
        self.found.by_digit[dimension] += not value.is_expectation
        key = ["judge", generation, one.chat.model, dimension, one.fingerprint]
        self.ratings.append({
            "rating_id": hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16], "evaluation_id": self.evaluation,
            "kind": "mos", "generation_id": generation, "dimension": dimension, "value": value.value,
            "rater": one.chat.model, "is_human": False, "repeat": 0, "at": datetime.now(UTC),
            READ_BY.name: "expectation" if value.is_expectation else "digit", JUDGED_WITH.name: one.fingerprint,
            UNCALIBRATED.name: value.uncalibrated, ABOUT.name: json.dumps(one.describe(), sort_keys=True),
            TUNED_ON.name: self.of_id[generation]["prompt_id"] in self.tuned_on,
        })  # fmt: skip

    def commit(self) -> None:
        """Put what has gathered into the tables."""
        self.committed_at = time.monotonic()
        if self.ratings:
            self.store.append("ratings", self.ratings)
            self._drop_stale((row["generation_id"], row["dimension"]) for row in self.ratings)
            for dimension in {row["dimension"] for row in self.ratings}:
                self._drop_stale((name, dimension) for name in self.not_asked[dimension])
            self.ratings = []
        for label, rows in self.columns.items():
            schema = pa.schema([pa.field("generation_id", pa.string()), *_fields(label, None)])
            self.store.merge("generations", pa.Table.from_pylist(rows, schema), on="generation_id")
        self.columns = {}


def _fields(label: str, one: Reward | None) -> list[pa.Field]:
    by = {"computed_by": label}
    return [
        column(label, pa.float64(), f"score by the reward {one.name if one else label}; larger is better", **by),
        column(f"{label}_fingerprint", pa.string(), f"reward, parameters and models that made {label}", **by),
        column(f"{label}_error", pa.string(), f"why {label} is null", **by),
    ]


def _video(mp4: bytes, row: Mapping[str, Any]) -> Video:
    facts, _ = read(mp4)
    _, (frames,) = read(mp4, [every_frame(min(facts.width, facts.height), "rgb")])
    return Video(frames, facts.fps, row["prompt"], given=min(row["given"], len(frames)))


def given_frames(task: str, lineage: str | None) -> int:
    """Return how many of a video's first frames were given and not made.

    Args:
        task: of its prompt.
        lineage: JSON of the generation; those before `begins_with.frames` have the overlap alone, which is the most.
    """
    if task != "vc":
        return int(task == "i2v")
    told = json.loads(lineage or "{}")
    frames = (told.get("begins_with") or {}).get("frames") or (told.get("settings") or {}).get("overlap")
    return int(frames or 0)
