"""A caption without a model: plain English composed from measurements. It cannot know the content of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.annotate.captions.writing.vocabulary import CAMERA_MOTIONS
from reelwright.annotate.chat.vocabulary import vocabulary_fingerprint
from reelwright.annotate.contract import Annotator, Column, Stored

INPUTS = (
    "width", "height", "duration_s", "is_image", "camera_motion", "camera_motion_confidence", "motion_score",
    "still_share", "brightness", "contrast", "colorfulness", "black_share", "blur_score", "text_coverage",
    "text_subtitle",
)  # fmt: skip
NOTHING = 0.001  # frame heights per second: coding noise
SURE = 0.5  # confidence from which the camera's motion is stated: more likely than not

# (upper bound, words); the first bound that a value is below holds
BRIGHTNESS = ((255 / 6, "dark"), (255 / 3, "dim"), (510 / 3, ""), (255 * 5 / 6, "bright"), (256, "very bright"))
CONTRAST = ((25, "low contrast"), (65, ""), (256, "strong contrast"))  # levels; an even spread over all has 74
COLOR = (  # between the steps of Hasler & Süsstrunk's (2003) scale: 0, 15, 33, 45, 59, 82
    (7.5, "almost no color"), (24, "muted colors"), (52, "moderate colors"), (70, "rich colors"), (1e9, "vivid colors")
)  # fmt: skip
MOVEMENT = (  # frame heights per second, mean over the frame
    (0.01, "hardly any movement"), (0.05, "little movement"), (0.25, "some movement"), (1, "much movement"),
    (1e9, "very fast movement"),
)  # fmt: skip
DETAIL = ((10, "It is soft, without fine detail."), (300, ""), (1e12, "It is sharp, with much fine detail."))


@dataclass(frozen=True)
class ComposedCaption(Annotator):
    """A clip in sentences, composed from other annotators' columns.

    They say shape, length, camera, movement, light, colour, detail and text, and leave out unknown values. The same
    values give the same words.
    """

    name, version = "composed_caption", 1
    profiles = ("cpu", "full")
    typical_s = 0.001
    needs = tuple(Stored(column, optional=True) for column in INPUTS)
    columns = {"composed_caption": Column(pa.string(), "caption composed from measured attributes, by rules")}
    models = (vocabulary_fingerprint(CAMERA_MOTIONS),)

    def __call__(self, *inputs: Any) -> dict[str, Any]:
        """Compose the sentences of a clip.

        Args:
            inputs: the values of INPUTS, None where not known.
        """
        known = {name: value for name, value in zip(INPUTS, inputs, strict=True) if value is not None}
        sentences = [_shape_and_camera(known), _movement(known), _light(known), _detail(known), _text(known)]
        caption = " ".join(filter(None, sentences))
        if not caption:
            raise ValueError(f"none of the columns that a caption is composed from is there: {', '.join(INPUTS)}")
        return {"composed_caption": caption}


def _shape_and_camera(known: Mapping[str, Any]) -> str:
    shape = _shape(known.get("width"), known.get("height"))
    if known.get("is_image"):
        return f"A {shape} picture." if shape else "A picture."
    length = _length(known.get("duration_s"))
    sure = known.get("camera_motion_confidence", 1.0) >= SURE
    camera = CAMERA_MOTIONS[known["camera_motion"]].en if sure and known.get("camera_motion") in CAMERA_MOTIONS else ""
    if not shape and not length:
        return f"{camera[0].upper()}{camera[1:]}." if camera else ""
    clip = f"A {shape} clip" if shape else "A clip"
    return f"{clip}{f' of about {length}' if length else ''}{f', in which {camera}' if camera else ''}."


def _shape(width: float | None, height: float | None) -> str:
    if not width or not height:
        return ""
    return "landscape" if width > 1.1 * height else "portrait" if height > 1.1 * width else "square"


def _length(duration_s: float | None) -> str:
    if duration_s is None:
        return ""
    return "one second" if duration_s < 1.5 else f"{round(duration_s)} seconds"


def _movement(known: Mapping[str, Any]) -> str:
    if known.get("black_share", 0) >= 0.5:
        return "Most of it is black."
    if "motion_score" not in known or known.get("is_image"):
        return ""
    if known.get("still_share", 0) >= 1 and known["motion_score"] < NOTHING:
        return "Nothing moves."
    return f"There is {_words(MOVEMENT, known['motion_score'])}."


def _light(known: Mapping[str, Any]) -> str:
    """Such as: The picture is dim, with low contrast and muted colors."""
    light = _words(BRIGHTNESS, known["brightness"]) if "brightness" in known else ""
    contrast = _words(CONTRAST, known["contrast"]) if "contrast" in known else ""
    color = _words(COLOR, known["colorfulness"]) if "colorfulness" in known else ""
    what = " and ".join(filter(None, (contrast, color)))
    if light:
        return f"The picture is {light}{f', with {what}' if what else ''}."
    return f"The picture has {what}." if what else ""


def _detail(known: Mapping[str, Any]) -> str:
    return _words(DETAIL, known["blur_score"]) if "blur_score" in known else ""


def _text(known: Mapping[str, Any]) -> str:
    coverage = known.get("text_coverage", 0)
    if coverage >= 0.15:
        return "Text fills much of the frame."
    if coverage < 0.005:
        return ""
    return f"There is some text {'near the bottom' if known.get('text_subtitle', 0) >= 0.5 else 'in the frame'}."


def _words(scale: tuple[tuple[float, str], ...], value: float) -> str:
    return next((words for bound, words in scale if value < bound), scale[-1][1])
