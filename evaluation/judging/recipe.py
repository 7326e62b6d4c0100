"""The recipe of an evaluation's judges: a chat model with the dimensions it is asked about, and reward models."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field

from reelwright.evaluation.errors import EvaluationError
from reelwright.training.errors import TrainError
from reelwright.training.rewards.contract import Reward
from reelwright.training.rewards.judge import Judge
from reelwright.training.rewards.registry import load
from reelwright.training.tuning.judge_file import TunedJudge, tuned_judge

ASPECTS = {
    "text_alignment": "how completely and exactly the video shows what the prompt says: its things, their number and "
    "look, what they do and in which order, the place, the style and the camera",
    "visual_quality": "how good the frames look: sharpness, light and colour, sound shapes of bodies, hands, faces and "
    "objects, and no artefacts; leave aside whether they fit the prompt",
    "motion_quality": "how good the motion is: that things move at all, smoothly, with weight, keep their shape and "
    "number from frame to frame, and obey physics; leave aside whether they fit the prompt",
    "overall": "how good the video is as a whole, as an answer to its prompt",
}
"""Dimension -> what the judge is asked about, in words that follow "Judge"."""
IMAGE_ASPECT = {
    "image_alignment": "how well the video keeps to its first frame, which was given: the same people, things, place, "
    "style and colours to the end",
}
"""Of videos that begin with a picture."""

NAME = re.compile("[a-z][a-z0-9_]*")
"""Of a dimension or a column."""


class RewardScorer(BaseModel, frozen=True, extra="forbid"):
    """A reward model as evaluator."""

    kind: str = Field("", description="name of the reward; empty: the label that it stands under")
    parameters: dict[str, Any] = Field({}, description="of the reward")


class JudgeRecipe(BaseModel, frozen=True, extra="forbid"):
    """What judges an evaluation's videos."""

    judge: dict[str, Any] = Field({}, description="parameters of the reward `judge`: chat, sampling, prompt …")
    dimensions: dict[str, str] = Field(
        {}, description="dimension: what is asked; empty: what a tuned judge was asked, else those of the report"
    )
    rewards: dict[str, RewardScorer] = Field({}, description="column of generations: a reward whose number it holds")

    def judges(self) -> dict[str, Judge]:
        """Return dimension -> the judge that is asked about it; nothing is opened.

        A tuned judge sees frames, and answers on a scale, as it was tuned, unless the recipe says otherwise.

        Raises:
            EvaluationError: a parameter is wrong.
        """
        if not self.judge:
            return {}
        tuned = self._tuned()
        own: dict[str, Any] = {}
        if tuned:
            own = {"sampling": asdict(tuned.sampling), "lowest": tuned.scale[0], "highest": tuned.scale[1]}
        found: dict[str, Judge] = {}
        for dimension, aspect in self._asked().items():
            if not NAME.fullmatch(dimension):
                raise EvaluationError(
                    f"dimensions.{dimension!r} is no name of a dimension: lower-case letters, digits and _, such as "
                    "visual_quality"
                )
            try:
                one = load("judge", {**own, **self.judge, "aspect": aspect})
            except ValueError as error:
                raise EvaluationError(f"judge: {error}") from error
            assert isinstance(one, Judge)
            found[dimension] = one
        return found

    def tuned_on(self) -> frozenset[str]:
        """Return the generations whose scores by people the judge was tuned on; empty where it was not."""
        tuned = self._tuned()
        return tuned.tuned_on if tuned else frozenset()

    def reward_models(self) -> dict[str, Reward]:
        """Return column -> reward; no model is loaded. Raises EvaluationError for a parameter that is wrong."""
        found = {}
        for label, use in self.rewards.items():
            if not NAME.fullmatch(label) or label in self._asked():
                raise EvaluationError(
                    f"rewards.{label} names a column of generations: lower-case letters, digits, _, and no dimension "
                    "of the judge"
                )
            try:
                found[label] = load(use.kind or label, use.parameters)
            except ValueError as error:
                raise EvaluationError(f"rewards.{label}: {error}") from error
        return found

    def _asked(self) -> dict[str, str]:
        tuned = self._tuned()
        return self.dimensions or (dict(tuned.aspects) if tuned else {**ASPECTS, **IMAGE_ASPECT})

    def _tuned(self) -> TunedJudge | None:
        chat = self.judge.get("chat")
        model = str(chat.get("model") or "") if isinstance(chat, dict) else ""
        try:
            return tuned_judge(str(self.judge.get("calibration") or ""), model) if model else None
        except TrainError as error:
            raise EvaluationError(f"judge: {error}") from error
