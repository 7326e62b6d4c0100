"""`reel precompute` on real clips: counts add up, only what is missing is made, a bad clip costs itself."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from reelwright.curation.media.errors import MediaError
from reelwright.curation.store import Store
from reelwright.model.codec import load_codec
from reelwright.model.config import DiTConfig
from reelwright.model.text import load_text_encoder
from reelwright.pipelines.precompute.run import Options, Summary, precompute
from reelwright.pipelines.precompute.storage import plan_storage, storage_text
from reelwright.pipelines.runtime.actors import Actors, Work
from reelwright.training.data.buckets import Bucket, source_frames
from reelwright.training.data.encode import encode_frames, fingerprints_of
from reelwright.training.data.fresh import FreshSamples, stored_media
from reelwright.training.data.latents import StoredSamples
from reelwright.training.data.loader import Loader, Portion, make_schedule
from reelwright.training.data.sandbox_decoder import SandboxDecoder
from reelwright.training.data.schedule import Draw
from reelwright.training.errors import TrainError
from reelwright.training.recipe import DataConfig, TaskConfig, TrainRecipe
from tests.conftest import REEL
from tests.footage import frames, luma_of, number_of, write
from tests.pipelines.precompute.fragile import Fragile

ROOT = Path(__file__).parents[2]
LENGTHS = (20, 34, 34, 9, 34)
BROKEN = "clip4"


def recipe_of(**data) -> TrainRecipe:
    options = {"sizes": ("96p",), "frames": (1, 17), "fps": 12.5, "tokens_per_batch": 300, "batches_per_step": 2,
    "holdout": 0.1,
               "store_dtype": "fp32"}  # fmt: skip
    model = DiTConfig(hidden_size=64, num_heads=2, depth=1, caption_channels=64, text_tokens=16)
    return TrainRecipe(model=model, data=DataConfig(**(options | data)), tasks=TaskConfig())


@pytest.fixture(scope="package")
def clips(tmp_path_factory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("clips")
    paths = [write(folder / f"{i}.mp4", frames(n, seed=i)) for i, n in enumerate(LENGTHS)]
    return [p.read_bytes() for p in paths]


@pytest.fixture(scope="package")
def made(clips: list[bytes], tmp_path_factory) -> Path:
    """A store of five clips, the last of which is cut off, and a snapshot of them; not to be changed."""
    store = Store.open(tmp_path_factory.mktemp("made") / "store", create=True)
    ids = [f"clip{i}" for i in range(len(clips))]
    whole = [*clips[:-1], clips[-1][: len(clips[-1]) // 2]]
    store.append("sources", [{"uri": f"u{i}", "md5": f"m{i}", "state": "ok", "caption": f"film {i}"} for i in range(5)])
    store.commit_media([store.write_media(ids, whole)])
    store.append("clips", [
        {"clip_id": c, "source_md5": f"m{i}", "width": 160, "height": 96, "fps": 25.0, "num_frames": LENGTHS[i]}
        for i, c in enumerate(ids)
    ])  # fmt: skip
    store.snapshots.create("all", "select clip_id from clips")
    return store.path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    shutil.copytree(made, tmp_path / "store")
    return Store.open(tmp_path / "store")


def run(store: Store, recipe: TrainRecipe | None = None, **options) -> Summary:
    summary = precompute(store, "all", recipe or recipe_of(), Options(workers=1, quiet=True, **options))
    assert summary.adds_up
    return summary


def keys(store: Store) -> list[tuple[str, str]]:
    return sorted(map(tuple, (r.values() for r in store.read("latents", ["clip_id", "bucket"]).to_pylist())))


@pytest.fixture(scope="package")
def precomputed(made: Path, ray_local: None, tmp_path_factory) -> tuple[Path, Summary, Summary]:
    """A store that two runs have filled, the first with a limit; not to be changed."""
    path = tmp_path_factory.mktemp("precomputed") / "store"
    shutil.copytree(made, path)
    return path, run(Store.open(path), limit=2), run(Store.open(path))


def test_only_what_is_missing_is_made_and_a_bad_clip_costs_itself(precomputed, clips):
    path, first, rest = precomputed  # 5 images and 3 videos are wanted, of which clip4's cannot be made
    store = Store.open(path)
    assert (first.wanted, first.made, first.failed, first.left, first.made_captions) == (8, 2, 0, 6, 6)
    assert (rest.before, rest.made, rest.failed, rest.left, rest.before_captions) == (2, 4, 2, 0, 6)
    assert len(keys(store)) == len(set(keys(store))) == 6
    failed = store.read("failures").to_pylist()
    assert {(f["clip_id"], f["stage"], f["uri"]) for f in failed} == {(BROKEN, "precompute", "u4")}
    again = run(store)
    assert (again.before, again.made, again.failed, again.seconds) == (6, 0, 2, 0.0)
    assert store.read("runs", ["command", "state"]).to_pylist()[0] == {"command": "precompute", "state": "finished"}
    plan = make_schedule(store, "all", recipe_of())
    assert plan.unused == {"failed to encode": 1}
    check_latents(store, clips)


def check_latents(store: Store, clips: list[bytes]) -> None:
    """What the loader gives is the codec's view of the frames in the middle of the clip."""
    recipe = recipe_of()
    codec, decode = load_codec(recipe.codec), SandboxDecoder(recipe.data.fps)
    plan = make_schedule(store, "all", recipe)
    seen = set()
    for batch in Loader(store, "all", plan, recipe, portion=Portion(stop_step=4)):
        bucket = Bucket(*map(int, batch.bucket.split("x")))
        for i, clip in enumerate(batch.clip_ids):
            expected = encode_frames(decode(clips[int(clip[4:])], bucket, 0.5).frames, codec)
            torch.testing.assert_close(batch.latents[i], expected)
            seen.add((clip, batch.bucket))
    decode.close()
    assert len(seen) > 3


@pytest.mark.exhaustive
def test_new_captions_or_another_encoder_make_only_their_own_rows(precomputed, tmp_path):
    shutil.copytree(precomputed[0], tmp_path / "store")
    store = Store.open(tmp_path / "store")
    ids = store.read("clips", ["clip_id"])
    store.merge("clips", ids.append_column("caption", [["new words", None, None, None, None]]), on="clip_id")
    store.snapshots.create("later", "select clip_id from clips")
    summary = precompute(store, "later", recipe_of(), Options(workers=1, quiet=True, retry_failed=True))
    assert summary.adds_up
    assert (summary.made, summary.made_captions, summary.before, summary.failed) == (0, 1, 6, 2)
    assert len(store.read("failures")) == 4
    other = recipe_of(store_dtype="bf16")
    missing = StoredSamples(store, make_schedule(store, "all", other), fingerprints_of(other)).missing()
    assert (missing.count, len(missing.captions)) == (8, 6)


def test_several_windows_are_made_and_captions_that_are_not_wanted_are_not(store, ray_local):
    """Two frames of each clip as images; of videos the middle alone, as the clips have no more frames."""
    recipe = recipe_of(windows=2, window_stride_s=0.2, encode={"text": "on_the_fly"})
    summary = run(store, recipe)
    assert (summary.wanted, summary.made, summary.failed, summary.left) == (12, 9, 3, 0)
    assert (summary.wanted_captions, len(store.read("texts", ["caption"]))) == (0, 0)
    made = keys(store)
    assert [key for clip, key in made if clip == "clip1"] == ["17x80x128", "1x80x128@1/4", "1x80x128@3/4"]
    assert [key for clip, key in made if clip == "clip3"] == ["1x80x128"]  # 4 frames
    failed = {f["error"].partition(":")[0] for f in store.read("failures").to_pylist()}
    assert failed == {key for clip, key in made if clip == "clip1"}


def test_the_storage_that_is_planned_is_what_is_written(precomputed):
    store, recipe = Store.open(precomputed[0]), recipe_of()
    planned = plan_storage(store, "all", recipe)
    rows = store.read("latents", ["clip_id", "bytes"]).to_pylist()
    of_broken = sum(r["bytes"] for r in rows if r["clip_id"] == "clip1")  # as long as the clip that is cut off
    assert (planned.clips, planned.windows, planned.captions) == (5, 8, 6)
    assert planned.latents == sum(r["bytes"] for r in rows) + of_broken
    assert planned.states == sum(store.read("texts", ["bytes"]).column(0).to_pylist())
    said = storage_text(planned, recipe)
    assert "latents are the larger part" in said
    larger = storage_text(planned, recipe_of(encode={"latents": "on_the_fly"}))
    assert "8 windows; on_the_fly, so not in the store" in larger
    assert f"to be stored: {planned.states / 1e3:,.1f} kB" in larger


def test_the_command_plans_and_encodes_nothing(store, tmp_path):
    from typer.testing import CliRunner

    from reelwright.pipelines.cli.app import app
    from reelwright.pipelines.cli.main import load_commands

    load_commands()
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of().model_dump(mode="json")))
    arguments = ["precompute", str(recipe), "--snapshot", "all", "--store", str(store.path), "--plan"]
    shown = CliRunner().invoke(app, [*arguments, "--set", "data.encode.text=cached"])
    assert shown.exit_code == 0, shown.output
    assert "5 clips, as fp32" in shown.output
    assert "cached, so not in the store" in shown.output
    assert not keys(store)


def test_the_decoder_takes_the_frames_it_says(clips):
    decode = SandboxDecoder(12.5)
    found = decode(clips[1], Bucket(17, 96, 160), 0.5)
    assert found.numbers == source_frames(34, 25.0, 12.5, 17)
    assert found.frames.shape == (17, 96, 160, 3)
    lumas = luma_of(clips[1])
    assert [number_of(lumas[i]) for i in found.numbers] == found.numbers
    for number, frame in zip(found.numbers, found.frames, strict=True):
        assert abs(frame.mean(2) - lumas[number]).mean() < 12
    wide = decode(clips[1], Bucket(1, 64, 64), 0.5)
    assert wide.frames.shape == (1, 64, 64, 3)
    decode.close()


@pytest.mark.exhaustive
def test_an_item_that_kills_its_actor_is_given_up_and_the_others_are_done(ray_local):
    import ray

    with Actors(lambda: ray.remote(Fragile).options(num_cpus=1).remote(), 1) as actors:
        actors.queue.extend(
            [Work("work", (), ("a", "deadly", "b")), Work("work", (), ("c", "bad")), Work("work", (), ("d",))]
        )
        done, lost = [], []
        while actors:
            for result in actors.next_done():
                (done.extend(result.value) if result.value else lost.append((result.work.items, result.lost)))
    assert sorted(done) == list("abcd")
    assert sorted(items for items, _ in lost) == [("bad",), ("deadly",)]
    assert ("ValueError: bad item") in dict(lost)[("bad",)]


@pytest.mark.exhaustive
def test_the_command_stops_on_ctrl_c_and_goes_on(store, precomputed, tmp_path, call):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of().model_dump(mode="json")))
    arguments = ["precompute", recipe, "--snapshot", "all", "--store", store.path, "--workers", "1"]
    missing = call(*arguments[:3], "al", *arguments[4:])
    assert missing.returncode == 1
    assert "names that look alike: all" in missing.stderr
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [*REEL, *map(str, arguments)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (store.path / "_locks" / "latents.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)  # within the seconds that Ray takes to start: the signal finds it half-way
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=300) == 130, child.stderr.read()
    assert "the same command goes on" in child.stderr.read()
    assert run(store).left == 0
    nothing = call(*arguments[:-3], precomputed[0])
    assert nothing.returncode == 0, nothing.stderr
    assert "8 latents = 6 there before + 0 encoded + 2 failed + 0 left" in nothing.stdout
    assert "nothing to do" in nothing.stdout
    assert "reel train" in nothing.stdout


def test_numbers_of_a_plan_are_whole(made):
    plan = make_schedule(Store.open(made), "all", recipe_of())
    assert sum(len(rows) for _, rows in plan.wanted()) == 8
    assert np.unique(plan.clip_ids.to_pylist()).size == 5


def test_encoding_on_the_fly_decodes_real_clips_and_gives_the_same_text(precomputed):
    recipe, store = recipe_of(encode="on_the_fly"), Store.open(precomputed[0])
    decode = SandboxDecoder(recipe.data.fps)
    text = load_text_encoder(recipe.text)
    fresh = FreshSamples(stored_media(store, "all"), load_codec(recipe.codec), text, decode)
    plan = make_schedule(store, "all", recipe_of())  # without the clip that is cut off
    stored = StoredSamples(store, plan, fingerprints_of(recipe))
    for batch in Loader(store, "all", plan, recipe, portion=Portion(stop_step=2), samples=fresh):
        assert batch.latents.isfinite().all()
    for made, kept in zip(fresh.states(["film 0", ""]), stored.states(["film 0", ""]), strict=True):
        torch.testing.assert_close(made, kept, rtol=0, atol=0)
    fresh.unreadable = MediaError
    with pytest.raises(TrainError, match=f"clip {BROKEN} does not decode .*make a snapshot without it"):
        fresh.latents(Bucket(17, 96, 160), [Draw(BROKEN, 0, 0, 4)])
    decode.close()
