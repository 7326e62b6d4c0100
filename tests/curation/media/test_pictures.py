"""Still images by their bytes, and upright by their EXIF orientation, as Pillow shows them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from reelwright.curation.media.decode import Video, orientation_of
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.pictures import is_still
from reelwright.curation.media.probe import probe
from tests.footage import frames, write

ORIENTATION = 0x0112
KINDS = {"jpg": {"quality": 98}, "png": {}, "webp": {"lossless": True}, "tif": {}, "avif": {}}


def picture() -> Image.Image:
    pixels = np.zeros((120, 160, 3), np.uint8)
    for i, colour in enumerate(((200, 40, 30), (30, 180, 60), (40, 60, 210), (220, 210, 190))):
        pixels[i // 2 * 60 : i // 2 * 60 + 60, i % 2 * 80 : i % 2 * 80 + 80] = colour
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_as_pillow_shows_it(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"a.{kind}"
    picture().save(path, exif=exif, **KINDS[kind])
    with Video(str(path)) as video:
        (frame,) = video.frames()
        assert is_still(video.container, 1)
        found = orientation_of(frame).apply(frame.to_ndarray(format="rgb24")).astype(int)
    expect = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)
    assert found.shape == expect.shape
    rows, columns = expect.shape[0] // 4, expect.shape[1] // 4
    assert np.abs(found - expect)[rows :: 2 * rows, columns :: 2 * columns].max() < 6


def test_colours_of_print_are_shown_as_a_screen_shows_them(tmp_path):
    picture().convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    with Video(str(tmp_path / "a.jpg")) as video:
        (frame,) = video.frames()
    assert np.abs(frame.to_ndarray(format="rgb24")[30, 40].astype(int) - (200, 40, 30)).max() < 4


def test_an_image_s_name_means_no_sequence_of_files(tmp_path):
    for i in range(3):
        picture().rotate(90 * i).save(tmp_path / f"{i:03d}.jpg")
    picture().save(tmp_path / "%03d.jpg")
    with Video(str(tmp_path / "%03d.jpg")) as video:
        assert len(list(video.frames())) == 1


def test_an_image_is_taken_only_where_images_are_wanted(tmp_path):
    picture().save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="it is a picture .* `images: true`"):
        probe(str(tmp_path / "a.png"))
    assert probe(str(tmp_path / "a.png"), images=True)["is_image"]


def test_what_moves_is_no_still_image(tmp_path):
    pictures = [picture(), picture().rotate(90)]
    film: Path = write(tmp_path / "one.mp4", frames(1))
    for name in ("a.gif", "a.png", "a.webp"):
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=100)
    for path in (film, tmp_path / "a.gif", tmp_path / "a.png"):
        with Video(str(path)) as video:
            count = len(list(video.frames()))
            assert count == (1 if path == film else 2)
            assert not is_still(video.container, count), path
    with pytest.raises(MediaError, match="animated WebP"):
        probe(str(tmp_path / "a.webp"), images=True)
