"""HDR to SDR by the standards' formulas, and as a clip."""

import tempfile
from fractions import Fraction

import numpy as np
import pytest

from reelwright.curation.media.cut import CutSpec, Cutter
from reelwright.curation.media.encode import EncodeConfig
from reelwright.curation.media.tonemap import compress, hlg_to_nits, nits_to_pq, peak_of, pq_to_nits, to_sdr
from tests.curation.media.colours import decoded, frame_of, patches, rgb_of, worst_patch, write_frames

PQ, HLG = 16, 18


@pytest.mark.parametrize(("nits", "signal"), [(0, 0.0), (100, 0.5081), (203, 0.5807), (1000, 0.7518), (10_000, 1.0)])
def test_pq_is_st_2084(nits, signal):
    assert nits_to_pq(np.array(nits)) == pytest.approx(signal, abs=2e-4)
    assert pq_to_nits(np.array(signal)) == pytest.approx(nits, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize(("signal", "nits"), [(0.0, 0), (0.75, 203), (1.0, 1000)])
def test_hlg_is_bt_2100(signal, nits):
    assert hlg_to_nits(np.full(3, signal)) == pytest.approx(nits, rel=2e-2)


def test_dark_light_stays_and_bright_light_is_pressed_below_white():
    dark, bright = np.array([0.1, 10, 60]), np.array([150, 203, 400, 1000])
    assert compress(dark, 1000) == pytest.approx(dark, rel=1e-6)
    pressed = compress(bright, 1000)
    assert (np.diff(pressed) > 0).all()
    assert pressed[-1] == pytest.approx(203, rel=1e-3)


def test_greys_stay_grey_and_hues_keep_their_order():
    grey = to_sdr(nits_to_pq(np.array([[50.0] * 3, [500.0] * 3])), PQ)
    assert np.ptp(grey, axis=1).max() < 1e-3
    red = to_sdr(nits_to_pq(np.array([400.0, 20.0, 20.0])), PQ)
    assert red[0] > red[2] >= red[1]


def test_the_brightest_light_is_what_metadata_says():
    level = (700).to_bytes(4, "little") + bytes(4)
    assert peak_of({"CONTENT_LIGHT_LEVEL": level}) == 700
    assert peak_of({}) == 1000


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_tone_mapped_clip_is_bt709_in_eight_bits(tmp_path, transfer):
    coded = patches() * 0.6
    path = write_frames(tmp_path / "a.mkv", [frame_of(coded, "yuv420p10le", 9, 1, transfer, 9) for _ in range(3)])
    with Cutter(str(path), Fraction(25), EncodeConfig(crf=4, preset="ultrafast", hdr="tonemap")) as cutter:
        clip = cutter.cut(CutSpec(0, 3, (0, 0, coded.shape[1], coded.shape[0])))
    frame = decoded(clip.mp4)[1]
    assert (frame.format.name, frame.colorspace, frame.color_trc, frame.color_primaries) == ("yuv420p", 1, 1, 1)
    assert worst_patch(rgb_of(frame), to_sdr(coded / 255, transfer) * 255) <= 8  # it bends at the gamut's edges
    assert clip.colour.hdr == "sdr"


@pytest.mark.parametrize("matrix", [9, 2], ids=["tagged BT.2020", "matrix not told"])
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_colours_that_bt709_can_show_are_mapped_as_the_formula_says(tmp_path, monkeypatch, transfer, matrix):
    odd = tmp_path / "it's: a, [folder]"  # each of these means something in a filter's arguments
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    coded = np.rint(40 + 0.12 * patches() + 0.4 * patches().mean(-1, keepdims=True)).astype(np.uint8)
    frames = [frame_of(coded, "yuv420p10le", 9, 1, transfer, 9) for _ in range(3)]
    for frame in frames:
        frame.colorspace = matrix
    path = write_frames(tmp_path / "a.mkv", frames)
    with Cutter(str(path), Fraction(25), EncodeConfig(crf=4, preset="ultrafast", hdr="tonemap")) as cutter:
        clip = cutter.cut(CutSpec(0, 3, (0, 0, coded.shape[1], coded.shape[0])))
    shown = rgb_of(frame_of(coded, "yuv420p10le", 9, 1)) / 255
    assert worst_patch(rgb_of(decoded(clip.mp4)[1]), to_sdr(shown, transfer) * 255) <= 3
