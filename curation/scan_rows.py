"""What a scan says of a source and its shots, as columns of `sources` and rows of `shots`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np

from reelwright.curation.scan import Scan

PROBED = ("container", "codec", "pix_fmt", "width", "height", "display_width", "display_height", "rotation",
          "has_audio", "audio_codec", "bitrate_bps", "fps", "duration_s", "video_stream",
          "color_matrix", "color_primaries", "color_transfer", "color_range", "bit_depth", "hdr",
          "has_alpha", "is_image")  # fmt: skip

LEAST_MISSING_S = 0.5  # thresholds to report that a file ends before its header says:
MISSING_SHARE = 0.02  # and so much of it; headers are rounded, and count what is neither picture nor sound
MAX_LISTED = 8  # streams or tags that a note names


def info_columns(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of `sources` that a container claims. info: fields of `VideoInfo`."""
    return {name: info[name] for name in PROBED} | {
        "sar": float(Fraction(*map(int, info["sar"].split(":")))),
        "num_frames": info["frames_hint"] or None,
    }


def scan_columns(scan: Scan, num_bytes: int | None, claimed_frames: int) -> dict[str, Any]:
    """Return the columns of `sources` that decoding showed, over what the container claims.

    Args:
        scan: of the source.
        num_bytes: size of its file.
        claimed_frames: by the container when it was probed; 0: it does not say.
    """
    times = scan.timing.times_s()
    row = info_columns(asdict(scan.info)) | {
        "fps": scan.timing.fps,
        "is_vfr": scan.timing.is_vfr,
        "true_fps": scan.true_fps(times, 0, scan.timing.num_frames) or scan.timing.fps,
        "num_frames": scan.timing.num_frames,
        "frames_in_shots": scan.frames_in_shots,
        "frames_in_transitions": scan.frames_in_transitions,
        "frames_dropped": scan.frames_dropped,
        "duration_s": float(times[-1]),
        "corrupt_frames": scan.corrupt_frames,
        "interlaced_frames": scan.interlaced_in(0, scan.timing.num_frames),
        "note": _note(scan, claimed_frames),
    }
    if not row["bitrate_bps"] and num_bytes:
        row["bitrate_bps"] = round(8 * num_bytes / max(float(times[-1]), 1e-9))
    return row


def shot_rows(source_md5: str, scan: Scan, detector: str) -> list[dict[str, Any]]:
    """Rows of `shots` of one source."""
    times = scan.timing.times_s()
    return [
        {
            "source_md5": source_md5,
            "shot_index": i,
            "start_frame": s.shot.start,
            "end_frame": s.shot.end,
            "start_s": float(times[s.shot.start]),
            "end_s": float(times[s.shot.end]),
            "transition": s.shot.begins_with,
            "transition_first_frame": s.shot.transition_first,
            "transition_last_frame": s.shot.transition_last,
            "detector": detector,
            "confidence": s.shot.confidence,
            "crop_x": s.crop.x,
            "crop_y": s.crop.y,
            "crop_w": s.crop.w,
            "crop_h": s.crop.h,
            "fingerprint": scan.detector_fingerprint,
        }
        for i, s in enumerate(scan.shots)
    ]


def count_in_words(number: int, thing: str) -> str:
    """Return "1 hole", "2 holes"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _note(scan: Scan, claimed: int) -> str | None:
    """Return a note on how the file decoded. claimed: frames, by the container."""
    timing = scan.timing
    notes = []
    if scan.decode_errors:
        notes.append(f"damaged packets skipped: {scan.decode_errors}")
    if scan.corrupt_frames:
        notes.append(f"corrupt frames, whose missing parts the decoder made up: {scan.corrupt_frames}")
    if scan.heard.decoder_errors > scan.corrupt_frames:
        packets, said = count_in_words(scan.heard.decoder_errors, "packet"), scan.heard.decoder_said
        notes.append(f"the decoder reported errors in {packets}, such as '{said}'")
    if scan.heard.container_said:
        notes.append(f"errors in the container, such as '{scan.heard.container_said}'")
    if timing.pts is None and timing.num_frames > 1:
        notes.append("timestamps cannot be trusted; frames were counted")
    if timing.holes:
        longest_s = float(np.diff(timing.times_s())[np.asarray(timing.holes) - 1].max())
        length = f", up to {longest_s:.3g} s" if timing.pts is not None else ""
        notes.append(f"{count_in_words(len(timing.holes), 'hole')} in its times{length}; no clip goes over one")
    if not scan.can_seek and timing.pts is not None:
        notes.append("frames marked as keyframes are none; clips were decoded from the start")
    if claimed and claimed != timing.num_frames:
        notes.append(f"the container claims {claimed} frames")
    elif not claimed and (ends_s := _ends_early(scan)):
        notes.append(f"the container claims {scan.heard.claimed_s:.6g} s and ends after {ends_s:.6g} s")
    if scan.odd_tags:
        notes.append(f"colour tags read as unspecified: {', '.join(scan.odd_tags[:MAX_LISTED])}")
    if scan.info.other_streams:
        others = scan.info.other_streams
        more = f" and {len(others) - MAX_LISTED} more" if len(others) > MAX_LISTED else ""
        notes.append(f"video stream {scan.info.video_stream} was taken; left: {', '.join(others[:MAX_LISTED])}{more}")
    return "; ".join(notes) or None


def _ends_early(scan: Scan) -> float:
    """When the last picture or sound ends, in seconds, if that is well before what the container claims; else 0."""
    times = scan.timing.times_s()
    ends_s, claimed_s = max(scan.heard.ends_s, float(times[-1])), scan.heard.claimed_s
    slack_s = max(LEAST_MISSING_S, MISSING_SHARE * claimed_s, float(np.diff(times).max()))
    return ends_s if claimed_s - ends_s > slack_s else 0.0
