import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright import annotate
from reelwright.annotate import annotate_clip
from reelwright.annotate.captions.composed_caption import INPUTS, ComposedCaption
from reelwright.annotate.captions.writing.vocabulary import CAMERA_MOTIONS
from tests.annotate.synth import encode, moved, texture

KNOWN = {
    "width": 1280, "height": 720, "duration_s": 4.2, "camera_motion": "pan_left", "camera_motion_confidence": 0.9,
    "motion_score": 0.1, "still_share": 0.0, "brightness": 60.0, "contrast": 20.0, "colorfulness": 12.0,
    "black_share": 0.0, "blur_score": 900.0, "text_coverage": 0.03, "text_subtitle": 1.0,
}  # fmt: skip


def composed(**known) -> str:
    return ComposedCaption()(*[known.get(name) for name in INPUTS])["composed_caption"]


def test_all_that_is_known_is_said():
    assert composed(**KNOWN) == (
        "A landscape clip of about 4 seconds, in which the camera pans left. There is some movement. The picture is "
        "dim, with low contrast and muted colors. It is sharp, with much fine detail. There is some text near the "
        "bottom."
    )


@pytest.mark.parametrize(
    ("known", "caption"),
    [
        ({"width": 720, "height": 1280}, "A portrait clip."),
        ({"width": 720, "height": 720, "duration_s": 1.1}, "A square clip of about one second."),
        ({"duration_s": 12.0}, "A clip of about 12 seconds."),
        ({"camera_motion": "static", "camera_motion_confidence": 0.6}, "The camera holds still."),
        ({"motion_score": 0.0, "still_share": 1.0}, "Nothing moves."),
        ({"motion_score": 0.0004, "still_share": 0.9}, "There is hardly any movement."),
        ({"motion_score": 3.0, "black_share": 0.5}, "Most of it is black."),
        ({"brightness": 120.0, "contrast": 50.0, "colorfulness": 90.0}, "The picture has vivid colors."),
        ({"brightness": 240.0}, "The picture is very bright."),
        ({"blur_score": 3.0}, "It is soft, without fine detail."),
        ({"text_coverage": 0.3, "blur_score": 50.0}, "Text fills much of the frame."),
        ({"width": 64, "height": 64, "camera_motion": "somersault"}, "A square clip."),
        ({"width": 64, "height": 64, "camera_motion": "roll", "camera_motion_confidence": 0.3}, "A square clip."),
    ],
)
def test_only_what_is_known_is_said(known, caption):
    assert composed(**known) == caption


def test_nothing_known_is_a_failure():
    columns, (failure,) = annotate_clip(None, [annotate.load("composed_caption")], {})
    assert columns == {}
    assert "none of the columns that a caption is composed from is there: width, height" in failure.error


NUMBERS = {n: st.none() | st.floats(0, 1e4) for n in INPUTS if n != "camera_motion"}


@given(st.fixed_dictionaries(NUMBERS | {"camera_motion": st.none() | st.sampled_from([*CAMERA_MOTIONS, "other"])}))
def test_any_values_make_plain_sentences(known):
    if not any(v is not None for v in known.values()):
        return
    try:
        caption = composed(**known)
    except ValueError:  # nothing that could be said of what is known, such as of a middling contrast
        return
    assert caption == composed(**known)
    assert caption.endswith(".")
    assert "  " not in caption
    assert all(sentence[0].isupper() for sentence in caption.split(". "))
    assert "None" not in caption


def test_it_composes_what_other_annotators_measured_on_the_clip():
    still = encode([texture(180, 320)] * 12)
    moving = encode(moved(texture(180, 700), range(0, 144, 6), [0] * 24, 180, 320))
    annotators = [annotate.load(name) for name in ("blur", "motion", "light", "composed_caption")]
    row = {"width": 320, "height": 180, "duration_s": 0.5}
    captions = [annotate_clip(mp4, annotators, row)[0]["composed_caption"] for mp4 in (still, moving)]
    assert "Nothing moves." in captions[0]
    assert "There is much movement." in captions[1]
    assert all(c.startswith("A landscape clip of about one second.") for c in captions)
