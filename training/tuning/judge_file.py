"""judge.json: how a tuned judge was asked, and the map from its scores to people's; written and read here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelwright.annotate.chat.frame_times import FrameSampling
from reelwright.errors import first_line
from reelwright.training.errors import TrainError

FILE = "judge.json"
NONE = "none"
"""In place of a path: scores stay as the judge gives them."""


@dataclass(frozen=True)
class TunedJudge:
    """What a judge learned.

    Args:
        prompt: id of the prompt that asked.
        aspects: dimension -> what was asked, in words that follow "Judge".
        scale: its lowest and highest digit.
        sampling: of the frames that it was shown.
        maps: dimension -> points [judge, people], rising, straight between; none where too little was held out.
        tuned_on: ids of the generations whose scores it was trained on.
    """

    prompt: str
    aspects: Mapping[str, str]
    scale: tuple[int, int]
    sampling: FrameSampling
    maps: Mapping[str, tuple[tuple[float, float], ...]]
    tuned_on: frozenset[str] = frozenset()

    def dimension_of(self, aspect: str) -> str:
        """Return the dimension that is asked about in these words; empty: none."""
        return next((name for name, words in self.aspects.items() if words == aspect), "")


@dataclass(frozen=True)
class Calibration:
    """The map of one dimension. name: of the dimension, and a hash of the points."""

    name: str
    points: tuple[tuple[float, float], ...]

    def __call__(self, score: float) -> float:
        """Return a judge's score on people's scale."""
        from reelwright.training.tuning.calibration import calibrated

        return float(calibrated([score], self.points)[0])


def write_judge(folder: Path, told: Mapping[str, Any]) -> None:
    """Write judge.json. told: prompt, aspects, scale, sampling, calibration by dimension, tuned_on."""
    (folder / FILE).write_text(json.dumps(told, indent=1), encoding="utf-8")


def tuned_judge(place: str, model: str) -> TunedJudge | None:
    """Return what a judge learned.

    Args:
        place: path of a judge.json, or "none"; empty: that in the model's folder, where there is one.
        model: a chat model: a folder, or a name.

    Raises:
        TrainError: the file is missing, or of another form.
    """
    path = Path(place or model).expanduser()
    if place == NONE or (not place and not (path / FILE).is_file()):
        return None
    return read_judge(path / FILE if path.is_dir() else path)


def read_judge(path: Path) -> TunedJudge:
    """Read a judge.json. Raises TrainError where it is missing, or of another form."""
    try:
        found = json.loads(path.read_text("utf-8"))
        maps = {name: tuple((float(a), float(b)) for a, b in one["points"])
                for name, one in found["calibration"].items()}  # fmt: skip
        if any(not points or list(points) != sorted(points) for points in maps.values()):
            raise ValueError("points do not rise")
        lowest, highest = (int(digit) for digit in found["scale"])
        aspects = {str(name): str(words) for name, words in found["aspects"].items()}
        sampling, tuned_on = FrameSampling(**found["sampling"]), frozenset(map(str, found.get("tuned_on", ())))
        return TunedJudge(str(found["prompt"]), aspects, (lowest, highest), sampling, maps, tuned_on)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainError(
            f"{path} does not say how a judge was tuned ({first_line(error)}); name the judge.json in the folder model "
            'of a run of `reel tune judge`, or "none"'
        ) from error


def calibration_of(
    tuned: TunedJudge, *, aspect: str, prompt: str, scale: tuple[int, int], sampling: FrameSampling
) -> Calibration | None:
    """Return the map of a judge that is asked as it was when its map was fitted.

    Args:
        tuned: what it learned.
        aspect: what it is asked about.
        prompt: id of the prompt.
        scale: lowest and highest digit.
        sampling: of the frames that it is shown.

    Returns:
        The map; None where it was asked about something else, or no map was fitted.

    Raises:
        ValueError: it is asked about the same in another way, to which its map does not apply.
    """
    dimension = tuned.dimension_of(aspect)
    if dimension not in tuned.maps:
        return None
    for name, now, then in (
        ("prompt", prompt, tuned.prompt), ("scale", scale, tuned.scale), ("sampling", sampling, tuned.sampling),
    ):  # fmt: skip
        if now != then:
            raise ValueError(
                f"{name} is {now}, and the judge's calibration was fitted with {then}; ask as it was tuned, or set "
                f"calibration: {NONE}"
            )
    points = tuned.maps[dimension]
    digest = hashlib.sha256(repr(points).encode()).hexdigest()[:12]
    return Calibration(f"calibration:{dimension}#{digest}", points)
