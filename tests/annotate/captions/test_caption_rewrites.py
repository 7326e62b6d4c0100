"""Translations and summaries by a chat model: a real server on loopback; every answer on its clip and its parent."""

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from reelwright import annotate
from reelwright.annotate import annotate_clip, annotate_clips, schema_of
from reelwright.annotate.captions.caption_rewrites import CaptionRewrites
from reelwright.annotate.captions.writing.items import text_hash
from reelwright.annotate.chat.registry import close_chats

ZH = "一只棕色的狗在沙滩上奔跑，然后跳进海浪里。"


def rewrites(known: dict, **parameters) -> list[dict]:
    columns, failures = annotate_clip(None, [annotate.load("caption_rewrites", parameters)], known)
    assert failures == []
    pa.Table.from_pylist([columns], schema=schema_of(CaptionRewrites()))
    return columns["caption_rewrites"]


def with_chat(server, **parameters) -> dict:
    return {"chat": {"model": "qwen", "url": server.url, "timeout_s": 20}} | parameters


def dense(number: int) -> str:
    """An English caption long enough to be shortened."""
    return f"Clip {number} shows a row of cells. " + "The cells stay where they are from first to last frame. " * 3


def test_each_names_the_text_that_it_was_made_from(chat_server):
    chinese = ZH.replace("一只", "3只")
    found = rewrites({"source_caption": chinese, "caption": dense(4)}, **with_chat(chat_server))
    assert [(i["kind"], i["language"], i["parent"]) for i in found] == [
        ("translation", "en", "source"), ("translation", "zh", "caption"), ("summary", "en", "caption")
    ]  # fmt: skip
    assert [i["parent_hash"] for i in found] == [text_hash(chinese), *[text_hash(dense(4).strip())] * 2]
    assert {i["model"] for i in found} == {"qwen"}
    assert "number 3 " in found[0]["text"]
    (to_english,) = chat_server.asked(3)
    assert "from Chinese to English" in to_english["text"]
    assert to_english["pictures"] == 0
    assert all("$" not in a["text"] for a in (to_english, *chat_server.asked(4)))


def test_every_answer_lands_on_its_clip_and_caption(chat_server):
    """Several calls at once; answers come in another order, and some only when asked again."""
    numbers = range(1000, 1040)
    wrong = ["status 500", "English again", "", dense(1), "译" * 900, f"{'word ' * 70}"]
    chat_server.script({n: [wrong[n % len(wrong)]] for n in numbers[::2]})
    annotator = annotate.load("caption_rewrites", with_chat(chat_server, clips_a_call=4))

    def call(some: list[int]) -> dict:
        rows = [{"caption": dense(n), "source_caption": f"{n}号图案"} for n in some]
        return dict(zip(some, annotate_clips([None] * len(some), [annotator], rows), strict=True))

    with ThreadPoolExecutor(4) as threads:
        found = {n: r for part in threads.map(call, [list(numbers[k::4]) for k in range(4)]) for n, r in part.items()}
    assert [failures for _, failures in found.values()] == [[]] * len(numbers)
    for n, (columns, _) in found.items():
        texts = {(i["kind"], i["parent"]): i["text"] for i in columns["caption_rewrites"]}
        assert set(texts) == {("translation", "source"), ("translation", "caption"), ("summary", "caption")}
        assert texts["translation", "caption"].startswith(f"第{n}号片段")
        assert texts["translation", "source"].startswith(f"Clip number {n} in English")
        assert texts["summary", "caption"] == f"Number {n}, in short."


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
    annotator = annotate.load("caption_rewrites", with_chat(chat_server, summarize=False))
    rows = [{"caption": dense(5)}, {"caption": dense(6)}]
    bad, good = annotate_clips([None, None], [annotator], rows)
    assert bad[0] == {}
    error = f"ChatError: translation in zh: after 3 attempts still no valid answer: {complaint}"
    assert bad[1][0].error.startswith(error)
    assert len(good[0]["caption_rewrites"]) == 1
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
    annotator = annotate.load("caption_rewrites", with_chat(chat_server, translate=False))
    columns, (failure,) = annotate_clip(None, [annotator], {"caption": dense(5)})
    assert columns == {}
    assert failure.error == f"ChatError: summary in en: after 3 attempts still no valid answer: {complaint}"


def test_a_server_that_is_away_is_no_fault_of_the_clip():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    annotator = annotate.load("caption_rewrites", {"chat": {"model": "m", "url": url, "patience_s": 0}})
    columns, (failure,) = annotate_clip(None, [annotator], {"caption": dense(5)})
    close_chats()
    assert columns == {}
    assert failure.postponed


def test_a_short_caption_is_its_own_summary(chat_server):
    assert rewrites({"source_caption": "5 dogs run."}, **with_chat(chat_server, translate=False)) == []
    assert chat_server.asked(5) == []


def test_the_caption_of_a_source_is_asked_about_once_in_a_call(chat_server):
    annotator = annotate.load("caption_rewrites", with_chat(chat_server, summarize=False, clips_a_call=16))
    results = annotate_clips([None] * 10, [annotator], [{"source_caption": dense(9)}] * 10)
    assert [failures for _, failures in results] == [[]] * 10
    assert len({str(columns) for columns, _ in results}) == 1
    assert len(chat_server.asked(9)) == 1


def test_other_languages_and_absent_captions_are_not_asked_about(chat_server):
    chat = with_chat(chat_server)
    assert rewrites({"source_caption": "11 chiens âgés traînent à côté de l'étang gelé"}, **chat) == []
    assert rewrites({}, **chat) == []
    assert chat_server.asked(11) == []


def test_it_reads_captions_alone_and_names_its_model_and_prompts():
    """What is measured or classified of a clip must not ask for its translations again."""
    assert {need.column for need in CaptionRewrites.needs} == {"source_caption", "caption"}
    asking = annotate.load("caption_rewrites", {"chat": {"model": "m"}})
    assert asking.resources.own_process
    assert {m.split("@")[0] for m in asking.models} == {"m", "prompt:translation", "prompt:summary"}
    with pytest.raises(ValueError, match="names no model: set parameters.caption_rewrites.chat.model"):
        annotate.load("caption_rewrites", {"chat": {"model": ""}})


def test_the_full_recipe_asks_one_model():
    recipe = yaml.safe_load((Path(__file__).parents[3] / "configs/curate/full.yaml").read_text())
    annotators = [annotate.load(name, parameters) for name, parameters in recipe["parameters"].items()]
    asked = {a.name: a.chat for a in annotators if hasattr(a, "chat")}
    assert asked.keys() == {"caption", "cinematography", "watermark_vlm", "caption_rewrites", "cluster_names"}
    assert {chat.model for chat in asked.values()} == {"Qwen/Qwen2.5-VL-7B-Instruct"}
    assert {name for name, chat in asked.items() if chat.send == "images"} == {"watermark_vlm"}
