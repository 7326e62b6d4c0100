"""Sound stays with its picture, to within a blink, or is dropped."""

import io
from fractions import Fraction
from pathlib import Path

import av
import pytest

from curation.media.encode import EncodeConfig
from tests import footage
from tests.curation.media.test_cut import cut
from tests.footage import click_times, clicks, frames, times_of, write

SOUND = EncodeConfig(crf=20, preset="ultrafast", audio="aac")
CLICKS = [0.4, 1.2, 2.6, 3.4]
IN_SYNC_S = 0.03


def voiced(path: Path, **options) -> Path:
    return write(path, frames(100), sound=clicks(CLICKS, 4.0), **options)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov"])
def test_a_click_lands_where_it_was(tmp_path, name):
    path = voiced(tmp_path / name)
    spans = [(0, 50), (50, 100), (25, 40), (60, 70)]
    for (start, end), clip in zip(spans, cut(path, spans, SOUND), strict=True):
        expect = [c - start / 25 for c in CLICKS if start / 25 <= c < end / 25 - 0.02]
        assert click_times(clip.mp4) == pytest.approx(expect, abs=IN_SYNC_S)


def test_a_far_clip_and_a_resampled_one_are_in_sync(tmp_path):
    late = [5.0, 31.0]
    path = write(tmp_path / "a.mp4", frames(330, 64, 48), fps=10, sound=clicks(late, 33))
    (clip,) = cut(path, [(300, 330)], SOUND)
    assert click_times(clip.mp4) == pytest.approx([1.0], abs=IN_SYNC_S)
    (clip,) = cut(path, [(300, 330)], EncodeConfig(preset="ultrafast", audio="aac", fps=25))
    assert click_times(clip.mp4) == pytest.approx([1.0], abs=IN_SYNC_S)


def test_sound_that_begins_late_or_early_stays_in_place(tmp_path):
    """The picture starts 1.5 s into the file: its time 0 is not the sound's."""
    path, late = voiced(tmp_path / "a.mp4"), tmp_path / "late.mp4"
    footage.ffmpeg("-i", str(path), "-itsoffset", "1.5", "-i", str(path), "-map", "0:a", "-map", "1:v", "-c", "copy",
                   str(late))  # fmt: skip
    (clip,) = cut(late, [(0, 50)], SOUND)
    expect = [c - 1.5 for c in CLICKS if 1.5 <= c < 3.5]
    assert click_times(clip.mp4) == pytest.approx(expect, abs=IN_SYNC_S)


def test_a_variable_rate_is_in_sync(tmp_path):
    pts = [3600 * i + 1500 * (i % 2) for i in range(100)]
    path = write(tmp_path / "a.mp4", frames(100), pts=pts, sound=clicks(CLICKS, 4.0))
    (clip,) = cut(path, [(20, 100)], SOUND)
    assert click_times(clip.mp4) == pytest.approx([c - 0.8 for c in CLICKS if c > 0.8], abs=IN_SYNC_S)


def test_sound_ends_with_the_picture(tmp_path):
    path = voiced(tmp_path / "a.mp4")
    (clip,) = cut(path, [(10, 60)], SOUND)
    with av.open(io.BytesIO(clip.mp4)) as file:
        samples = sum(f.samples for f in file.decode(audio=0))
        assert file.streams.audio[0].codec_context.name == "aac"
    assert samples / 48_000 == pytest.approx(2.0, abs=0.05)
    assert len(times_of(clip.mp4)) == 50


def test_drop_drops_and_silent_footage_stays_silent(tmp_path):
    spoken, mute = voiced(tmp_path / "a.mp4"), write(tmp_path / "b.mp4", frames(30))
    for path, config in ((spoken, EncodeConfig(preset="ultrafast")), (mute, SOUND)):
        (clip,) = cut(path, [(0, 20)], config)
        with av.open(io.BytesIO(clip.mp4)) as file:
            assert not file.streams.audio
            assert len(file.streams.video) == 1


def test_sound_shorter_than_the_picture(tmp_path):
    path = write(tmp_path / "a.mp4", frames(100), sound=clicks([0.4], 1.0))
    early, late = cut(path, [(0, 50), (60, 100)], SOUND)
    assert click_times(early.mp4) == pytest.approx([0.4], abs=IN_SYNC_S)
    assert len(times_of(late.mp4)) == 40


def test_other_rates_and_layouts(tmp_path):
    path, surround = voiced(tmp_path / "a.mp4"), tmp_path / "surround.mkv"
    footage.ffmpeg("-i", str(path), "-c:v", "copy", "-ac", "6", "-ar", "44100", "-c:a", "ac3", str(surround))
    (clip,) = cut(surround, [(25, 75)], SOUND)
    assert click_times(clip.mp4) == pytest.approx([0.2, 1.6], abs=IN_SYNC_S)


def test_frame_rate_of_a_clip_with_sound_is_the_picture_s(tmp_path):
    (clip,) = cut(voiced(tmp_path / "a.mp4", fps=Fraction(25)), [(0, 50)], SOUND)
    assert clip.fps == pytest.approx(25)
