"""Frames that a scan kept are cut without decoding again, and give the very same clips."""

from fractions import Fraction
from pathlib import Path

import pytest

from reelwright.curation.borders import BorderConfig
from reelwright.curation.media import kept
from reelwright.curation.media.cut import CutSpec, Cutter
from reelwright.curation.media.decode import Video
from reelwright.curation.media.kept import KeptFrames
from reelwright.curation.scan import Scan, ScanLimits, scan
from reelwright.curation.shots import ShotConfig
from tests.curation.media.test_cut import KINDS, SHARP, SPANS, specs_of
from tests.footage import frames, write

ROOM = 64 << 20


def scanned(path: Path, room: int = ROOM) -> tuple[Scan, KeptFrames]:
    frames = KeptFrames(str(path), room)
    return scan(str(path), ShotConfig(), BorderConfig(), ScanLimits(), frames), frames


def clips(path: Path, rate: Fraction | None, specs: list[CutSpec], kept: KeptFrames | None = None) -> list[bytes]:
    with Cutter(str(path), rate, SHARP, kept) as cutter:
        return [cutter.cut(spec).mp4 for spec in specs]


def no_decoding(self: Video) -> None:
    raise AssertionError("a frame was decoded again")


@pytest.mark.parametrize(
    "kind", ["B pyramid", "23.976 in mkv, ms ticks", "10 bit", "raw h264, no times", "packed B avi"]
)
def test_the_same_clips_without_decoding_again(tmp_path, monkeypatch, kind):
    path = KINDS[kind](tmp_path)
    seen, specs = specs_of(path, SPANS)
    expected = clips(path, seen.rate, specs)
    _, held = scanned(path)
    monkeypatch.setattr(Video, "frames", no_decoding)
    assert clips(path, seen.rate, specs, held) == expected


def test_clips_that_lie_far_apart_are_not_sought(tmp_path, monkeypatch):
    path = write(tmp_path / "slow.mp4", frames(60), fps=1)
    seen, specs = specs_of(path, [(2, 5), (50, 58)])
    expected = clips(path, seen.rate, specs)
    _, held = scanned(path)
    monkeypatch.setattr(Video, "frames", no_decoding)
    assert clips(path, seen.rate, specs, held) == expected


def test_what_was_handed_out_is_decoded_again(tmp_path):
    path = write(tmp_path / "a.mp4", frames(60))
    seen, specs = specs_of(path, SPANS)
    backwards = [specs[2], specs[0], specs[3]]
    _, held = scanned(path)
    assert clips(path, seen.rate, backwards, held) == clips(path, seen.rate, backwards)


def test_what_is_too_large_is_not_kept(tmp_path):
    path = write(tmp_path / "a.mp4", frames(60))
    found, held = scanned(path, room=200_000)
    assert found.timing.num_frames == 60
    kept.keep(held)
    assert kept.take(str(path)) is None


def test_one_source_is_kept_and_taken_once(tmp_path):
    paths = [write(tmp_path / name, frames(10)) for name in ("a.mp4", "b.mp4")]
    for path in paths:
        kept.keep(scanned(path)[1])
    assert kept.take(str(paths[0])) is None  # and with that nothing is kept
    assert kept.take(str(paths[1])) is None
    kept.keep(scanned(paths[1])[1])
    assert kept.take(str(paths[1])) is not None
    kept.keep(scanned(paths[1])[1])
    kept.forget()
    assert kept.take(str(paths[1])) is None
