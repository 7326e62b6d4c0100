"""What the rows of a source say of how it decoded: in process, from real files."""

import json
import re
from pathlib import Path

import av
import pytest

from reelwright.curation.borders import BorderConfig
from reelwright.curation.clips import ClipConfig, clip_row, plan_clips
from reelwright.curation.ingest.inputs import Input
from reelwright.curation.media.probe import probe
from reelwright.curation.records.rows import source_row
from reelwright.curation.results import Probed
from reelwright.curation.scan import Scan, ScanLimits, scan, scan_from_json, scan_to_json
from reelwright.curation.scan_rows import scan_columns
from reelwright.curation.shots import ShotConfig
from reelwright.pipelines.curate.workers.sandboxed import cut_source
from tests import footage
from tests.footage import clicks, frames, write


def scanned(path: Path) -> Scan:
    return scan(str(path), ShotConfig(detector="pyscenedetect"), BorderConfig(), ScanLimits())


def row_of(path: Path, **more) -> dict:
    probed = Probed("m", path.stat().st_size, 0, probe(str(path)))
    found = scan_columns(scanned(path), probed.num_bytes, probed.info["frames_hint"])
    return source_row(Input(uri=str(path)), probed, found, "ok", None, **more)


def test_a_plain_file_has_no_note(tmp_path):
    row = row_of(write(tmp_path / "a.mp4", frames(60)))
    assert (row["note"], row["corrupt_frames"], row["video_stream"], row["fps"]) == (None, 0, 0, 25)


def test_the_note_names_what_a_reader_should_know(tmp_path):
    whole = write(tmp_path / "a.mp4", frames(120), preset="veryfast", g="20")
    with av.open(str(whole)) as file:
        packet = [p for p in file.demux(video=0) if p.size][30]
    data = bytearray(whole.read_bytes())
    data[packet.pos + packet.size // 2 : packet.pos + packet.size] = bytes(packet.size - packet.size // 2)
    whole.write_bytes(data)
    other, both = write(tmp_path / "b.mp4", frames(120, 96, 64)), tmp_path / "both.mkv"
    marks = ("-bsf:v:0", "noise=drop='between(n,60,99)',h264_metadata=matrix_coefficients=14")
    footage.ffmpeg("-i", str(whole), "-i", str(other), "-map", "0:v", "-map", "1:v", "-c", "copy", *marks, str(both))
    row = row_of(both, clips_with_faulty_sound=2)
    assert row["corrupt_frames"] == 1
    assert row["video_stream"] == 0
    for said in (
        "corrupt frames, whose missing parts the decoder made up: 1",
        "1 hole in its times, up to 1.64 s; no clip goes over one",
        "colour tags read as unspecified: matrix 14",
        "video stream 0 was taken; left: stream 1 (h264 96x64)",
        "sound of 2 clips is damaged or missing",
    ):
        assert said in row["note"]


def test_errors_that_the_decoder_tells_of_and_no_frame_is_marked_with_are_noted(tmp_path):
    for name, codec, more in (("a.mkv", "ffv1", ("-level", "3", "-slicecrc", "1")), ("b.avi", "mjpeg", ("-q:v", "4"))):
        path = tmp_path / name
        source = ("-f", "lavfi", "-i", "testsrc2=s=160x96:r=25", "-frames:v", "30")
        footage.ffmpeg(*source, "-c:v", codec, *more, str(path))
        assert row_of(path)["note"] is None
        with av.open(str(path)) as file:
            hit = [p for p in file.demux(video=0) if p.size][4::10]
        data = bytearray(path.read_bytes())
        for packet in hit:
            middle = packet.pos + packet.size // 2
            data[middle : middle + 40] = b"\x5a" * 40
        path.write_bytes(data)
        row = row_of(path)
        assert row["num_frames"] == 30, "what decoded before decodes"
        count = re.search(r"the decoder reported errors in (\d+) packets?, such as '\w", row["note"])
        assert count
        assert int(count[1]) == len(hit) or codec == "mjpeg", "entropy coding without a checksum may decode anyway"


@pytest.mark.parametrize("suffix", ["mkv", "webm", "flv"])
def test_a_file_that_ends_before_its_header_says_is_noted(tmp_path, suffix):
    codec = ("libvpx", "-cpu-used", "8", "-deadline", "realtime") if suffix == "webm" else ("libx264",)
    sound = "libopus" if suffix == "webm" else "aac"
    path, sources = tmp_path / f"a.{suffix}", ("testsrc2=s=160x96:r=25:d=4", "sine=d=7")
    inputs = [part for source in sources for part in ("-f", "lavfi", "-i", source)]
    footage.ffmpeg(*inputs, "-c:v", *codec, "-c:a", sound, str(path))
    assert row_of(path)["note"] is None, "sound may be longer than the pictures"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    note = row_of(path)["note"]
    assert "the container claims 7" in note
    assert "and ends after " in note
    assert suffix == "flv" or "errors in the container, such as 'File ended prematurely'" in note


def test_a_scan_keeps_what_was_heard_on_its_way_out_of_a_sandbox(tmp_path):
    path = write(tmp_path / "a.mkv", frames(100))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = scanned(path)
    value, blobs = scan_to_json(found)
    assert found.heard.claimed_s == pytest.approx(4, abs=0.05)
    assert scan_from_json(json.loads(json.dumps(value)), blobs[0]).heard == found.heard


def test_false_keyframes_are_noted(tmp_path):
    path = write(tmp_path / "a.mp4", frames(40), codec="mpeg4", qscale="3")
    path.write_bytes(path.read_bytes().replace(b"stss", b"free"))
    assert "frames marked as keyframes are none" in row_of(path)["note"]


def test_a_clip_whose_sound_is_damaged_is_a_row_that_says_so(tmp_path):
    path = write(tmp_path / "a.mp4", frames(60), sound=clicks([0.5], 2.4))
    with av.open(str(path)) as file:
        sounds = [(p.pos, p.size) for p in file.demux(audio=0) if p.size]
    data = bytearray(path.read_bytes())
    for at, size in sounds[20:40]:
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)
    found = scanned(path)
    (planned,) = plan_clips("m", found, ClipConfig())
    spec = planned.spec.__dict__ | {"crop": list(planned.spec.crop), "size": list(planned.spec.size or ())}
    (result,), _ = cut_source(str(path), [spec], str(found.timing.rate), {"audio": "aac", "preset": "ultrafast"}, [])
    row = clip_row(planned, "m", result["encoded"], "f")
    assert row["audio_note"].endswith("damaged packets of sound were left out")
    assert (row["is_still"], row["corrupt_frames"], row["fps"]) == (False, 0, 25)
    assert row["duration_s"] == pytest.approx(2.4)
