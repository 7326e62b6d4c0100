import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

import annotate
from annotate import annotate_clip, annotate_clips, schema_of
from annotate.backends.chat import close_chats
from annotate.captions import INPUTS, Captions
from annotate.chatting.compositions import ELEMENTS, compose
from training.rows import _texts

EN = "A man opens a red door and steps out into the rain."
ZH = "一只棕色的狗在沙滩上奔跑，然后跳进海浪里。"
FILMED = {"camera_motion": "pan_left", "shot_size": "close_up", "visual_style": "3d_cartoon", "lighting": "unclear"}


def captions(known: dict, **parameters) -> list[dict]:
    columns, failures = annotate_clip(None, [annotate.load("captions", parameters)], known)
    assert failures == []
    pa.Table.from_pylist([columns], schema=schema_of(Captions()))
    return columns["captions"]


def with_chat(server, **parameters) -> dict:
    return {"chat": {"model": "qwen", "url": server.url, "timeout_s": 20}} | parameters


def dense(number: int) -> str:
    """An English caption long enough to be shortened."""
    return f"Clip {number} shows a row of cells. " + "The cells stay where they are from first to last frame. " * 3


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
    """As training/rows.py reads the column."""
    found = captions({"source_caption": EN, "composed_caption": "A square clip.", **FILMED})
    assert _texts(found) == [item["text"] for item in found]


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
    code = f"from annotate.chatting.compositions import compose; print([{composed} for n in range(8)])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"},
        cwd=Path(__file__).parents[2],
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


def test_translations_and_summaries_name_their_parents(chat_server):
    known = {"source_caption": ZH.replace("一只", "3只"), "caption": dense(4), "caption_model": "qwen", **FILMED}
    found = captions(known, **with_chat(chat_server))
    kinds = [(i["kind"], i["language"], i["parents"]) for i in found]
    assert kinds[:2] == [("source", "zh", []), ("caption", "en", [])]
    assert sorted(kinds[2:5]) == [("summary", "en", [1]), ("translation", "en", [0]), ("translation", "zh", [1])]
    assert kinds[5:] == [("composition", found[parent]["language"], [parent]) for parent in range(5)]
    assert [i["model"] for i in found[1:5]] == ["qwen"] * 4
    assert "number 3 " in next(i["text"] for i in found if i["parents"] == [0])
    (to_english,) = chat_server.asked(3)
    assert "from Chinese to English" in to_english["text"]
    assert to_english["pictures"] == 0
    assert all("$" not in a["text"] for a in (to_english, *chat_server.asked(4)))


def test_every_answer_lands_on_its_clip_and_caption(chat_server):
    """Several calls at once; answers come in another order, and some only when asked again."""
    numbers = range(1000, 1040)
    wrong = ["status 500", "English again", "", dense(1), "译" * 900, f"{'word ' * 70}"]
    chat_server.script({n: [wrong[n % len(wrong)]] for n in numbers[::2]})
    annotator = annotate.load("captions", with_chat(chat_server, clips_a_call=4))

    def call(some: list[int]) -> dict:
        rows = [{"caption": dense(n), "source_caption": f"{n}号图案"} for n in some]
        return dict(zip(some, annotate_clips([None] * len(some), [annotator], rows), strict=True))

    with ThreadPoolExecutor(4) as threads:
        found = {n: r for part in threads.map(call, [list(numbers[k::4]) for k in range(4)]) for n, r in part.items()}
    assert [failures for _, failures in found.values()] == [[]] * len(numbers)
    for n, (columns, _) in found.items():
        texts = {(i["kind"], *i["parents"]): i["text"] for i in columns["captions"]}
        assert set(texts) == {("source",), ("caption",), ("translation", 0), ("translation", 1), ("summary", 1)}
        assert all(str(n) in text for text in texts.values()), texts
        assert texts["translation", 1].startswith(f"第{n}号片段")
        assert texts["translation", 0].startswith(f"Clip number {n} in English")
        assert texts["summary", 1] == f"Number {n}, in short."


WRONG = {
    "The cells of number 5 stay where they are.": "the answer is not in Chinese",
    dense(5).upper(): "the answer repeats the text",
    "号": "the translation has 1 characters and the text 196",
    "译文" * 300: "the translation has 600 characters and the text 196",
    "第五号片段里有一排黑白方格，画面静止不动。" * 3 + "<cut>": "the answer was cut off before its end",
    "...": "the answer is empty",
}


@pytest.mark.parametrize(("wrong", "complaint"), WRONG.items(), ids=WRONG.values())
def test_a_translation_that_stays_wrong_fails_the_clip(chat_server, wrong, complaint):
    chat_server.script({5: [wrong] * 3})
    annotator = annotate.load("captions", with_chat(chat_server, summarize=False))
    rows = [{"caption": dense(5)}, {"caption": dense(6)}]
    bad, good = annotate_clips([None, None], [annotator], rows)
    assert bad[0] == {}
    error = f"ChatError: translation in zh: after 3 attempts still no valid answer: {complaint}"
    assert bad[1][0].error.startswith(error)
    assert len(good[0]["captions"]) == 2
    assert len(chat_server.asked(5)) == 3


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("word 5 " * 30, "the summary has 60 words; write at most 25"),
        ("五号图案静止不动。", "the answer is not in English"),
    ],
)
def test_a_summary_that_stays_wrong_fails_the_clip(chat_server, wrong, complaint):
    chat_server.script({5: [wrong] * 3})
    annotator = annotate.load("captions", with_chat(chat_server, translate=False))
    columns, (failure,) = annotate_clip(None, [annotator], {"caption": dense(5)})
    assert columns == {}
    assert failure.error == f"ChatError: summary in en: after 3 attempts still no valid answer: {complaint}"


def test_a_server_that_is_away_is_no_fault_of_the_clip():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    annotator = annotate.load("captions", {"chat": {"model": "m", "url": url, "patience_s": 0}})
    columns, (failure,) = annotate_clip(None, [annotator], {"caption": dense(5)})
    close_chats()
    assert columns == {}
    assert failure.postponed


def test_the_full_recipe_asks_one_model():
    recipe = yaml.safe_load((Path(__file__).parents[2] / "configs/curate/full.yaml").read_text())
    asked = {name: annotate.load(name, parameters).chat for name, parameters in recipe["parameters"].items()}
    assert asked.keys() == {"caption", "cinematography", "watermark_vlm", "captions", "clusters"}
    assert {chat.model for chat in asked.values()} == {"Qwen/Qwen2.5-VL-7B-Instruct"}
    assert {name for name, chat in asked.items() if chat.send == "images"} == {"watermark_vlm"}


def test_a_short_caption_is_its_own_summary(chat_server):
    found = captions({"source_caption": "5 dogs run."}, **with_chat(chat_server, translate=False))
    assert [i["kind"] for i in found] == ["source"]
    assert chat_server.asked(5) == []


def test_the_caption_of_a_source_is_asked_about_once_in_a_call(chat_server):
    annotator = annotate.load("captions", with_chat(chat_server, summarize=False, clips_a_call=16))
    results = annotate_clips([None] * 10, [annotator], [{"source_caption": dense(9)}] * 10)
    assert [failures for _, failures in results] == [[]] * 10
    assert len({str(columns) for columns, _ in results}) == 1
    assert len(chat_server.asked(9)) == 1


def test_the_composed_caption_and_other_languages_are_not_asked_about(chat_server):
    known = {"source_caption": "11 chiens âgés traînent à côté de l'étang gelé", "composed_caption": dense(12)}
    assert [i["kind"] for i in captions(known, **with_chat(chat_server))] == ["source", "composed"]
    assert chat_server.asked(11) == chat_server.asked(12) == []


def test_it_runs_in_a_process_of_its_own_only_with_a_model():
    assert not Captions().resources.own_process
    assert annotate.load("captions", {"chat": {"model": "m"}}).resources.own_process
    plain, asking = Captions().models, annotate.load("captions", {"chat": {"model": "m"}}).models
    assert set(plain) < set(asking)
    assert {m.split("@")[0] for m in asking} == {"compositions", "m", "prompt:translation", "prompt:summary"}


def test_its_inputs_are_all_optional():
    assert [need.column for need in Captions.needs] == list(INPUTS)
    assert all(need.optional for need in Captions.needs)


def test_a_chat_without_a_model_is_no_silent_way_to_have_none():
    with pytest.raises(ValueError, match="annotator 'captions' names no model: set parameters.captions.chat.model"):
        annotate.load("captions", {"chat": {"url": "http://gpu1:8000/v1"}})
    with pytest.raises(ValueError, match="compositions = -1; it must be at least 0"):
        annotate.load("captions", {"compositions": -1})
