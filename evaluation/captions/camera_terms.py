"""How the camera moves, as a caption says it, against what `camera_motion` measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

SAID: Mapping[str, str] = {
    "static": r"camera (?:\w+ ){0,2}(?:still|static|stationary|fixed)|(?:static|fixed|stationary) (?:camera|shot)",
    "pan_left": r"pan(?:s|ned|ning)? (?:\w+ ){0,2}(?:to the )?left",
    "pan_right": r"pan(?:s|ned|ning)? (?:\w+ ){0,2}(?:to the )?right",
    "tilt_up": r"tilt(?:s|ed|ing)? (?:\w+ ){0,1}up",
    "tilt_down": r"tilt(?:s|ed|ing)? (?:\w+ ){0,1}down",
    "zoom_in": r"zoom(?:s|ed|ing)?[- ](?:\w+ ){0,1}in\b|push(?:es|ed|ing)? in\b",
    "zoom_out": r"zoom(?:s|ed|ing)?[- ](?:\w+ ){0,1}out\b|pull(?:s|ed|ing)? (?:out|back)\b",
    "roll": r"camera (?:\w+ ){0,1}(?:rolls|rolled|rolling|rotates|rotating)",
    "shake": r"camera (?:\w+ ){0,2}(?:shakes|shaking|jitters)|hand[- ]?held|shaky",
}
"""Words for each class of `camera_motion`; a class that captions have no words for ("other") is not scored."""

_SAID = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in SAID.items()}


def said(caption: str) -> set[str]:
    """Return the motions that a caption speaks of."""
    return {name for name, pattern in _SAID.items() if pattern.search(caption)}


def camera_figures(captions: Sequence[str], measured: Sequence[str | None]) -> dict[str, float]:
    """Return how captions' camera terms agree with the column `camera_motion`.

    Args:
        captions: of clips.
        measured: the class of each clip; null and "other" are left out.

    Returns:
        clips: scored ones. said: share that speak of the camera. accuracy: share of those whose terms are the measured
        class and no other. recall: share of all that name the measured class.
    """
    known = [(said(text), label) for text, label in zip(captions, measured, strict=True) if label in SAID]
    speaking = [(terms, label) for terms, label in known if terms]
    nan = float("nan")
    return {
        "clips": len(known),
        "said": len(speaking) / len(known) if known else nan,
        "accuracy": sum(terms == {label} for terms, label in speaking) / len(speaking) if speaking else nan,
        "recall": sum(label in terms for terms, label in known) / len(known) if known else nan,
    }
