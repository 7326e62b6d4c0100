"""A film scanned in parts is the film scanned whole, to the bit; where it cannot be, nothing is handed back."""

import functools
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.borders import BorderConfig
from reelwright.curation.media.errors import MediaError
from reelwright.curation.packed import Packed, Packing
from reelwright.curation.scan import Scan, ScanLimits, scan, scan_to_json
from reelwright.curation.scan_parts import (
    Split,
    Unfit,
    join,
    look_at,
    look_from_json,
    look_to_json,
    split,
    split_from_json,
    split_to_json,
)
from reelwright.curation.shots import ShotConfig
from reelwright.curation.shots.footage import shrink
from tests import footage
from tests.footage import frames, shots, write

MANY = ScanLimits().max_frames
CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus"


def split_of(path: Path, part_s: float, config: ShotConfig = ShotConfig()) -> Split:
    value, (pts,) = split_to_json(split(str(path), part_s, MANY, config))
    return split_from_json(json.loads(json.dumps(value)), pts)


def in_parts(path: Path, part_s: float, config: ShotConfig = ShotConfig()) -> Scan:
    """As workers do it: everything goes from one to the other as JSON and bytes."""
    found, looks = split_of(path, part_s, config), []
    for part in found.parts:
        pts = found.pts[part.key : part.end].tolist()
        value, blobs = look_to_json(*look_at(str(path), part, pts, BorderConfig()))
        looks.append(look_from_json(json.loads(json.dumps(value)), blobs))
    return join(found, looks, config, BorderConfig(), MANY)


def whole(path: Path, config: ShotConfig = ShotConfig()) -> Scan:
    return scan(str(path), config, BorderConfig(), ScanLimits())


def many_transitions() -> list[np.ndarray]:
    """Hard cuts, a dissolve, a fade through black, flashes, borders that come and go, repeats, a long still."""
    a, b, c, d, e = (frames(70, seed=s) for s in range(5))
    dissolve = [_mixed(a[-1], b[0], i / 12) for i in range(1, 12)]
    fade = [_mixed(b[-1], np.zeros_like(b[0]), i / 10) for i in range(1, 11)]
    fade += [_mixed(np.zeros_like(c[0]), c[0], i / 10) for i in range(1, 11)]
    for picture in c:
        picture[:12] = picture[-12:] = 16
    d[30][:] = d[31][:] = 255
    repeated = [f for f in frames(30, seed=7) for _ in range(3)]
    return [*a, *dissolve, *b, *fade, *c, *d, *repeated, *[e[0]] * 60, *e, *shots((40, 33, 52), seed=3)]


def _mixed(first: np.ndarray, then: np.ndarray, share: float) -> np.ndarray:
    return np.round((1 - share) * first + share * then).astype(np.uint8)


@functools.cache
def pictures() -> list[np.ndarray]:
    return many_transitions()


def vfr(path: Path) -> Path:
    count = len(pictures())
    pts = np.cumsum(np.where(np.arange(count) % 7 < 4, 3000, 4500)).tolist()
    return write(path / "a.mkv", pictures(), pts=pts, bf="2", preset="veryfast", g="20")


KINDS: dict[str, Callable[[Path], Path]] = {
    "closed groups": lambda path: write(path / "a.mp4", pictures()),
    "open groups": lambda path: write(
        path / "a.mp4", pictures(), preset="veryfast", g="30", bf="3", **{"x264-params": "open-gop=1:b-pyramid=normal"}
    ),
    "open groups in Matroska": lambda path: write(
        path / "a.mkv", pictures(), preset="veryfast", g="30", bf="3", **{"x264-params": "open-gop=1:b-pyramid=normal"}
    ),
    "variable rate, reordered": vfr,
    "HEVC with leading pictures": lambda path: write(
        path / "a.mp4", pictures(), codec="libx265", preset="ultrafast", crf="14",
        **{"x265-params": "open-gop=1:keyint=30:min-keyint=30:bframes=3:log-level=none:pools=none:frame-threads=1"},
    ),
    "VP9": lambda path: write(
        path / "a.webm", pictures(), codec="libvpx-vp9", g="40", crf="30", deadline="realtime", **{"cpu-used": "8"}
    ),
    "sound": lambda path: write(path / "a.mp4", pictures(), sound=footage.clicks([1, 9], len(pictures()) / 25)),
    "every frame a keyframe": lambda path: write(path / "a.mp4", pictures(), g="1"),
}  # fmt: skip


SOME = ("HEVC with leading pictures", "open groups", "variable rate, reordered")  # what differs most


@pytest.fixture(
    scope="module", params=[k if k in SOME else pytest.param(k, marks=pytest.mark.exhaustive) for k in sorted(KINDS)]
)
def film(request, tmp_path_factory) -> Path:
    return KINDS[request.param](tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def scanned(film) -> tuple:
    found = whole(film)
    assert len(found.shots) >= 8
    assert found.frames_in_transitions > 20
    assert found.distinct is not None
    return scan_to_json(found)


@pytest.mark.parametrize("part_s", [3.0, pytest.param(1.3, marks=pytest.mark.exhaustive)])
@pytest.mark.every(3)
def test_parts_join_to_the_single_scan(film, scanned, part_s):
    assert len(split_of(film, part_s).parts) >= 20 / part_s / 2
    assert scan_to_json(in_parts(film, part_s)) == scanned


@pytest.mark.exhaustive
def test_the_network_alone_judges_the_same_in_parts(tmp_path):
    config = ShotConfig(detector="transnetv2")
    film = KINDS["open groups"](tmp_path)
    assert scan_to_json(in_parts(film, 3.0, config)) == scan_to_json(whole(film, config))


def test_borders_of_a_long_shot_are_sampled_as_in_the_single_scan(tmp_path):
    """Its samples are thinned out as it goes on, and the rate says which frames are sampled."""
    dark = frames(700, seed=5)
    for picture in dark:
        picture[:14] = picture[-14:] = 16
    film = write(tmp_path / "a.mp4", [*dark, *frames(60, seed=6)], fps=30, crf="4")
    found = whole(film)
    assert {s.crop.y for s in found.shots} >= {0, 14}
    assert scan_to_json(in_parts(film, 4.0)) == scan_to_json(found)


def test_interlaced_and_odd_frames_keep_their_flags(tmp_path):
    film = write(tmp_path / "a.mp4", shots((90, 60)), preset="veryfast", **{"x264-params": "tff=1", "colorspace": "8"})
    found = whole(film)
    assert found.interlaced == ((0, 150),)
    assert scan_to_json(in_parts(film, 2.0)) == scan_to_json(found)


# --- what is scanned as one ------------------------------------------------------------------------------------------


def test_films_that_cannot_be_split_say_why(tmp_path):
    one_group = write(tmp_path / "a.mp4", shots((120,)), g="500")
    with pytest.raises(Unfit, match="no keyframes"):
        split_of(one_group, 1.0)
    with pytest.raises(Unfit, match="no keyframes"):  # one part
        split_of(write(tmp_path / "b.mp4", shots((60,))), 60.0)
    with pytest.raises(Unfit, match="no index"):
        split_of(write(tmp_path / "a.ts", shots((120,))), 1.0)
    with pytest.raises(Unfit, match="larger pictures"):
        split_of(one_group, 1.0, ShotConfig(detector="pyscenedetect"))
    with pytest.raises(Unfit, match="too many"):
        split(str(one_group), 1.0, 100, ShotConfig())
    packed = footage.write_packed_avi(tmp_path / "c.avi", shots((60,)))
    with pytest.raises(Unfit):
        split_of(packed, 1.0)


def test_keyframes_that_are_none_and_damage_are_found_out(tmp_path):
    """MPEG-4 without a table of keyframes, so that all count as such; and zeros in the middle of a film."""
    false_keys = write(tmp_path / "false.mp4", shots((120, 80)), codec="mpeg4", qscale="2", g="100", flags="+qscale")
    assert scan_to_json(in_parts(false_keys, 4.0)) == scan_to_json(whole(false_keys))
    false_keys.write_bytes(false_keys.read_bytes().replace(b"stss", b"free"))
    assert len(split_of(false_keys, 4.0).parts) == 2
    with pytest.raises(Unfit):
        in_parts(false_keys, 4.0)
    good = write(tmp_path / "a.mp4", shots((120, 80)), g="40", preset="veryfast", bf="2")
    data = bytearray(good.read_bytes())
    begin = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[begin : begin + 4000] = bytes(4000)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    assert whole(damaged).decode_errors + whole(damaged).corrupt_frames + whole(damaged).heard.decoder_errors
    with pytest.raises(Unfit):
        in_parts(damaged, 2.0)


def test_parts_that_disagree_are_not_joined(tmp_path):
    """The frames that both decoded tell: here those of a file that was exchanged between one part and the next."""
    film, other = write(tmp_path / "a.mp4", shots((100, 60))), write(tmp_path / "b.mp4", shots((100, 60), seed=9))
    found = split_of(film, 3.0)
    looks = [
        look_at(str(path), part, found.pts[part.key : part.end].tolist(), BorderConfig())
        for path, part in zip([film, *[other] * 9], found.parts, strict=False)
    ]
    with pytest.raises(Unfit, match="two parts decode the same frames otherwise"):
        join(found, looks, ShotConfig(), BorderConfig(), MANY)
    (seen, small), *rest = looks
    turned = (replace(seen, geometry=(1, 2, 0, False), last=rest[0][0].before), small)
    with pytest.raises(Unfit):
        join(found, [turned, *rest], ShotConfig(), BorderConfig(), MANY)


# --- packed pictures -------------------------------------------------------------------------------------------------


@given(count=st.integers(1, 200), height=st.integers(1, 9), seed=st.integers(0, 9))
def test_packed_pictures_come_back(count: int, height: int, seed: int) -> None:
    made = np.random.default_rng(seed).integers(0, 256, (count, height, 5, 3), np.uint8)
    packing = Packing()
    for picture in made:
        packing.add(picture)
    packed = packing.done()
    assert isinstance(packed.data, bytearray)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "packed")
        file.write_bytes(packed.data)
        for data in (packed.data, bytes(packed.data), file):
            back = Packed.from_json(json.loads(json.dumps(packed.to_json())), data)
            np.testing.assert_array_equal(np.stack([back[i] for i in range(count)]), made)
            np.testing.assert_array_equal(back[0], made[0])
            with pytest.raises(IndexError):
                back[count]


def test_shrinking_what_is_small_already_changes_nothing() -> None:
    """Parts hand back the pictures that detectors make of larger ones, and the detectors make them again."""
    small = np.random.default_rng(1).integers(0, 256, (7, 27, 48, 3), np.uint8)
    np.testing.assert_array_equal(shrink(small), small)


# --- real films ------------------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus of real footage, which is not in the repository")
def test_real_films_join_to_the_single_scan() -> None:
    """Of each folder of the corpus two files, where they fall into parts of a second; others are scanned as one."""
    joined, unfit = 0, 0
    for folder in sorted(p for p in CORPUS.iterdir() if p.is_dir()):
        for path in sorted(folder.glob("*.m*4"))[:2]:
            try:
                found = in_parts(path, 1.0)
            except Unfit:
                unfit += 1
                continue
            except MediaError as error:  # so it does to the single scan
                with pytest.raises(MediaError, match=error.kind):
                    whole(path)
                continue
            assert scan_to_json(found) == scan_to_json(whole(path)), path
            joined += 1
    assert joined >= 5, f"{unfit} files did not fall into parts"
