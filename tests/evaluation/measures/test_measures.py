"""Each measure on videos whose truth is known because they were made for it, encoded as evaluations encode."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from reelwright.annotate import annotate_clips
from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.measures.registry import defaults, load, load_all
from reelwright.model.sampling.video_file import write_video

FPS = 8.0
Maker = Callable[[np.ndarray], bytes]


def scene(seed: int, height: int = 90, width: int = 160) -> np.ndarray:
    """A picture with plain structure, [H, W, 3]."""
    coarse = np.random.default_rng(seed).uniform(60, 190, (6, 10, 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(30, 220)


@pytest.fixture
def video(tmp_path: Path) -> Maker:
    """mp4 of frames [T, H, W, 3] in 0..255."""

    def make(frames: np.ndarray) -> bytes:
        tensor = torch.from_numpy(frames.astype(np.float32)).permute(3, 0, 1, 2) / 127.5 - 1
        return write_video(tmp_path / "v.mp4", tensor, FPS).read_bytes()

    return make


def measured(name: str, mp4: bytes) -> dict[str, Any]:
    ((columns, failures),) = annotate_clips([mp4], [load(name)])
    assert not failures, failures
    return columns


def still(count: int = 24) -> np.ndarray:
    return np.stack([scene(1)] * count)


def pan(count: int = 24, step: int = 3) -> np.ndarray:
    wide = scene(1, width=160 + step * count)
    return np.stack([wide[:, step * t : step * t + 160] for t in range(count)])


@pytest.mark.parametrize("amplitude", [4.0, 10.0])
def test_flicker_is_the_amplitude_of_what_alternates(video: Maker, amplitude: float) -> None:
    sign = np.array([1, -1] * 12)[:, None, None, None]
    found = measured("flicker", video(still() + amplitude * sign))
    assert found["flicker"] == pytest.approx(amplitude, rel=0.1)
    assert found["flicker_global"] == pytest.approx(amplitude, rel=0.1)


def test_a_steady_fade_or_pan_does_not_flicker(video: Maker) -> None:
    fade = still() * np.linspace(1, 0.4, 24)[:, None, None, None]
    assert measured("flicker", video(fade))["flicker"] < 0.4
    assert measured("flicker", video(pan()))["flicker_global"] < 0.4
    assert measured("flicker", video(still()))["flicker"] < 0.1


def test_colour_drift_is_the_distance_in_cielab(video: Maker) -> None:
    ends = np.array([[110.0, 120, 130], [150, 100, 90]], np.float32)
    lab = cv2.cvtColor((ends / 255)[None], cv2.COLOR_RGB2LAB)[0]
    frames = np.concatenate([np.full((12, 90, 160, 3), end) for end in ends])
    found = measured("colour_drift", video(frames))
    truth = lab[1] - lab[0]
    assert found["colour_drift"] == pytest.approx(float(np.linalg.norm(truth)), rel=0.1)
    assert found["brightness_drift"] == pytest.approx(float(truth[0]), abs=1.0)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    assert found["saturation_drift"] == pytest.approx(float(chroma[1] - chroma[0]), rel=0.15)
    assert found["colour_drift_rate"] == pytest.approx(found["colour_drift"] / (3 * 7 / 8), rel=1e-6)
    assert measured("colour_drift", video(still()))["colour_drift"] < 0.3


def test_a_cut_is_counted_and_loud_and_one_shot_has_none(video: Maker) -> None:
    found = measured("cuts", video(np.concatenate([still(16), np.stack([255 - scene(9)] * 16)])))
    assert (found["cuts"], found["transitions"]) == (1, 1)
    assert found["cut_loudest"] > 0.5
    assert measured("cuts", video(pan()))["transitions"] == 0
    assert measured("cuts", video(pan()))["cut_loudest"] == 0


def test_repetition_tells_standing_from_moving(video: Maker) -> None:
    moving, half = pan(24), np.concatenate([pan(12), np.stack([pan(12)[-1]] * 12)])
    assert measured("repetition", video(moving))["repeated_share"] == 0
    assert measured("repetition", video(half))["repeated_share"] == pytest.approx(12 / 23, abs=0.05)
    assert measured("repetition", video(still()))["repeated_share"] == 1


def test_repetition_tells_a_loop(video: Maker) -> None:
    loop = np.concatenate([pan(12), pan(12)])  # every frame of the second half is one of the first
    assert measured("repetition", video(loop))["loop_share"] == pytest.approx(0.5, abs=0.05)
    assert measured("repetition", video(pan(24)))["loop_share"] == 0
    assert measured("repetition", video(still()))["loop_share"] == 0, "a picture that stands has not returned"


def test_annotators_of_clips_are_measures(video: Maker) -> None:
    assert measured("motion", video(still()))["still_share"] == 1
    soft = cv2.GaussianBlur(scene(1), (0, 0), 6)
    noise = np.random.default_rng(0).uniform(-40, 40, (90, 160, 1))
    sharp = measured("blur", video(np.stack([(soft + noise).clip(0, 255)] * 8)))["blur_score"]
    assert sharp > 5 * measured("blur", video(np.stack([soft] * 8)))["blur_score"]


def test_all_measures_fit_together_and_differ_in_fingerprint() -> None:
    found = load_all({name: {} for name in defaults()})
    assert len({one.fingerprint for one in found}) == len(found)
    with pytest.raises(EvaluationError, match="flickr"):
        load("flickr")
    with pytest.raises(EvaluationError, match="all clips at once"):
        load("clusters")
    with pytest.raises(EvaluationError, match="needs the column"):
        load("caption_embedding")


def test_a_single_frame_has_nothing_to_measure_over_time(video: Maker) -> None:
    for name in ("flicker", "colour_drift", "repetition"):
        ((columns, failures),) = annotate_clips([video(still(1))], [load(name)])
        assert failures[0].unmeasurable
        assert columns[next(iter(load(name).columns))] is None
