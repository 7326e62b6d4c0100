"""Scoring videos by a tuned reward model, as it was trained: its frames, its question, its head."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from reelwright.annotate.chat.payload import jpegs, pixels
from reelwright.errors import first_line
from reelwright.training.errors import TrainError
from reelwright.training.rewards.contract import Unscored, Video
from reelwright.training.tuning.recipe import BaseConfig, RewardRecipe

SETTINGS, HEAD = "reward.json", "head.safetensors"
FORMAT = 1
REMEMBERED = 4096  # videos whose scores are kept for the dimensions that ask later


@dataclass(frozen=True)
class RewardSettings:
    """What reward.json says. recipe: how a video is shown and asked about. normal: mean and deviation by dimension."""

    recipe: RewardRecipe
    normal: dict[str, dict[str, float]]

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the scores."""
        return self.recipe.dimensions

    def normalised(self, scores: list[float]) -> dict[str, float]:
        """Return scores by dimension, in deviations from the mean where that is known."""
        found = {}
        for name, score in zip(self.dimensions, scores, strict=True):
            known = self.normal.get(name, {"mean": 0.0, "std": 1.0})
            found[name] = (score - known["mean"]) / known["std"]
        return found


def read_settings(folder: Path) -> RewardSettings:
    """Read reward.json. Raises TrainError where it is missing, or of another form."""
    path = folder.expanduser() / SETTINGS
    try:
        found = json.loads(path.read_text("utf-8"))
        if found.pop("format") != FORMAT:
            raise ValueError("another format")
        normal = {k: {n: float(v[n]) for n in ("mean", "std")} for k, v in found.pop("normal").items()}
        return RewardSettings(RewardRecipe.model_validate(found), normal)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise TrainError(
            f"{path} is not the file of a tuned reward ({first_line(error)}); name the folder model of a run of "
            "`reel tune reward`"
        ) from error


class VideoScorer:
    """A loaded reward model."""

    def __init__(self, folder: Path, dtype: Any, device: str) -> None:
        """Load it. Raises TrainError where a part is missing."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from reelwright.training.tuning.base import load_base
        from reelwright.training.tuning.preference import Preferences, Scorer

        folder = folder.expanduser()
        self.settings = read_settings(folder)
        base = load_base(BaseConfig(model=str(folder), dtype=dtype))
        self.objective = Preferences(base.template, base.form, self.settings.recipe)
        scorer = Scorer(base.model, len(self.settings.dimensions))
        try:
            scorer.head.load_state_dict(load_file(folder / HEAD))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise TrainError(f"{folder / HEAD} is no head of this model ({first_line(error)}); tune again") from error
        self.network, self.device = scorer.to(device).eval(), torch.device(device)
        self._known: OrderedDict[bytes, dict[str, float] | Unscored] = OrderedDict()

    def __call__(self, video: Video) -> dict[str, float] | Unscored:
        """Return a video's score by dimension, or why it has none."""
        key = hashlib.sha256(repr((video.frames.shape, video.rate, video.prompt)).encode())
        key.update(np.ascontiguousarray(video.frames).data)
        if (digest := key.digest()) not in self._known:
            self._known[digest] = self._score(video)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return self._known[digest]

    def _score(self, video: Video) -> dict[str, float] | Unscored:
        import torch

        from reelwright.annotate.backends.videos.patches import PictureError
        from reelwright.curation.media.frames import Frames
        from reelwright.curation.media.unencoded import Unencoded, read_unencoded

        recipe = self.settings.recipe
        needs = [need for need in recipe.sampling.needs if isinstance(need, Frames)]
        facts, (frames,) = read_unencoded(Unencoded(video.frames, video.rate), needs)
        frames, _ = recipe.sampling.seen(frames, facts)
        if recipe.jpeg_quality:
            frames = pixels(jpegs(frames, recipe.jpeg_quality))
        try:
            row = self.objective.row(video.prompt, frames, facts.num_frames / facts.fps / len(frames))
        except PictureError as error:
            return Unscored(f"tuned: {error}")
        with torch.inference_mode():
            scores = self.objective.scores(self.network, [row], self.device)[0]
        return self.settings.normalised(scores.tolist())
