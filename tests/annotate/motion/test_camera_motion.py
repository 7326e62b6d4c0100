import json

import cv2
import numpy as np
import pytest

from reelwright.annotate import annotate_clip, load
from reelwright.annotate.motion.camera.classifier import LABELS, WEIGHTS, load_classifier, weights_hash
from reelwright.annotate.motion.camera.features import FEATURES
from reelwright.annotate.motion.camera_motion import CameraMotion
from reelwright.curation.media.frames import ClipFacts
from tests.annotate.synth import encode, texture

SCENE = cv2.cvtColor(cv2.GaussianBlur(texture(600, 900, seed=3), (0, 0), 1.5), cv2.COLOR_RGB2GRAY)


def shot(path, size=(256, 144), subject=None):
    """Frames of SCENE along a path of (right, down) shorter sides, log of the scale, radians clockwise; with a subject
    of 30 % of the frame whose place (x, y) in frame sizes a function of the frame's number gives."""
    frames = []
    for k, (right, down, scale, angle) in enumerate(path):
        c, s = np.exp(scale) * np.cos(angle), np.exp(scale) * np.sin(angle)
        fit = min(size) / 144
        x, y = size[0] / 2 + right * min(size), size[1] / 2 + down * min(size)
        centre = (SCENE.shape[1] / 2, SCENE.shape[0] / 2)
        linear = fit * np.array([[c, -s], [s, c]])
        frame = cv2.warpAffine(SCENE, np.column_stack([linear, (x, y) - linear @ centre]), size)
        if subject:
            w, h = int(size[0] * 0.5), int(size[1] * 0.6)
            at = (np.array(subject(k)) * size).astype(int)
            patch = 255 - cv2.resize(SCENE[100:350, 500:800], (w, h))
            view = frame[max(0, at[1]) : at[1] + h, max(0, at[0]) : at[0] + w]
            view[:] = patch[: view.shape[0], : view.shape[1]]
        frames.append(frame)
    return np.stack(frames)


def straight(frames=25, **net):
    """A steady path: net right, down, zoom, roll."""
    x = np.linspace(-0.5, 0.5, frames)[:, None]
    return x * [net.get(axis, 0) for axis in ("right", "down", "zoom", "roll")]


def shaken(frames=25, rms=0.02, seed=0):
    rng = np.random.default_rng(seed)
    path = np.zeros((frames, 4))
    path[:, :2] = rms * rng.normal(0, 1, (frames, 2))
    return path


def annotated(frames, fps=10):
    """As the annotator is called on a clip whose every frame is sampled."""
    clip = ClipFacts("h264", 256, 144, fps, len(frames), len(frames) / fps, 1, 1, 1, False)
    return CameraMotion()(frames, clip)


@pytest.mark.parametrize(
    ("label", "path"),
    [
        ("static", straight()), ("pan_left", straight(right=0.8)), ("pan_right", straight(right=-0.8)),
        ("tilt_up", straight(down=0.6)), ("tilt_down", straight(down=-0.6)), ("zoom_in", straight(zoom=0.4)),
        ("zoom_out", straight(zoom=-0.4)), ("roll", straight(roll=0.4)), ("shake", shaken()),
        ("other", straight(right=0.6, zoom=0.8)),
    ],
)  # fmt: skip
def test_each_class_is_named(label, path):
    found = annotated(shot(path))
    assert found["camera_motion"] == label
    assert found["camera_motion_confidence"] > 0.5


def test_rates_are_the_cameras():
    found = annotated(shot(straight(31, right=-0.9, down=0.3, zoom=0.3, roll=-0.3)))  # 3 s between the middle frames
    assert found["camera_pan"] == pytest.approx(0.9 * 144 / 256 / 3, rel=0.05)
    assert found["camera_tilt"] == pytest.approx(0.1, rel=0.05)
    assert found["camera_zoom"] == pytest.approx(0.1, rel=0.05)
    assert found["camera_roll"] == pytest.approx(np.degrees(0.1), rel=0.05)
    assert found["camera_shake"] < 0.005


def test_shake_is_measured():
    assert annotated(shot(shaken(41, rms=0.02)))["camera_shake"] == pytest.approx(0.02 * 2**0.5, rel=0.3)


@pytest.mark.parametrize(
    ("net", "before", "after"),
    [
        ({"right": 0.5}, "pan_left", "pan_right"),
        ({"zoom": 0.3}, "zoom_in", "zoom_in"),
        ({"down": 0.5}, "tilt_up", "tilt_up"),
    ],
)
def test_a_mirrored_clip_swaps_left_and_right(net, before, after):
    frames = shot(straight(**net))
    mirrored = np.ascontiguousarray(frames[:, :, ::-1])
    assert (annotated(frames)["camera_motion"], annotated(mirrored)["camera_motion"]) == (before, after)


@pytest.mark.parametrize(
    ("net", "there", "back"),
    [
        ({"zoom": 0.3}, "zoom_in", "zoom_out"),
        ({"right": 0.5}, "pan_left", "pan_right"),
        ({"down": 0.5}, "tilt_up", "tilt_down"),
    ],
)
def test_a_reversed_clip_swaps_the_direction(net, there, back):
    frames = shot(straight(**net))
    assert (annotated(frames)["camera_motion"], annotated(frames[::-1])["camera_motion"]) == (there, back)


@pytest.mark.parametrize(
    "subject",
    [
        lambda k: (-0.3 + 0.05 * k, 0.2),  # crosses
        lambda k: (0.25, -0.5 + 0.05 * k),  # comes down, as a press does
        lambda k: (0.25 + 0.05 * np.sin(k), 0.3 + 0.05 * np.cos(k)),  # gesticulates
    ],
)
def test_a_moving_subject_does_not_move_the_camera(subject):
    found = annotated(shot(straight(), subject=subject))
    assert found["camera_motion"] == "static"
    assert abs(found["camera_pan"]) + abs(found["camera_tilt"]) + abs(found["camera_zoom"]) < 0.01


def test_a_followed_subject_does_not_stop_the_pan():
    found = annotated(shot(straight(right=1.0), subject=lambda k: (0.25, 0.2)))
    assert found["camera_motion"] == "pan_left"


def test_size_and_frame_rate_do_not_matter():
    """Through encoding and the pipeline's own sampling."""
    small = shot(straight(20, right=0.6), (256, 144))
    large = shot(straight(50, right=0.6), (512, 288))
    rows = []
    for frames, fps in ((small, 10), (large, 25)):
        columns, failures = annotate_clip(encode(frames, fps=fps), [load("camera_motion")])
        assert not failures
        rows.append(columns)
    assert rows[0]["camera_motion"] == rows[1]["camera_motion"] == "pan_left"
    assert rows[0]["camera_pan"] == pytest.approx(rows[1]["camera_pan"], rel=0.06)


def test_a_flash_and_a_change_of_exposure_are_no_motion():
    gain = np.linspace(0.6, 1.3, 25)
    gain[12] = 2
    frames = np.clip(shot(straight()) * gain[:, None, None], 0, 255).astype(np.uint8)
    assert annotated(frames)["camera_motion"] == "static"


@pytest.mark.parametrize("frames", [np.full((12, 144, 256), 17, np.uint8), shot(straight(1))])
def test_what_cannot_be_measured_is_null(frames):
    assert set(annotated(frames).values()) == {None}


def test_eight_frames_are_enough():
    assert annotated(shot(straight(8, right=0.3)), fps=24)["camera_motion"] == "pan_left"


def test_weights_are_plain_json_and_the_metrics_are_theirs():
    content = json.loads(WEIGHTS.read_text())
    assert content["features"] == list(FEATURES)
    metrics = json.loads(WEIGHTS.with_name("metrics.json").read_text())
    assert metrics["weights"] == weights_hash()
    assert metrics["held_out"]["accuracy"] >= metrics["held_out"]["accuracy_of_all"] >= 0.95
    assert set(metrics["held_out"]["confusion"]) <= set(LABELS)
    assert weights_hash() in CameraMotion().models[0]


def test_probabilities_are_some():
    chances = load_classifier().probabilities(np.random.default_rng(0).normal(0, 50, (9, len(FEATURES))))
    np.testing.assert_allclose(chances.sum(axis=1), 1)
