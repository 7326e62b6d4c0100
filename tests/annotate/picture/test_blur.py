from itertools import pairwise

import cv2
import numpy as np

from reelwright.annotate import annotate_clip, load
from tests.annotate.synth import encode, moved, texture


def test_the_score_falls_with_every_step_of_blur():
    frames = moved(texture(200, 320), np.arange(12), np.zeros(12), 180, 300)
    series = [frames] + [[cv2.GaussianBlur(f, (0, 0), sigma) for f in frames] for sigma in (0.7, 1, 2, 4, 8)]
    scores = [annotate_clip(encode(s), [load("blur")])[0]["blur_score"] for s in series]
    assert all(a > b for a, b in pairwise(scores)), scores


def test_one_soft_frame_shows_in_the_worst_and_not_in_the_score():
    frames = [texture(360, 640)] * 8
    frames[3] = cv2.GaussianBlur(frames[3], (0, 0), 6)
    columns, _ = annotate_clip(encode(frames, g="1"), [load("blur")])
    assert columns["blur_worst"] < 0.1 * columns["blur_score"]
