import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from reelwright import annotate
from reelwright.annotate import annotate_clip, schema_of
from reelwright.annotate.captions.captions import INPUTS, Captions
from reelwright.annotate.captions.writing.compositions import ELEMENTS, compose
from reelwright.annotate.captions.writing.items import text_hash
from reelwright.curation.store.captions import LIST_COLUMN, Wanted

EN = "A man opens a red door and steps out into the rain."
ZH = "一只棕色的狗在沙滩上奔跑，然后跳进海浪里。"
FILMED = {"camera_motion": "pan_left", "shot_size": "close_up", "visual_style": "3d_cartoon", "lighting": "unclear"}


def captions(known: dict, **parameters) -> list[dict]:
    columns, failures = annotate_clip(None, [annotate.load("captions", parameters)], known)
    assert failures == []
    pa.Table.from_pylist([columns], schema=schema_of(Captions()))
    return columns["captions"]


def test_without_a_model_there_is_what_is_given_and_what_is_composed():
    found = captions({"source_caption": EN, "composed_caption": "A square clip.", **FILMED}, compositions=3)
    assert found[:2] == [
        {"text": EN, "language": "en", "kind": "source", "model": None, "parents": []},
        {"text": "A square clip.", "language": "en", "kind": "composed", "model": "composed_caption", "parents": []},
    ]
    assert 1 <= len(found[2:]) <= 3
    for item in found[2:]:
        assert (item["kind"], item["language"], item["parents"]) == ("composition", "en", [0])
        assert item["model"].startswith("compositions@1:")
        assert item["model"].endswith(" seed=0")
        assert EN in item["text"]
        assert item["text"] != EN


def test_nothing_known_is_an_empty_list():
    assert captions({}) == []
    assert captions({"source_caption": " \n\x00"}) == []


def test_a_hostile_source_caption_is_bounded_and_plain():
    (item,) = captions({"source_caption": "a\u202e\x1b" + "b " * 100_000})
    assert len(item["text"]) == 8000
    assert item["text"].startswith("ab b b")


def test_training_can_draw_among_them():
    """As training reads the column: all but what is composed, unless it is asked for."""
    found = captions({"source_caption": EN, "composed_caption": "A square clip.", **FILMED})
    kinds = tuple({item["kind"] for item in found})
    assert list(Wanted(LIST_COLUMN, kinds).of({"captions": found}, {}).texts) == [item["text"] for item in found]
    drawn = Wanted(LIST_COLUMN).of({"captions": found}, {}).texts
    assert list(drawn) == [item["text"] for item in found if item["kind"] != "composed"]


def test_the_camera_is_left_out_where_it_is_not_sure():
    def texts(confidence) -> str:
        known = {"source_caption": EN, "camera_motion": "pan_left", "camera_motion_confidence": confidence}
        return " ".join(item["text"] for item in captions(known, compositions=4))

    assert "camera" in texts(0.9).lower()
    assert "camera" not in (texts(0.2) + texts(0.0)).lower()


@pytest.mark.parametrize(("text", "language"), [(EN, "en"), (ZH, "zh")])
def test_compositions_say_the_caption_once_and_known_elements_only(text, language):
    said = {getattr(ELEMENTS[name][value], language) for name, value in FILMED.items() if value != "unclear"}
    made = {compose(text, language, FILMED, 0, number) for number in range(200)}
    assert len(made) > 30
    silent = {getattr(t, language) for terms in ELEMENTS.values() for t in terms.values()} - said - {""}
    seen = set()
    for caption in made:
        assert caption.count(text) == 1
        rest = caption.replace(text, "").lower()
        seen |= {term for term in said if term.lower() in rest}
        assert not any(term.lower() in rest for term in silent)
        assert "{" not in caption
        assert "。." not in caption
    assert seen == said
    assert any(c.startswith(text) for c in made)
    assert any(c.endswith(text) for c in made)


def test_a_composition_follows_from_caption_seed_and_elements_alone():
    def draw(**changed) -> list:
        given = {"caption": EN, "language": "en", "known": FILMED, "seed": 0} | changed
        return [compose(**given, number=number) for number in range(8)]

    composed = f"compose({EN!r}, 'en', {FILMED!r}, 0, n)"
    module = "reelwright.annotate.captions.writing.compositions"
    code = f"from {module} import compose; print([{composed} for n in range(8)])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"},
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.stdout.strip() == str(draw())
    strip = [c.replace(EN, "") for c in draw()]
    other = "A woman opens a door."
    assert [c.replace(other, "") for c in draw(caption=other)] != strip
    assert draw(seed=1) != draw()
    assert draw(known=dict(reversed(FILMED.items()))) == draw()
    assert draw()[0] == f"Close-up. In 3D cartoon style. {EN} The camera pans left."


def test_a_caption_without_a_full_stop_gets_one_before_the_next_sentence():
    texts = [compose("a dog", "en", {"shot_size": "wide"}, 0, n) for n in range(9)]
    assert {"a dog. Wide shot.", "Wide shot. a dog."} <= set(texts)
    assert compose("un chien", "und", FILMED, 0, 0) is None
    assert compose(EN, "en", {"shot_size": "unclear"}, 0, 0) is None


def rewrite(text: str, language: str, kind: str, parent: str, parent_text: str) -> dict:
    """As `caption_rewrites` leaves one."""
    made = {"text": text, "language": language, "kind": kind, "model": "qwen"}
    return made | {"parent": parent, "parent_hash": text_hash(parent_text)}


def test_translations_and_summaries_name_their_parents_and_are_composed_too():
    made = [
        rewrite("A dog runs.", "en", "translation", "source", ZH),
        rewrite("一个男人开门。", "zh", "translation", "caption", EN),
        rewrite("A man leaves.", "en", "summary", "caption", EN),
    ]
    known = {"source_caption": ZH, "caption": EN, "caption_model": "llava", "caption_rewrites": made, **FILMED}
    found = captions(known)
    assert [(i["kind"], i["language"], i["parents"], i["model"]) for i in found[:5]] == [
        ("source", "zh", [], None), ("caption", "en", [], "llava"), ("translation", "en", [0], "qwen"),
        ("translation", "zh", [1], "qwen"), ("summary", "en", [1], "qwen"),
    ]  # fmt: skip
    assert [(i["kind"], i["language"], i["parents"]) for i in found[5:]] == [
        ("composition", found[parent]["language"], [parent]) for parent in range(5)
    ]


def test_what_was_made_of_an_earlier_text_is_left_out():
    made = [rewrite(text, "zh", "translation", of, EN) for text, of in (("一只狗。", "source"), ("老的。", "caption"))]
    found = captions({"source_caption": EN, "caption": "Another caption.", "caption_rewrites": made})
    assert [(i["kind"], i["text"]) for i in found] == [
        ("source", EN), ("caption", "Another caption."), ("translation", "一只狗。")
    ]  # fmt: skip


def test_it_asks_nobody_and_all_its_inputs_are_optional():
    assert not Captions().resources.own_process
    assert {m.split("@")[0] for m in Captions().models} == {"compositions"}
    assert [need.column for need in Captions.needs] == list(INPUTS)
    assert all(need.optional for need in Captions.needs)
    with pytest.raises(ValueError, match="compositions = -1; it must be at least 0"):
        annotate.load("captions", {"compositions": -1})
