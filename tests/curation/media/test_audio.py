"""Sound stays with its picture, to within a blink, or is dropped."""

import io
from fractions import Fraction
from pathlib import Path

import av
import pytest

from reelwright.curation.media.encode import EncodeConfig
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


def spoiled(path: Path, packets: range) -> Path:
    """The payload of these packets of sound is noise."""
    with av.open(str(path)) as file:
        places = [(p.pos, p.size) for p in file.demux(audio=0) if p.size]
    data = bytearray(path.read_bytes())
    for number in packets:
        at, size = places[number]
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def test_damaged_packets_of_sound_cost_themselves_alone(tmp_path):
    """Packets 70 to 90 of 48 kHz AAC: from 1.5 to 1.9 s."""
    path = spoiled(voiced(tmp_path / "a.mp4"), range(70, 90))
    early, both = cut(path, [(0, 30), (0, 100)], SOUND)
    assert early.audio_note is None
    assert both.audio_note is not None
    assert "damaged packets of sound" in both.audio_note
    assert click_times(both.mp4) == pytest.approx(CLICKS, abs=IN_SYNC_S)
    assert len(times_of(both.mp4)) == 100


def test_where_no_sound_decodes_the_picture_goes_without_and_says_so(tmp_path):
    path = voiced(tmp_path / "a.mp4")
    with av.open(str(path)) as file:
        packets = sum(1 for p in file.demux(audio=0) if p.size)
    spoiled(path, range(packets))
    (clip,) = cut(path, [(0, 100)], SOUND)
    assert clip.audio_note is not None
    assert clip.audio_note.startswith("without sound")
    with av.open(io.BytesIO(clip.mp4)) as file:
        assert not file.streams.audio
    assert len(times_of(clip.mp4)) == 100


@pytest.mark.parametrize("changes", [("-ac", "6"), ("-ar", "22050"), ("-ac", "6", "-ar", "44100")])
def test_sound_that_changes_its_layout_or_rate_half_way_is_carried_whole(tmp_path, changes):
    """As broadcasts do at an advertisement; one clock goes through both halves."""
    path, other = voiced(tmp_path / "a.mp4"), tmp_path / "b.ts"
    first, both = tmp_path / "a.ts", tmp_path / "both.ts"
    coded = ("-c:v", "copy", "-c:a", "aac", "-b:a", "128k")
    footage.ffmpeg("-i", str(path), *coded, "-ac", "2", str(first))
    footage.ffmpeg("-i", str(path), *coded, *changes, "-output_ts_offset", "4", str(other))
    both.write_bytes(first.read_bytes() + other.read_bytes())
    (clip,) = cut(both, [(50, 150)], SOUND)
    assert clip.audio_note is None
    heard = [c - 2 for c in CLICKS if c >= 2] + [c + 2 for c in CLICKS if c < 2]
    assert click_times(clip.mp4) == pytest.approx(heard, abs=0.06)  # each half's encoder delays its sound a little
    assert len(times_of(clip.mp4)) == 100


def test_sound_that_begins_after_the_clip_leaves_a_clip_without(tmp_path):
    path, late = voiced(tmp_path / "a.mp4"), tmp_path / "late.mkv"
    footage.ffmpeg("-i", str(path), "-itsoffset", "3", "-i", str(path), "-map", "0:v", "-map", "1:a", "-c", "copy",
                   str(late))  # fmt: skip
    before, after = cut(late, [(0, 50), (50, 100)], SOUND)
    with av.open(io.BytesIO(before.mp4)) as file:
        assert not file.streams.audio
    assert click_times(after.mp4) == pytest.approx([3.4 - 2], abs=IN_SYNC_S)


def test_sound_beside_a_picture_whose_times_cannot_be_trusted_never_costs_it(tmp_path):
    """H.264 with B frames in AVI, and a stream whose clock starts over."""
    path = voiced(tmp_path / "a.mp4", preset="veryfast")
    copied, first, twice = tmp_path / "a.avi", tmp_path / "a.ts", tmp_path / "twice.ts"
    footage.ffmpeg("-i", str(path), "-c:v", "copy", "-c:a", "pcm_s16le", str(copied))
    footage.ffmpeg("-i", str(path), "-c", "copy", str(first))
    twice.write_bytes(first.read_bytes() * 2)
    for made, count in ((copied, 100), (twice, 200)):
        (clip,) = cut(made, [(count - 60, count)], SOUND)
        assert len(times_of(clip.mp4)) == 60


def test_the_sound_with_the_default_flag_is_taken(tmp_path):
    path, other = voiced(tmp_path / "a.mp4"), write(tmp_path / "b.mp4", frames(100), sound=clicks([1.0], 4.0))
    both = tmp_path / "both.mkv"
    footage.ffmpeg("-i", str(other), "-i", str(path), "-map", "0:v", "-map", "0:a", "-map", "1:a", "-c", "copy",
                   "-disposition:a:0", "0", "-disposition:a:1", "default", str(both))  # fmt: skip
    (clip,) = cut(both, [(0, 100)], SOUND)
    assert click_times(clip.mp4) == pytest.approx(CLICKS, abs=IN_SYNC_S)
