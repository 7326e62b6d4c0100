"""One decode finds times, shots and borders, and gets out of the sandbox whole."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from reelwright.curation.borders import BorderConfig
from reelwright.curation.media.errors import MediaError
from reelwright.curation.scan import Scan, ScanLimits, scan, scan_from_json, scan_to_json
from reelwright.curation.shots import ShotConfig
from tests import footage
from tests.footage import QUARTER_TURNS, frames, shots, write

PLAIN = ShotConfig(detector="pyscenedetect")


def run(path: Path, config: ShotConfig = PLAIN, limits: ScanLimits = ScanLimits()) -> Scan:
    return scan(str(path), config, BorderConfig(), limits)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("scan") / "a.mp4", shots((50, 70, 40)))


def spans(found: Scan) -> list[tuple[int, int]]:
    return [(s.shot.start, s.shot.end) for s in found.shots]


def test_shots_times_and_facts(film):
    found = run(film)
    assert spans(found) == [(0, 50), (50, 120), (120, 160)]
    assert (found.timing.rate, found.timing.num_frames) == (25, 160)
    assert (found.info.width, found.info.height, found.info.codec) == (160, 96, "h264")
    assert found.decode_errors == 0


def test_a_scan_survives_its_way_out_of_the_sandbox(film, tmp_path):
    pts = [3000 * i + 700 * (i % 3) for i in range(160)]
    for path in (film, write(tmp_path / "vfr.mp4", shots((50, 70, 40)), pts=pts)):
        found = run(path)
        value, (blob,) = scan_to_json(found)
        back = scan_from_json(json.loads(json.dumps(value)), blob)
        np.testing.assert_array_equal(back.timing.pts, found.timing.pts)
        assert (back.shots, back.info) == (found.shots, found.info)
        assert back.timing.times_s().tolist() == found.timing.times_s().tolist()
        assert back.timing.time_base == found.timing.time_base


def test_the_whole_file_is_one_shot_where_nothing_cuts(tmp_path):
    assert spans(run(write(tmp_path / "a.mp4", shots((40,))))) == [(0, 40)]
    assert spans(run(write(tmp_path / "b.mp4", shots((1,))))) == [(0, 1)]


def test_shots_do_not_depend_on_container_codec_or_orientation(film, tmp_path):
    turned = write(tmp_path / "b.mp4", [np.ascontiguousarray(np.rot90(f)) for f in shots((50, 70, 40))])
    footage.set_display_matrix(turned, QUARTER_TURNS[90])
    raw = write(tmp_path / "a.h264", shots((50, 70, 40)), format="h264", preset="veryfast")
    for path in (turned, raw, footage.write_packed_avi(tmp_path / "a.avi", shots((50, 70, 40)))):
        assert spans(run(path)) == spans(run(film)), path


def test_borders_are_found_upright_and_for_each_shot(tmp_path):
    pictures = shots((50, 50), 160, 120)
    for picture in pictures[:50]:
        picture[:16] = picture[-16:] = 16
    found = run(write(tmp_path / "a.mp4", pictures, crf="4"))
    first, second = (s.crop for s in found.shots)
    assert (first.x, first.w) == (0, 160)
    assert abs(first.y - 16) <= 2
    assert abs(first.h - 88) <= 4
    assert (second.x, second.y, second.w, second.h) == (0, 0, 160, 120)


@pytest.mark.parametrize("larger_first", [False, True])
def test_a_stream_that_changes_its_size_half_way_is_scanned_in_the_first_size(tmp_path, larger_first):
    first, second = ((320, 192), (160, 96))[:: 1 if larger_first else -1]
    parts = write(tmp_path / "a.ts", frames(30, *first)), write(tmp_path / "b.ts", frames(30, *second, first=30))
    (tmp_path / "both.ts").write_bytes(b"".join(p.read_bytes() for p in parts))
    found = run(tmp_path / "both.ts")
    assert found.timing.num_frames == 60
    assert (found.info.width, found.info.height) == first
    assert {(s.crop.w, s.crop.h) for s in found.shots} == {first}


def test_an_endless_file_is_refused(film):
    with pytest.raises(MediaError, match="limit: over 100 frames"):
        run(film, limits=ScanLimits(max_frames=100))


def test_a_claim_of_the_container_is_not_believed(tmp_path):
    """A header that says 1000 frames a second over timestamps that say 25."""
    path = write(tmp_path / "a.mkv", shots((60,)))
    assert run(path).timing.rate == 25


def test_the_default_detector_finds_the_same_hard_cuts(film):
    assert spans(run(film, ShotConfig())) == [(0, 50), (50, 120), (120, 160)]


def test_rates_are_fractions(tmp_path):
    path = write(tmp_path / "a.mp4", shots((60,)), fps=Fraction(30000, 1001))
    assert run(path).timing.rate == Fraction(30000, 1001)


def test_every_frame_is_in_a_shot_or_in_a_transition(tmp_path):
    pictures = shots((60, 60))
    black = [np.zeros_like(pictures[0])] * 20
    found = run(write(tmp_path / "a.mp4", [*pictures[:60], *black, *pictures[60:], *black]), ShotConfig())
    assert spans(found)[0] == (0, 60)
    assert (found.frames_in_shots, found.frames_in_transitions, found.frames_dropped) == (120 + 20, 20, 0)
    assert found.frames_lost == 0
    assert replace(found, frames_in_transitions=0).frames_lost == 20


def test_repeated_frames_come_out_of_the_sandbox_with_the_true_rate(tmp_path):
    path = write(tmp_path / "a.mp4", [f for f in frames(60, seed=4) for _ in range(3)], fps=30)
    found = run(path)
    value, (blob,) = scan_to_json(found)
    for one in (found, scan_from_json(json.loads(json.dumps(value)), blob)):
        assert one.distinct.tolist() == list(range(0, 180, 3))
        assert one.true_fps(one.timing.times_s(), 0, 180) == pytest.approx(10)
        assert one.true_fps(one.timing.times_s(), 30, 90) == pytest.approx(10)
        assert one.frames_lost == 0
    plain = run(write(tmp_path / "b.mp4", frames(60, seed=4), fps=30))
    assert plain.distinct is None
    assert plain.true_fps(plain.timing.times_s(), 0, 60) is None
