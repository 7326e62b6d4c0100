"""The full profile on a Ray: a chat server on loopback and small checkpoints stand where the published models go."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from reelwright.annotate.captions.writing.vocabulary import VOCABULARIES
from reelwright.curation.store import Store
from reelwright.curation.store.captions import Wanted
from reelwright.pipelines.annotate.load import load_annotators
from reelwright.pipelines.annotate.run import annotate_and_record
from reelwright.pipelines.app.columns import Columns
from reelwright.pipelines.app.decisions import Change
from reelwright.pipelines.app.reviews import Reviews
from reelwright.pipelines.recipes.curation import CurateRecipe
from reelwright.pipelines.runtime.progress import Progress
from tests.annotate.chat.faulty_server import numbered_frames
from tests.annotate.chat_server import SIDE, ChatServer, caption_of, chinese_of
from tests.annotate.checkpoints_clip import DIM, clip_folder  # noqa: F401 - a fixture
from tests.footage import write
from tests.pipelines.helpers import curate, recipe_of

pytestmark = [pytest.mark.usefixtures("ray_local"), pytest.mark.exhaustive]
NUMBERS = (7, 301, 4242)


@pytest.fixture(scope="module")
def server():
    running = ChatServer()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def recipe(server, clip_folder, tmp_path_factory):  # noqa: F811
    head = tmp_path_factory.mktemp("head") / "linear.safetensors"
    save_file({"weight": torch.randn(1, DIM), "bias": torch.full((1,), 5.0)}, head)
    chat = {"model": "loopback/any-vlm", "url": server.url, "attempts": 2, "concurrency": 4}
    clip, size = {"model": str(clip_folder)}, {"short_side": SIDE}  # the server reads the picture at this size
    return recipe_of(
        annotators=[],
        profile="full",
        borders__enabled=False,
        parameters={
            **{name: {"chat": chat, "sampling": size} for name in ("caption", "cinematography", "watermark_vlm")},
            **{name: {"chat": chat} for name in ("caption_rewrites", "cluster_names")},
            "aesthetics": {"clip": clip, "head": {"model": str(head.parent), "file": head.name}},
            "visual_embedding": {"clip": clip},
        },
    )


@pytest.fixture(scope="module")
def store(recipe, tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("full")
    (folder / "in").mkdir()
    for number in NUMBERS:
        write(folder / "in" / f"{number}.mp4", [*numbered_frames([number] * 30, SIDE)], fps=15)
    curate(folder / "store", [folder / "in"], recipe)
    return Store.open(folder / "store")


def test_every_column_is_filled_and_every_answer_is_on_its_clip(store):
    assert not store.count("failures"), store.read("failures").to_pylist()
    uris = {r["md5"]: r["uri"] for r in store.read("sources", ["md5", "uri"]).to_pylist()}
    clips = store.read("clips").to_pylist()
    assert len(clips) == len(NUMBERS)
    for clip in clips:
        number = int(Path(uris[clip["source_md5"]]).stem)
        assert clip["caption"] == caption_of(number)
        for column, terms in VOCABULARIES.items():
            assert clip[column] == list(terms)[number % len(terms)]
        texts = {(c["kind"], c["language"]): c["text"] for c in clip["captions"]}
        assert texts["translation", "zh"] == chinese_of(number)
        assert texts["composed", "en"] == clip["composed_caption"]
        assert len(clip["visual_embedding"]) == DIM
        assert clip["caption_embedding_of"] == "caption"
        assert (clip["cluster_name"], clip["cluster_named_by"]) == ("numbered patterns", "loopback/any-vlm")
        empty = {name for name, value in clip.items() if value is None} - {"watermark_box", "audio_codec"}
        assert not {name for name in empty if name.endswith("_fingerprint") or name.endswith("_score")}, empty


def test_a_second_run_asks_nobody_anything(store, recipe, server):
    server.script({})
    versions = {t.name: t.version for t in store.tables()}
    curate(store, [store.path.parent / "in"], recipe)
    assert {t.name: t.version for t in store.tables()} == versions
    assert not any(server.asked(number) for number in NUMBERS)


def test_an_upgrade_of_another_annotator_asks_for_no_translation_again(store, recipe, server, tmp_path):
    shutil.copytree(store.path, tmp_path / "store")
    copy, names = Store.open(tmp_path / "store"), ["cinematography", "caption_rewrites", "captions"]
    plan = yaml.safe_load(recipe.to_yaml())
    plan["annotators"] = names
    plan["parameters"] = {name: p for name, p in plan["parameters"].items() if name in names}
    plan["parameters"]["cinematography"]["attempts"] = 4
    server.script({})
    changed = CurateRecipe.model_validate(plan)
    with Progress("annotate", quiet=True) as progress:
        report = annotate_and_record(copy, changed, load_annotators(changed), progress)
    assert dict(report.done) == dict.fromkeys(["cinematography", "captions"], len(NUMBERS))
    assert all(one["schema"] and one["pictures"] for number in NUMBERS for one in server.asked(number))
    kept = [c.read("clips", ["clip_id", "captions"]).sort_by("clip_id").to_pylist() for c in (store, copy)]
    assert kept[0] == kept[1]


def test_a_captioner_that_runs_again_leaves_what_a_person_wrote(store, recipe, tmp_path):
    shutil.copytree(store.path, tmp_path / "store")
    copy = Store.open(tmp_path / "store")
    [one, *others] = copy.read("clips", ["clip_id"])["clip_id"].to_pylist()
    reviews = Reviews(copy, Columns(copy))
    reviews.decide([one], Change("caption", "A person's."), "ann")
    reviews.close()
    plan = yaml.safe_load(recipe.to_yaml()) | {"annotators": ["caption"]}
    plan["parameters"] = {"caption": plan["parameters"]["caption"] | {"sampling": {"short_side": SIDE, "fps": 1.0}}}
    changed = CurateRecipe.model_validate(plan)
    with Progress("annotate", quiet=True) as progress:
        report = annotate_and_record(copy, changed, load_annotators(changed), progress)
    assert dict(report.done) == {"caption": len(NUMBERS)}
    found = {row["clip_id"]: row for row in copy.read("clips").to_pylist()}
    assert (found[one]["review_caption"], found[one]["review_caption_by"]) == ("A person's.", "ann")
    assert Wanted().of(found[one], {}).texts == ("A person's.",)
    assert all(Wanted().of(found[other], {}).texts == (found[other]["caption"],) for other in others)


def test_a_server_that_is_away_leaves_clips_for_the_next_run(store, recipe, server, call, tmp_path):
    shutil.copytree(store.path, tmp_path / "store")
    away = {"model": "loopback/other", "url": "http://127.0.0.1:9/v1", "patience_s": 0, "timeout_s": 2}
    plan = yaml.safe_load(recipe.to_yaml())
    plan["parameters"]["caption"]["chat"] = away
    (tmp_path / "away.yaml").write_text(yaml.safe_dump(plan))
    done = call("annotate", "--store", tmp_path / "store", "-r", tmp_path / "away.yaml", "--only", "caption")
    assert done.returncode == 4, done
    assert "caption stopped early" in done.stdout
    copy = Store.open(tmp_path / "store")
    assert not copy.count("failures")
    assert {c["caption"] for c in copy.read("clips", ["caption"]).to_pylist()} == set(map(caption_of, NUMBERS))
    plan["parameters"]["caption"]["chat"]["url"] = server.url
    (tmp_path / "back.yaml").write_text(yaml.safe_dump(plan))
    done = call("annotate", "--store", tmp_path / "store", "-r", tmp_path / "back.yaml", "--only", "caption")
    assert done.returncode == 0, done
    models = copy.read("clips", ["caption_model"]).column(0).to_pylist()
    assert models == ["loopback/other"] * len(NUMBERS)
