"""A long film scanned in parts, which several workers decode at once; the result is the single scan's, to the bit.

    split     reads the packets and decodes none: frame times, keyframes, where each part begins
    look_at   decodes a part: what a pass is told of each frame (small picture, flags, profiles for borders)
    join      feeds all looks, in order, to the pass that a single scan feeds

So nothing is decided twice or at a border. What must be shown is that a part decodes as the whole does. Decoding begins
a keyframe earlier than the part, and its last frames before the part are compared with the same frames of the part
before, bit by bit; every packet must give its frame, in order, without an error or a message of libav. Wherever that is
not so, `Unfit` is raised and the film is scanned as one.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from reelwright.curation.borders import BorderConfig, Profile
from reelwright.curation.media.decode import Video
from reelwright.curation.media.ear import Heard
from reelwright.curation.media.pictures import is_still
from reelwright.curation.media.probe import VideoInfo, video_info
from reelwright.curation.media.sandbox_child import report_progress
from reelwright.curation.packed import Packed, Packing
from reelwright.curation.scan import Faults, Scan, clocks_of, scan_of
from reelwright.curation.scan_pass import Clocks, Look, Looker, Pass, add_to_runs, profile_step
from reelwright.curation.shots import ShotConfig
from reelwright.curation.shots.footage import shrink

FORMATS = {"mov", "matroska"}  # containers with an index, so that a seek leads where it should
DETECTORS = {"cascade", "transnetv2"}  # work on the smallest pictures alone
COMPARED = 16  # frames before a part that it and the part before it both hand back digests of
LONGEST_LEAD = 1500  # frames that are decoded before a part at most; else it begins elsewhere

LONGEST = 3.0  # times as long as parts should be; a longer one is none


class Unfit(Exception):
    """The film must be scanned as one, for the reason given."""


@dataclass(frozen=True)
class Part:
    """Frames [first, end) of a film.

    Args:
        key: keyframe that decoding begins at, at or before `first`.
        first: the first frame.
        end: frame after the last.
        compared_before: so many frames before `first` are compared with the part before.
        compared_after: so many of its last frames are compared with the part after.
    """

    key: int
    first: int
    end: int
    compared_before: int = 0
    compared_after: int = 0


@dataclass(frozen=True)
class Split:
    """How a film falls into parts.

    Args:
        parts: in order; together all frames.
        pts: int64 [N], timestamps of all frames.
        clocks: of the file.
        heard: libav's log of the whole, and the file's ends.
    """

    parts: Sequence[Part]
    pts: np.ndarray
    clocks: Clocks
    heard: Heard


@dataclass(frozen=True)
class Seen:
    """What a part showed, beside its pictures.

    Args:
        geometry: size of decoded frames, quarter turns, mirrored: of the first one.
        info: of the file, by the first frame of all; None of later parts.
        odd_tags: colour tags that were read as unspecified.
        interlaced: runs of frames [first, after the last] of the film that are flagged so.
        before: digests of the frames before the part that are compared.
        last: digests of its own last ones.
    """

    geometry: tuple[int, int, int, bool]
    info: VideoInfo | None
    odd_tags: tuple[str, ...]
    interlaced: Sequence[Sequence[int]]
    before: tuple[str, ...]
    last: tuple[str, ...]


@dataclass(frozen=True)
class Pictures:
    """Pictures of a part.

    Args:
        small: of each frame, uint8 RGB [27, 48, 3].
        rows: of the profiles of frames that are multiples of `profile_step`.
        columns: of the same profiles.
    """

    small: Packed
    rows: Packed
    columns: Packed


def split(uri: str, part_s: float, max_frames: int, shots: ShotConfig) -> Split:
    """Find where a film can be split into parts of about `part_s` seconds. Reads it all, and decodes nothing.

    Raises:
        Unfit: it cannot.
        MediaError: it cannot be read.
    """
    if shots.detector not in DETECTORS:
        raise Unfit(f"shots.detector {shots.detector} looks at larger pictures")
    with Video(uri, listens=True) as video:
        if FORMATS.isdisjoint(video.container.format.name.split(",")):
            raise Unfit(f"{video.container.format.name} has no index")
        clocks = clocks_of(video)
        stamps, keys = _stamps(video, max_frames)
        if video.has_alpha or is_still(video.container, len(stamps)):
            raise Unfit("its pictures are no plain footage")
        if video.decode_errors or video.heard.container_said:
            raise Unfit("its packets are damaged")
        pts = np.sort(stamps)
        return Split(_parts(pts, stamps, keys, float(clocks.time_base), part_s), pts, clocks, video.heard)


def _stamps(video: Video, max_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the timestamps of all frames in decoding order, int64 [N], and which are of keyframes, bool [N]."""
    stamps: list[int] = []
    keys: list[bool] = []
    for packet in video.packets():
        if not packet.size or packet.is_discard:
            continue
        if packet.pts is None or packet.is_corrupt or len(stamps) >= max_frames:
            raise Unfit("a packet has no time, or is damaged, or there are too many")
        stamps.append(packet.pts)
        keys.append(packet.is_keyframe)
        if not len(stamps) % 1000:
            report_progress(None)
    found = np.array(stamps, np.int64)
    if len(np.unique(found)) < max(2, len(found)):
        raise Unfit("timestamps repeat")
    return found, np.array(keys, bool)


def _parts(pts: np.ndarray, stamps: np.ndarray, keys: np.ndarray, tick_s: float, part_s: float) -> list[Part]:
    """Choose keyframes to begin parts at.

    Frames before such a one in decoding order are before it in time as well; those after it may lead it, as in an open
    group of pictures, and belong to the part before.
    """
    latest = np.concatenate(([np.iinfo(np.int64).min], np.maximum.accumulate(stamps)[:-1]))
    usable = np.searchsorted(pts, stamps[keys & (stamps > latest)])
    seconds = (pts - pts[0]) * tick_s
    wanted = np.arange(1, max(1, round(float(seconds[-1]) / part_s))) * part_s
    firsts: list[tuple[int, int]] = []  # (where decoding begins, where the part begins)
    for at in np.searchsorted(seconds[usable], wanted).tolist():
        if 0 < at < len(usable) and usable[at] > (firsts[-1][1] if firsts else 0):
            key, first = int(usable[at - 1]), int(usable[at])
            if first - key <= LONGEST_LEAD and key >= (firsts[-1][1] if firsts else 0):
                firsts.append((key, first))
    if not firsts:
        raise Unfit("it has no keyframes where parts could begin")
    firsts = [(0, 0), *firsts, (len(pts), len(pts))]
    longest = max(float(seconds[end - 1] - seconds[first]) for (_, first), (_, end) in pairwise(firsts))
    if longest > LONGEST * part_s:  # its pictures would take the memory of several parts
        raise Unfit(f"it has no keyframe for {longest:.0f} s where a part could begin")
    compared = [0, *(min(COMPARED, first - key) for key, first in firsts[1:-1]), 0]
    return [
        Part(key, first, end, compared[i], compared[i + 1])
        for i, ((key, first), (_, end)) in enumerate(pairwise(firsts))
    ]


def look_at(uri: str, part: Part, pts: Sequence[int], borders: BorderConfig) -> tuple[Seen, Pictures]:
    """Decode a part.

    Args:
        uri: the file.
        part: which frames.
        pts: timestamps of frames [part.key, part.end).
        borders: whether borders are looked for.

    Raises:
        Unfit: it does not decode as the whole would.
        MediaError: it cannot be read.
    """
    import av

    with Video(uri, listens=True) as video:
        sight = _Sight(part, profile_step(clocks_of(video).fps) if borders.enabled else 0)
        info = None
        try:
            for number, frame in enumerate(_frames_of(video, part, pts), part.key):
                if number == 0:
                    info = video_info(video, frame)
                sight.add(number, frame)
        except av.error.FFmpegError as error:
            raise Unfit(f"a frame cannot be read ({error})") from error
        if info is None and part.first == 0:
            raise Unfit("its first frame does not decode")
        return sight.seen(info), sight.pictures()


def _frames_of(video: Video, part: Part, pts: Sequence[int]) -> Iterator[Any]:
    """Yield frames [part.key, part.end), each as its packet announced it.

    What libav says about frames before them, which a seek leaves without those they are made from, says nothing.
    """
    if part.key:
        video.seek(pts[0])
    number = 0
    for frame in video.frames():
        if number == 0 and part.key:
            if frame.pts is None or frame.pts < pts[0]:
                continue
            video.forget_faults()
        if frame.pts != pts[number] or video.is_damaged or video.has_faults:
            raise Unfit(f"frame {part.key + number} does not come as its packet says")
        yield frame
        number += 1
        if number == len(pts):
            break
    if number < len(pts) or video.has_faults:
        raise Unfit(f"frame {part.key + number} does not come")


class _Sight:
    """Gathers what a part shows."""

    def __init__(self, part: Part, step: int) -> None:
        """step: profiles are taken of frames that are multiples of it; 0: of none."""
        self.part, self.step, self.looker = part, step, Looker()
        self.small, self.rows, self.columns = Packing(), Packing(), Packing()
        self.interlaced: list[tuple[int, int]] = []
        self.before: list[str] = []
        self.last: list[str] = []

    def add(self, number: int, frame: Any) -> None:
        part = self.part
        report_progress({"frames": number - part.key + 1})
        if number < part.first:
            if number >= part.first - part.compared_before:
                self.before.append(_digest(frame))
            return
        if number >= part.end - part.compared_after:
            self.last.append(_digest(frame))
        with_profile = bool(self.step) and number % self.step == 0
        look = self.looker.look(frame, is_damaged=False, with_profile=with_profile)
        self.small.add(shrink(look.small[None])[0])
        if look.is_interlaced:
            add_to_runs(self.interlaced, number)
        if look.profile is not None:
            self.rows.add(look.profile.rows)
            self.columns.add(look.profile.columns)

    def seen(self, info: VideoInfo | None) -> Seen:
        looker = self.looker
        assert looker.orientation is not None
        turned = looker.orientation
        return Seen(
            (*looker.full, turned.turns, turned.mirrored), info, tuple(looker.odd_tags), self.interlaced,
            tuple(self.before), tuple(self.last),
        )  # fmt: skip

    def pictures(self) -> Pictures:
        return Pictures(self.small.done(), self.rows.done(), self.columns.done())


def _digest(frame: Any) -> str:
    """Return a digest of all that a decoder tells of a frame's picture."""
    try:
        picture = frame.to_ndarray()
    except ValueError as error:  # a format that PyAV cannot lay out
        raise Unfit(f"pictures of {frame.format.name} cannot be compared") from error
    facts = [frame.pts, frame.format.name, bool(frame.interlaced_frame), int(frame.color_range), picture.shape]
    return hashlib.blake2b(np.ascontiguousarray(picture).tobytes() + repr(facts).encode(), digest_size=16).hexdigest()


def join(
    found: Split, parts: Sequence[tuple[Seen, Pictures]], shots: ShotConfig, borders: BorderConfig, max_frames: int
) -> Scan:
    """Decide shots and borders over the looks of all parts, as a single scan does.

    Raises:
        Unfit: two parts disagree on the frames that both decoded.
    """
    for (seen, _), (after, _) in pairwise(parts):
        if seen.last != after.before or seen.geometry != after.geometry:
            raise Unfit("two parts decode the same frames otherwise")
    pass_ = Pass(found.clocks, shots, borders, max_frames)
    step = profile_step(found.clocks.fps)
    flagged = np.zeros(len(found.pts), bool)
    for begin, end in (run for seen, _ in parts for run in seen.interlaced):
        flagged[begin:end] = True
    for part, (_, pictures) in zip(found.parts, parts, strict=True):
        skipped = math.ceil(part.first / step)  # profiles of the parts before
        for number in range(part.first, part.end):
            of_borders = None
            if pass_.wants_profile():
                at = number // step - skipped
                of_borders = Profile(pictures.rows[at].copy(), pictures.columns[at].copy())  # not a view of 64
            small = pictures.small[number - part.first]
            pass_.add(Look(int(found.pts[number]), None, False, bool(flagged[number]), small, of_borders))
    info = parts[0][0].info
    assert info is not None
    tags = dict.fromkeys(tag for seen, _ in parts for tag in seen.odd_tags)
    done = pass_.finish(info.width, info.height)
    return scan_of(replace(info, is_image=False), done, tuple(tags), Faults(0, True, found.heard))


def split_to_json(found: Split) -> tuple[dict[str, Any], list[bytes]]:
    """Turn a split into JSON and one blob, its timestamps."""
    claims = [None if claim is None else str(claim) for claim in found.clocks.claims]
    value = {"parts": [asdict(part) for part in found.parts], "claims": claims, "heard": asdict(found.heard)}
    return value | {"time_base": str(found.clocks.time_base)}, [found.pts.astype("<i8").tobytes()]


def split_from_json(value: Mapping[str, Any], pts: bytes) -> Split:
    """Invert `split_to_json`."""
    claims = [None if claim is None else Fraction(claim) for claim in value["claims"]]
    parts = [Part(**part) for part in value["parts"]]
    clocks = Clocks(claims, Fraction(value["time_base"]))
    return Split(parts, np.frombuffer(pts, "<i8"), clocks, Heard(**value["heard"]))


def look_to_json(seen: Seen, pictures: Pictures) -> tuple[dict[str, Any], list[bytes | bytearray]]:
    """Turn what a part showed into JSON and three blobs, its pictures."""
    packed = (pictures.small, pictures.rows, pictures.columns)
    blobs = [p.data for p in packed if not isinstance(p.data, Path)]
    return {"seen": asdict(seen), "packed": [p.to_json() for p in packed]}, blobs


def look_from_json(value: Mapping[str, Any], blobs: Sequence[bytes | bytearray | Path]) -> tuple[Seen, Pictures]:
    """Invert `look_to_json`. blobs: or the files that hold them."""
    fields = dict(value["seen"])
    if fields["info"]:
        fields["info"] = VideoInfo(**fields["info"] | {"other_streams": tuple(fields["info"]["other_streams"])})
    for name in ("geometry", "odd_tags", "before", "last"):
        fields[name] = tuple(fields[name])
    packed = [Packed.from_json(p, blob) for p, blob in zip(value["packed"], blobs, strict=True)]
    return Seen(**fields), Pictures(*packed)
