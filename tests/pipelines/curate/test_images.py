"""Still images as sources: each is a clip of one frame, with the picture's own colours, upright and whole."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.store import Store
from reelwright.model.codec import load_codec
from reelwright.model.text import load_text_encoder
from reelwright.pipelines.precompute.run import Options, precompute
from reelwright.training.data.loader import Loader, Portion, make_schedule
from reelwright.training.recipe import TrainRecipe
from tests.footage import footage
from tests.pipelines.helpers import curate, recipe_of

pytestmark = pytest.mark.usefixtures("ray_local")

IMAGES = recipe_of(images=True, annotators=["technical", "motion", "composed_caption"])
PATCHES = ((200, 40, 30), (30, 180, 60), (40, 60, 210), (220, 210, 190))
CLOSE = 4  # of 255: what 8-bit 4:2:0 and JPEG leave of a flat colour


def picture() -> Image.Image:
    """Four patches of colour, 320 x 240."""
    pixels = np.zeros((240, 320, 3), np.uint8)
    for i, colour in enumerate(PATCHES):
        pixels[i // 2 * 120 : i // 2 * 120 + 120, i % 2 * 160 : i % 2 * 160 + 160] = colour
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of every kind, a film, and what only looks like an image."""
    folder = tmp_path_factory.mktemp("images")
    image = picture()
    for orientation in (3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(folder / f"turned{orientation}.jpg", exif=exif, quality=98, subsampling=0)
    image.save(folder / "a.jpeg", quality=98, progressive=True)
    image.save(folder / "frame%03d.jpg", quality=97)  # a name that a demuxer could read as a sequence of files
    image.save(folder / "a.png")
    image.convert("L").save(folder / "gray.png")
    image.convert("RGBA").save(folder / "alpha.png")
    image.save(folder / "a.webp", lossless=True)
    image.save(folder / "a.tif")
    image.save(folder / "a.bmp")
    dark = image.copy()
    dark.paste((0, 0, 0), (0, 120, 320, 240))
    dark.save(folder / "dark below.png")
    (folder / "copy of a.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "cut off.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "words.jpg").write_text("no picture")
    footage(folder, 1, lengths=(40,))
    return folder


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Curated first without images, then with them."""
    where = tmp_path_factory.mktemp("store") / "store"
    named = [folder, *sorted(folder.glob("*.bmp"))]
    without = curate(where, named, recipe_of(annotators=[]))
    assert (without.ok, without.failed) == (1, 1)
    summary = curate(where, named, IMAGES)
    assert (summary.ok, summary.duplicate, summary.failed, summary.done_before) == (13, 1, 2, 1)
    return Store.open(where)


def shown_by_ffmpeg(path: Path) -> np.ndarray:
    """RGB of all frames, by the file's own tags."""
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), *raw]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8).astype(int)


def rows_by_name(store: Store) -> dict[str, dict]:
    where = "sources.state = 'ok'"
    rows = store.sql(f"select * from clips join sources on source_md5 = md5 where {where}").to_pylist()
    return {Path(row["uri"]).name: row for row in rows}


def test_an_image_is_a_clip_of_one_frame_with_its_colours_upright_and_whole(store, folder, tmp_path):
    images = {name: row for name, row in rows_by_name(store).items() if not name.endswith(".mp4")}
    assert len(images) == 12
    for name, row in images.items():
        assert (row["is_image"], row["is_still"], row["num_frames"], row["duration_s"]) == (True, True, 1, 0.04), name
        ((_, mp4),) = store.read_media([row["clip_id"]])
        clip = tmp_path / "clip.mp4"
        clip.write_bytes(mp4)
        original = Image.open(folder / name)
        expect = np.asarray(ImageOps.exif_transpose(original).convert("RGB")).astype(int)
        shown = shown_by_ffmpeg(clip).reshape(expect.shape)
        height, width = expect.shape[:2]
        for y in (height // 4, 3 * height // 4):
            for x in (width // 4, 3 * width // 4):
                assert np.abs(shown[y, x] - expect[y, x]).max() <= CLOSE, (name, y, x)


def test_a_film_beside_images_is_none_and_what_is_no_image_fails_alone(store):
    (film,) = (row for name, row in rows_by_name(store).items() if name.endswith(".mp4"))
    assert not film["is_image"]
    errors = {Path(row["uri"]).name: row["error"] for row in store.read("failures", ["uri", "error"]).to_pylist()}
    assert errors["cut off.png"].startswith("open: ")
    assert "not a video" in errors["words.jpg"]


def test_annotators_speak_of_a_picture(store):
    row = rows_by_name(store)["a.png"]
    assert row["composed_caption"].startswith("A landscape picture.")
    assert "moves" not in row["composed_caption"]


@pytest.mark.exhaustive
def test_pictures_of_a_manifest_are_what_text_to_image_trains_on(tmp_path):
    """From the rows of a manifest to a batch: its latents show the picture, its text is the caption."""
    pictures = {"four colours": picture(), "upside down": picture().transpose(Image.Transpose.ROTATE_180)}
    rows = ["path,caption"]
    for number, (caption, image) in enumerate(pictures.items()):
        image.save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{caption}")
    (tmp_path / "pictures.csv").write_text("\n".join(rows))
    summary = curate(tmp_path / "store", [tmp_path / "pictures.csv"], recipe_of(images=True, annotators=[]))
    assert (summary.ok, summary.failed) == (2, 0)
    store = Store.open(tmp_path / "store")
    store.snapshots.create("all", "select clip_id from clips")
    recipe = TrainRecipe.model_validate({
        "model": {"hidden_size": 64, "num_heads": 2, "depth": 1, "caption_channels": 64, "text_tokens": 16},
        "data": {"sizes": ["96p"], "frames": [1], "ratios": ["4:3"], "tokens_per_batch": 300, "batches_per_step": 1,
                 "holdout": 0, "caption_dropout": 0, "store_dtype": "fp32"},
        "tasks": {"t2i": 1, "t2v": 0},
    })  # fmt: skip
    made = precompute(store, "all", recipe, Options(workers=1, quiet=True))
    assert (made.made, made.failed, made.made_captions) == (2, 0, 3)  # the empty caption too
    (batch,) = Loader(store, "all", make_schedule(store, "all", recipe), recipe, portion=Portion(stop_step=1))
    assert batch.task == "t2i"
    shown = load_codec(recipe.codec).decode(batch.latents)
    assert shown.shape[2] == 1
    states = dict(zip(pictures, load_text_encoder(recipe.text).encode(list(pictures)), strict=True))
    seen = set()
    for video, text in zip(shown, batch.text.unpacked(), strict=True):
        (caption,) = (name for name, state in states.items() if torch.equal(text, state[: len(text)]))
        seen.add(caption)
        small = pictures[caption].resize((2, 2), Image.Resampling.BOX)
        expect = np.asarray(small).astype(float).transpose(2, 0, 1)
        height, width = video.shape[-2:]
        found = 127.5 * (1 + video[:, 0, height // 4 :: height // 2, width // 4 :: width // 2].numpy())
        assert np.abs(found - expect).max() < 12
    assert seen == set(pictures)


def test_without_the_setting_images_are_passed_over_or_refused_by_name(folder, store):
    skipped = {Path(s.path).suffix for s in list_inputs([str(folder)]).skipped}
    assert skipped == {".jpg", ".jpeg", ".png", ".webp", ".tif", ".bmp"}
    refused = store.sql("select error from failures where ends_with(uri, '.bmp')").to_pylist()
    assert refused == [] or "images: true" in refused[0]["error"]
