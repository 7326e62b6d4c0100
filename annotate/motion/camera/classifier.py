"""Names a camera's path: a few small networks over its features, their weights in JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from reelwright.annotate.motion.camera.features import FEATURES, CameraPath, features
from reelwright.annotate.motion.camera.motion import Steps

WEIGHTS = Path(__file__).with_name("weights.json")
LABELS = ("static", "pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out", "roll", "shake", "other")
# A family's labels by the sign of its motion in CameraPath.net: content moving right is a pan to the left
DIRECTIONS = {
    "pan": (0, "pan_left", "pan_right"),
    "tilt": (1, "tilt_up", "tilt_down"),
    "zoom": (2, "zoom_in", "zoom_out"),
}


@dataclass(frozen=True)
class Classifier:
    """Networks of one hidden layer (tanh) and a softmax over families; their mean probability is the answer.

    mean, scale: float [F], of the features in training. hidden: of each network, weights [F, H] and biases [H];
    output: [H, families] and [families].
    """

    families: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    hidden: tuple[tuple[np.ndarray, np.ndarray], ...]
    output: tuple[tuple[np.ndarray, np.ndarray], ...]

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Return the families' probabilities, float [..., families]; values: float [..., F]."""
        x = np.clip((values - self.mean) / self.scale, -6, 6)
        mixed = [
            _softmax(np.tanh(x @ weight + bias) @ out + shift)
            for (weight, bias), (out, shift) in zip(self.hidden, self.output, strict=True)
        ]
        return np.mean(mixed, axis=0)

    def name(self, camera: CameraPath, steps: Steps) -> tuple[str, float]:
        """Return the label and its probability, less where the motion was measured in a part of the time only."""
        chances = self.probabilities(features(camera, steps))
        family = self.families[int(chances.argmax())]
        return directed(family, camera.net), float(chances.max()) * camera.measured

    def to_json(self) -> str:
        """Return the weights as JSON, with the names of families and features."""
        content = {
            "families": self.families, "features": FEATURES, "mean": _plain(self.mean), "scale": _plain(self.scale),
            "hidden": [[_plain(w), _plain(b)] for w, b in self.hidden],
            "output": [[_plain(w), _plain(b)] for w, b in self.output],
        }  # fmt: skip
        return json.dumps(content) + "\n"


def directed(family: str, net: np.ndarray) -> str:
    """Return the label of a family; its direction is the measured path's, so a mirrored clip has the mirrored label."""
    if family not in DIRECTIONS:
        return family
    axis, positive, negative = DIRECTIONS[family]
    return positive if net[axis] > 0 else negative


@lru_cache(maxsize=1)
def load_classifier(path: Path = WEIGHTS) -> Classifier:
    """Load the trained weights; raises ValueError where they are of other features than this code computes."""
    content = json.loads(path.read_text())
    if content["features"] != list(FEATURES):
        command = "python -m reelwright.annotate.motion.camera.train"
        raise ValueError(f"{path} was trained on other features; train it again: {command}")
    return Classifier(
        tuple(content["families"]), np.array(content["mean"]), np.array(content["scale"]),
        tuple((np.array(w), np.array(b)) for w, b in content["hidden"]),
        tuple((np.array(w), np.array(b)) for w, b in content["output"]),
    )  # fmt: skip


def weights_hash(path: Path = WEIGHTS) -> str:
    """Return 16 hex digits of the weights' file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _plain(values: np.ndarray) -> list:
    return np.round(values, 4).tolist()
