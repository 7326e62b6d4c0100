"""Pictures and videos that a video begins with, or that are refined: which frames, at which size; and the spool."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reelwright.errors import UserError
from reelwright.model.config import Timing
from reelwright.model.refinement.plan import Refinement
from reelwright.model.sampling.settings import Settings
from reelwright.model.sampling.video_file import to_frames
from reelwright.pipelines.generate.conditions import Fit, read_end, read_image, read_shown, read_span
from reelwright.pipelines.generate.film import Film
from reelwright.pipelines.generate.initial import Beginning
from reelwright.pipelines.generate.spool import Spool
from tests.footage import HOSTILE, ffmpeg, frames, number_of, write
from tests.pipelines.generate.test_generate import film

__all__ = ["film"]  # a fixture


def test_the_end_of_a_video_is_what_a_player_shows_there(film: Path, tmp_path: Path) -> None:
    """25 fps sampled at 12.5 fps: every second frame, back from the last."""
    end = read_end(film, (160, 96), 5, 12.5)
    assert end.shape == (3, 5, 96, 160)
    assert [number_of(f.mean(-1)) for f in to_frames(end)] == [31, 33, 35, 37, 39]
    repeated = read_end(film, (160, 96), 4, 50)
    assert [number_of(f.mean(-1)) for f in to_frames(repeated)] == [37, 38, 38, 39]
    assert read_end(write(tmp_path / "short.mp4", frames(3), fps=25), (160, 96), 13, 25).shape[1] == 3


@pytest.mark.parametrize("timing", ["published", "exact"])
def test_what_a_refined_video_begins_with_is_shown_at_its_time(film: Path, timing: Timing) -> None:
    """5 frames at 12.5 per second, the last of 40 at 25: with exact times their 9 at 25, as published 10."""
    beginning, how = Beginning(video=film), Refinement(to="320x192", timing=timing)
    begun = beginning.read(Settings.of(width=160, height=96, frames=9, overlap=5), 12.5, how)
    assert begun is not None
    assert begun.large is not None
    small, large = ([number_of(f.mean(-1)) for f in to_frames(v)] for v in (begun.frames, begun.large))
    assert small == [31, 33, 35, 37, 39]
    assert large == list(range(31, 40) if timing == "exact" else range(30, 40))
    assert how.plan(9, 96, 160, 5).padding.condition == len(large)


@pytest.mark.parametrize("picture", [(832, 480), (960, 540), (480, 640)])
@pytest.mark.parametrize("fit", ["cover", "stretch"])
def test_what_a_refined_video_begins_with_shows_the_same_part_as_its_first_stage(
    picture: tuple[int, int], fit: Fit, tmp_path: Path
) -> None:
    """832x480 is refined to 1280x704, which is wider: a picture that covered each by itself would jump by 17 rows."""
    ramps = np.zeros((picture[1], picture[0], 3), np.uint8)
    ramps[..., 0], ramps[..., 1] = np.linspace(0, 250, picture[0]), np.linspace(0, 250, picture[1])[:, None]
    cv2.imwrite(str(tmp_path / "ramps.png"), ramps)
    how = Refinement()
    begun = Beginning(image=tmp_path / "ramps.png", fit=fit).read(Settings.of(width=832, height=480), 15, how)
    assert begun is not None
    assert begun.large is not None
    enlarged = how.plan(1, 480, 832).enlarge(begun.frames[None])[0]
    assert begun.large.shape[2:] == enlarged.shape[2:] == (704, 1280)
    assert (begun.large - enlarged[:, :1]).abs().max() * 127.5 < 2, "levels; 6.3 where each covered its own size"


def test_footage_refined_in_space_alone_keeps_its_frame_rate_up_to_the_result_s(film: Path) -> None:
    """A film of 25 frames per second, by networks whose first stage has 15 and 12."""
    found = {
        (trained, spatial): Film.read(film, Refinement(spatial_only=spatial), fps=None, trained_fps=trained).fps
        for trained in (15, 12)
        for spatial in (False, True)
    }
    assert found == {(15, False): 15, (15, True): 25, (12, False): 12, (12, True): 24}


def test_a_video_with_unusual_colour_tags_is_read(film: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.mp4"
    ffmpeg("-i", str(film), "-c", "copy", "-bsf:v", "h264_metadata=matrix_coefficients=8", str(odd))
    torch.testing.assert_close(read_end(odd, (160, 96), 5, 12.5), read_end(film, (160, 96), 5, 12.5))


def test_hdr_and_sound_that_does_not_come_along_are_said(film: Path, tmp_path: Path) -> None:
    pq = "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc"
    coded = ("-pix_fmt", "yuv420p10le", "-c:v", "libx264", "-color_trc", "smpte2084", "-color_primaries", "bt2020")
    ffmpeg("-i", str(film), "-vf", pq, *coded, str(tmp_path / "hdr.mp4"))
    ffmpeg("-i", str(film), "-f", "lavfi", "-i", "sine", "-shortest", "-c:v", "copy", str(tmp_path / "sound.mp4"))

    def note(file: Path) -> str:
        return Film.read(file, Refinement(), fps=None, trained_fps=15).note

    assert note(film) == ""
    assert note(tmp_path / "sound.mp4") == f"the sound of {tmp_path / 'sound.mp4'} does not come along"
    pale = f"{tmp_path / 'hdr.mp4'} is HDR (pq) and is read as it is coded, which looks pale"
    assert note(tmp_path / "hdr.mp4") == pale
    begun = Beginning(video=tmp_path / "hdr.mp4").read(Settings.of(width=64, height=48), 12)
    assert begun is not None
    assert begun.note.startswith(pale)


def test_pictures_cover_the_size(tmp_path: Path) -> None:
    picture = np.zeros((40, 120, 3), np.uint8)
    picture[:, 40:80] = (10, 200, 90)  # RGB: the middle third
    cv2.imwrite(str(tmp_path / "wide.png"), picture[..., ::-1])
    image = read_image(tmp_path / "wide.png", (32, 32))
    assert image.shape == (3, 32, 32)
    torch.testing.assert_close(image[:, 16, 16], torch.tensor([10.0, 200, 90]) / 127.5 - 1)
    torch.testing.assert_close(image[:, 16, 2], image[:, 16, 29])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_sentence(name: str, film: Path, tmp_path: Path) -> None:
    HOSTILE[name](tmp_path / name, film)
    for reader in (lambda p: read_image(p, (32, 32)), lambda p: read_end(p, (32, 32), 5, 15)):
        with pytest.raises(UserError, match="cannot be used"):
            reader(tmp_path / name)


def test_a_size_class_follows_the_picture(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "tall.png"), np.zeros((800, 450, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "square.png"), np.zeros((90, 90, 3), np.uint8))
    found = {
        (name, size): Beginning(image=tmp_path / name if name else None).size_of_class(size)
        for name in ("", "tall.png", "square.png")
        for size in ("480p", "720p")
    }
    assert {key: (size.height, size.width) for key, size in found.items()} == {
        ("", "480p"): (480, 832), ("", "720p"): (704, 1312),
        ("tall.png", "480p"): (832, 480), ("tall.png", "720p"): (1248, 736),
        ("square.png", "480p"): (640, 640), ("square.png", "720p"): (960, 960),
    }  # fmt: skip


def test_a_picture_covers_or_is_stretched(tmp_path: Path) -> None:
    picture = np.zeros((40, 120, 3), np.uint8)
    picture[:, 40:80] = 200  # the middle third
    cv2.imwrite(str(tmp_path / "wide.png"), picture)
    cover, stretch = (read_image(tmp_path / "wide.png", (48, 48), fit) for fit in ("cover", "stretch"))
    assert cover[:, 24, 2].mean() > 0.5, "its edges are cut off"
    assert stretch[:, 24, 2].mean() == -1, "they are still there"
    assert stretch[:, 24, 24].mean() > 0.5


def test_a_span_is_what_a_player_shows(tmp_path: Path) -> None:
    film = write(tmp_path / "film.mp4", frames(40), fps=25)
    facts = read_shown(film)
    assert (facts.width, facts.height, facts.rate) == (160, 96, 25)
    assert facts.duration_s == pytest.approx(1.6, abs=0.01)

    def numbers(start: int, stop: int, fps: float) -> list[int]:
        return [number_of(f.mean(-1)) for f in to_frames(read_span(film, (160, 96), start, stop, fps=fps))]

    assert numbers(3, 8, 12.5) == [6, 8, 10, 12, 14]
    assert numbers(0, 3, 50) == [0, 0, 1]
    assert numbers(38, 43, 25) == [38, 39, 39, 39, 39]


def test_a_video_whose_clock_begins_late_is_read_from_its_first_frame(film: Path, tmp_path: Path) -> None:
    import av

    late = tmp_path / "late.mkv"
    with av.open(str(film)) as source, av.open(str(late), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                shift = int(10 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                out.mux(packet)
    assert read_shown(late).duration_s == pytest.approx(read_shown(film).duration_s, abs=0.002)
    spans = [read_span(file, (160, 96), 3, 40, fps=25) for file in (film, late)]
    torch.testing.assert_close(*spans, rtol=0, atol=0)


def test_a_spool_gives_back_what_it_was_given(tmp_path: Path) -> None:
    video = torch.rand(2, 3, 7, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    spool = Spool(tmp_path, 2)
    for part in video.split([3, 4], 2):
        spool.write(part)
    assert spool.frames == 7
    torch.testing.assert_close(spool.read(2, 6), video[:, :, 2:6], rtol=0, atol=1 / 255 + 1e-6)
