"""An annotator scores a sample as it scores a clip of the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from reelwright.annotate import load as load_annotator
from reelwright.annotate.run import annotate_clip
from reelwright.curation.media.cut import CutSpec, Cutter
from reelwright.curation.media.encode import EncodeConfig
from reelwright.curation.media.unencoded import Unencoded, encode_clip
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Unscored, Video
from reelwright.training.rewards.registry import load
from tests.annotate.synth import moved, texture

COLUMNS = {
    "aesthetic_standin": "aesthetic_standin_score",
    "blur": "blur_score",
    "light": "colorfulness",
    "motion": "motion_score",
    "text": "text_coverage",
    "watermark": "watermark_score",
}
CODED = {  # relative tolerance where an mp4 of the clip encoder's defaults (crf 18) lies between
    "aesthetic_standin": 0.02, "blur": 0.10, "light": 0.02, "motion": 0.03, "text": 0.10, "watermark": 0.05,
}  # fmt: skip


def footage(seed: int = 0, frames: int = 24, height: int = 180, width: int = 320, dx: float = 3.0) -> np.ndarray:
    """A moving texture under a title and a mark in its corner, uint8 [F, H, W, 3]."""
    picture = texture(height + 80, width + 200, seed)
    made = moved(picture, [dx * k - 40 for k in range(frames)], [0.5 * k for k in range(frames)], height, width)
    for frame in made:
        cv2.putText(frame, "WINTER", (60, 110), cv2.FONT_HERSHEY_DUPLEX, 1.6, (255, 255, 255), 3, cv2.LINE_AA)
        cv2.putText(frame, "REEL TV", (width - 90, 24), cv2.FONT_HERSHEY_DUPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    return np.stack(made)


def annotated(mp4: bytes, name: str) -> float:
    columns, failures = annotate_clip(mp4, [load_annotator(name)])
    assert not failures
    return float(columns[COLUMNS[name]])


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return footage()


@pytest.fixture(scope="module")
def coded(frames: np.ndarray) -> dict[int, bytes]:
    """The clip encoder's files of the frames by crf: 0 loses nothing, 18 is the default."""
    return {crf: encode_clip(Unencoded(frames, 15.0), EncodeConfig(crf=crf)) for crf in (0, 18)}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_sample_scores_as_the_clip_of_its_frames_does(name: str, frames: np.ndarray, coded: dict[int, bytes]) -> None:
    sample = Video(frames, 15.0, "a title")
    (found,) = score(load("annotation", {"annotator": name, "column": COLUMNS[name]}), [sample])
    assert found == annotated(coded[0], name)  # where coding loses nothing, to the bit
    assert found == pytest.approx(annotated(coded[18], name), rel=CODED[name])
    assert found > 0
    minus = load("annotation", {"annotator": name, "column": COLUMNS[name], "sign": -1, "scale": 2.0, "encode": {}})
    assert score(minus, [sample]) == [-2 * annotated(coded[18], name)]  # the very file


@pytest.mark.parametrize(("height", "width"), [(181, 321), (96, 54)])
def test_odd_and_portrait_sizes_are_read_as_the_encoder_makes_them(height: int, width: int) -> None:
    sample = footage(3, 9, height, width)
    mp4 = encode_clip(Unencoded(sample, 29.97), EncodeConfig(crf=0))
    for name in ("blur", "light", "motion"):
        (found,) = score(load("annotation", {"annotator": name, "column": COLUMNS[name]}), [Video(sample, 29.97, "")])
        assert found == annotated(mp4, name)


def test_an_encoded_sample_is_the_clip_that_curation_cuts_from_the_same_frames(tmp_path: Path) -> None:
    sample = footage(1, 8)
    source = tmp_path / "lossless.mkv"
    with av.open(str(source), "w") as file:
        stream = file.add_stream("ffv1", rate=15)
        stream.width, stream.height, stream.pix_fmt = sample.shape[2], sample.shape[1], "bgr0"
        for frame in sample:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode())
    spec = CutSpec(0, len(sample), (0, 0, sample.shape[2], sample.shape[1]))
    with Cutter(str(source), Fraction(15), EncodeConfig()) as cutter:
        assert encode_clip(Unencoded(sample, 15.0), EncodeConfig()) == cutter.cut(spec).mp4


def test_videos_of_one_call_keep_their_own_scores_and_failures(frames: np.ndarray) -> None:
    reward = load("annotation", {"annotator": "motion", "column": "motion_score"})
    sliver = np.zeros((6, 2, 200, 3), np.uint8)  # too thin for flow
    fast = footage(0, dx=6.0)
    found = reward([Video(v, 15.0, "") for v in (frames, sliver, fast)])
    assert isinstance(found[1], Unscored)
    assert "flow needs 16 pixels across" in found[1].why
    assert 1.5 * found[0] < found[2]


def test_a_fact_of_a_file_is_refused_where_a_sample_has_none(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="'technical' measures the clip's file, and a sample has none"):
        load("annotation", {"annotator": "technical", "column": "bits_per_pixel"})
    reward = load("annotation", {"annotator": "technical", "column": "bits_per_pixel", "encode": {"crf": 30}})
    (found,) = score(reward, [Video(frames, 15.0, "")])
    mp4 = encode_clip(Unencoded(frames, 15.0), EncodeConfig(crf=30))
    assert found == annotate_clip(mp4, [load_annotator("technical")])[0]["bits_per_pixel"]


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"annotator": "blurr"}, "'blurr' is not an annotator; look-alikes: blur"),
        ({"annotator": ""}, "annotator is empty"),
        ({"annotator": "blur"}, "column is empty, .* choose blur_score or blur_worst"),
        ({"annotator": "blur", "column": "sharp"}, "'sharp' is not a column of numbers of annotator 'blur'"),
        ({"annotator": "watermark", "column": "watermark_box"}, "'watermark_box' is not a column of numbers"),
        ({"annotator": "text", "column": "text_coverage", "settings": {"least": 1}}, "'text' has no parameter 'least'"),
        ({"annotator": "density"}, "'density' computes its columns from all clips of a store"),
        ({"annotator": "blur", "column": "blur_score", "encode": {"crv": 3}}, "crv"),
        ({"annotator": "blur", "column": "blur_score", "sign": 2}, "sign = 2"),
        ({"annotator": "blur", "column": "blur_score", "scale": -1}, "a minus is sign: -1"),
    ],
)
def test_what_cannot_score_a_sample_is_refused_when_a_recipe_is_read(parameters: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load("annotation", parameters)


def test_the_fingerprint_follows_the_annotators_settings_and_the_way_to_it() -> None:
    base = {"annotator": "text", "column": "text_coverage"}
    changes: Sequence[dict] = [
        {}, {"settings": {"min_probability": 0.5}}, {"encode": {}}, {"encode": {"crf": 30}}, {"sign": -1},
        {"scale": 2.0}, {"column": "text_largest"},
    ]  # fmt: skip
    prints = [load("annotation", base | change).fingerprint for change in changes]
    assert len(set(prints)) == len(prints)
    told = load("annotation", base).describe()
    assert told["parameters"]["settings"] == {"min_probability": 0.88}
    assert told["models"][0] == f"annotator:text@{load_annotator('text').fingerprint}"
    assert len(told["models"]) == 2
    assert load("annotation", base | {"settings": {"min_probability": 0.88}}).fingerprint == prints[0]
