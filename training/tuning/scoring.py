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
        self._known: OrderedDict[bytes, dict[str, float]] = OrderedDict()

    def __call__(self, frames: np.ndarray, rate: float, prompt: str) -> dict[str, float]:
        """Return a video's score by dimension.

        Args:
            frames: uint8 [F, H, W, 3].
            rate: frames per second that it plays at.
            prompt: that it was made from.

        Raises:
            PictureError: it cannot be shown to the model.
        """
        key = hashlib.sha256(repr((frames.shape, rate, prompt)).encode())
        key.update(np.ascontiguousarray(frames).data)
        if (digest := key.digest()) not in self._known:
            self._known[digest] = self._score(frames, rate, prompt)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return self._known[digest]

    def _score(self, frames: np.ndarray, rate: float, prompt: str) -> dict[str, float]:
        import torch

        from reelwright.curation.media.frames import Frames
        from reelwright.curation.media.unencoded import Unencoded, read_unencoded

        recipe = self.settings.recipe
        needs = [need for need in recipe.sampling.needs if isinstance(need, Frames)]
        facts, (seen,) = read_unencoded(Unencoded(frames, rate), needs)
        seen, _ = recipe.sampling.seen(seen, facts)
        if recipe.jpeg_quality:
            seen = pixels(jpegs(seen, recipe.jpeg_quality))
        row = self.objective.row(prompt, seen, facts.num_frames / facts.fps / len(seen))
        with torch.inference_mode():
            scores = self.objective.scores(self.network, [row], self.device)[0]
        return self.settings.normalised(scores.tolist())
