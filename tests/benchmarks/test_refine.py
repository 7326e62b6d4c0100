"""The printed tables of refinement are the published sampler's, and its measures know better from worse."""

import argparse

import numpy as np
import pytest

from benchmarks.refine.measures import BETTER, likeness
from benchmarks.refine.table import print_table


def table(capsys: pytest.CaptureFixture[str], **options: object) -> dict[str, str]:
    defaults = {"frames": 93, "size": "832x480", "condition": 0, "spatial_only": False, "to": "720p", "threshold": 0.5,
                "multiple": 4, "timing": "published"}  # fmt: skip
    print_table(argparse.Namespace(**{**defaults, **options}))
    return dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())


def test_the_table_of_the_published_continuation(capsys):
    found = table(capsys, condition=13)
    assert found["refined"].startswith("186 frames of 1280x704")
    assert found["condition_frames"] == "26"
    assert found["latent_frames"] == "48 = 8 of the condition + 40"
    assert found["cut"] == "[3:189]"
    assert found["timesteps"] == "500 443.02 343.47 207.77 11.87 0"
    assert found["upsampler_lag"].startswith("0.4973 frames")  # 92 - 184 · 92/185
    assert table(capsys, timing="exact")["upsampler_lag"].startswith("0.0000")
    assert table(capsys, spatial_only=True)["upsampler_lag"].startswith("0.0000")


def test_an_impossible_table_is_a_sentence(capsys):
    with pytest.raises(SystemExit, match="at least one frame must be left"):
        table(capsys, condition=93)


def test_measures_are_best_for_the_truth_and_worse_for_a_blur():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 255, (2, 32, 48, 3)).astype(np.uint8)
    soft = truth.copy()
    soft[:, 1:, 1:] = (truth[:, 1:, 1:].astype(int) + truth[:, :-1, :-1]) // 2
    same, worse = likeness(truth, truth), likeness(soft, truth)
    assert same["ssim"] == pytest.approx(1)
    assert same["gmsd"] == same["high"] == 0
    assert all(BETTER[name] * (same[name] - worse[name]) > 0 for name in BETTER)
