import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reelwright import annotate
from reelwright.annotate import Annotator, annotate_clips
from reelwright.annotate.chat.answers import LONGEST, clean, is_written_in, language_of, plain
from reelwright.annotate.chat.base import Answer
from reelwright.annotate.chat.frame_times import FrameSampling
from reelwright.annotate.chat.prompts import load_prompt
from reelwright.annotate.chat.registry import close_chats
from reelwright.annotate.errors import AnnotatorError
from reelwright.curation.media.frames import ClipFacts
from tests.annotate.chat_server import SIDE, caption_of, numbered_clip


def caption(server, **parameters) -> Annotator:
    chat = {"model": "qwen", "url": server.url, "attempts": 3, "timeout_s": 20}
    return annotate.load("caption", {"chat": chat, "sampling": {"short_side": SIDE}} | parameters)


def test_every_caption_lands_on_its_clip(chat_server):
    """Several calls at once, as the pipeline makes them; answers come in another order, some only when asked again."""
    numbers = range(100, 148)
    chat_server.script({n: [["status 500"], ["status 429"], ["```\n```"], [" \n"]][n % 4] for n in numbers[::3]})
    clips = {n: numbered_clip(n, frames=4) for n in numbers}
    annotator = caption(chat_server, clips_a_call=6)

    def call(some: list[int]) -> dict:
        return dict(zip(some, annotate_clips([clips[n] for n in some], [annotator]), strict=True))

    with ThreadPoolExecutor(4) as threads:
        found = {n: r for part in threads.map(call, [list(numbers[k::4]) for k in range(4)]) for n, r in part.items()}
    assert all(failures == [] for _, failures in found.values())
    assert {n: columns["caption"] for n, (columns, _) in found.items()} == {n: caption_of(n) for n in numbers}
    assert {columns["caption_model"] for columns, _ in found.values()} == {"qwen"}


def test_an_answer_that_stays_empty_fails_its_clip_alone(chat_server):
    chat_server.script({7: ["```\n```", "<think>nothing</think>", "..."]})
    results = annotate_clips([numbered_clip(n, frames=4) for n in (6, 7, 8)], [caption(chat_server)])
    assert [columns.get("caption") for columns, _ in results] == [caption_of(6), None, caption_of(8)]
    ((failure,),) = [failures for _, failures in results if failures]
    assert failure.error == "ChatError: after 3 attempts still no valid answer: the answer is empty"
    assert not failure.postponed
    assert len(chat_server.asked(7)) == 3
    assert "not valid" in chat_server.asked(7)[1]["text"]


def test_what_is_asked(chat_server):
    ((_, failures),) = annotate_clips([numbered_clip(3, frames=72)], [caption(chat_server)])
    assert failures == []
    (asked,) = chat_server.asked(3)
    assert asked["pictures"] == 12  # 6 s at 2 a second
    assert asked["size"] == [256, 64]
    assert "6.0 seconds: 12 frames" in asked["text"]
    assert "$" not in asked["text"]
    assert asked["system"] == load_prompt("caption").system


def test_a_server_that_is_away_is_no_fault_of_the_clip():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    annotator = annotate.load("caption", {"chat": {"model": "m", "url": url, "patience_s": 0, "timeout_s": 2}})
    ((columns, (failure,)),) = annotate_clips([numbered_clip(1, frames=4)], [annotator])
    close_chats()
    assert columns == {}
    assert failure.postponed


def test_a_model_must_be_named_and_parameters_must_be_known():
    with pytest.raises(ValueError, match="annotator 'caption' names no model: set parameters.caption.chat.model"):
        annotate.load("caption", {"chat": {"url": "http://127.0.0.1:1/v1"}})
    with pytest.raises(ValueError, match="fsp"):
        annotate.load("caption", {"sampling": {"fsp": 2}})
    with pytest.raises(ValueError, match="min_frames = 9 is above max_frames = 8"):
        annotate.load("caption", {"sampling": {"min_frames": 9, "max_frames": 8}})
    with pytest.raises(AnnotatorError, match="prompt 'captoin' is not a file; built-in prompts: caption"):
        annotate.load("caption", {"prompt": "captoin"}).fingerprint


def test_the_fingerprint_follows_model_prompt_and_sampling_but_not_the_server(tmp_path):
    def fingerprint_of(**parameters) -> str:
        return annotate.load("caption", parameters).fingerprint

    mine = tmp_path / "mine.txt"
    mine.write_text("version: 1\n\nDescribe it.")
    first = fingerprint_of(prompt=str(mine))
    mine.write_text("version: 1\n\nDescribe it well.")
    second = fingerprint_of(prompt=str(mine))
    (tmp_path / "b").mkdir()
    elsewhere = mine.rename(tmp_path / "b" / "mine.txt")
    assert fingerprint_of(prompt=str(elsewhere)) == second
    others = [fingerprint_of(chat={"model": "other"}), fingerprint_of(sampling={"fps": 1})]
    fingerprints = [fingerprint_of(), first, second, *others]
    assert len(set(fingerprints)) == len(fingerprints)
    chat = {"model": "Qwen/Qwen2.5-VL-7B-Instruct", "url": "http://elsewhere:1/v1", "concurrency": 2}
    assert fingerprint_of(chat=chat, clips_a_call=1) == fingerprint_of()


def test_a_prompt_of_ones_own_must_be_a_prompt(tmp_path):
    wrong = tmp_path / "wrong.txt"
    for content in ("no header at all", "version: 1\n\n", "version: one\n\ntext", "version: 1\nother: x\n\ntext"):
        wrong.write_text(content)
        with pytest.raises(AnnotatorError, match="must begin with the line 'version: 1'"):
            load_prompt(str(wrong))
    wrong.write_text("version: 3\nsystem: Be brief.\n\nIt costs $5, in $count frames.")
    prompt = load_prompt(str(wrong))
    assert (prompt.version, prompt.system, prompt.filled(count=2)) == (3, "Be brief.", "It costs $5, in 2 frames.")


@pytest.mark.parametrize(
    ("seconds", "sampling", "count"),
    [
        (1, FrameSampling(), 8),  # the least
        (10, FrameSampling(), 20),  # by rate
        (60, FrameSampling(), 48),  # the most
        (10, FrameSampling(min_frames=6, max_frames=6), 6),
        (0.125, FrameSampling(), 3),  # all it has
    ],
)
def test_sampling(seconds, sampling, count):
    """Each frame's level is its index, so that it can be seen which were taken."""
    num_frames, fps = round(24 * seconds), 24
    clip = ClipFacts("h264", 64, 36, fps, num_frames, seconds, 1, 1, 1, False)
    need, _ = sampling.needs
    index = np.array(need.indices(num_frames, fps), np.int32).reshape(-1, 1, 1, 1)
    frames, facts = sampling.seen(index * np.ones((1, 36, 64, 3), np.int32), clip)
    shown = frames[:, 0, 0, 0]
    assert (len(shown), facts) == (count, clip)
    assert (np.diff(shown) > 0).all()
    assert np.diff(shown).max() - np.diff(shown).min() <= 1


def test_frames_have_no_more_pixels_than_allowed():
    clip = ClipFacts("h264", 640, 360, 24, 24, 1, 1, 1, 1, False)
    frames, _ = FrameSampling(max_pixels=40_000).seen(np.full((4, 360, 640, 3), 9, np.uint8), clip)
    height, width = frames.shape[1:3]
    assert 39_000 < height * width <= 40_000
    assert width / height == pytest.approx(16 / 9, abs=0.02)
    assert (frames == 9).all()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (" A  dog\n\nruns. ", "A dog runs."),
        ("```text\nA dog runs.\n```", "A dog runs."),
        ("**Caption:** A dog runs.", "A dog runs."),
        ("<think>It is\na dog.</think>\nA dog runs.", "A dog runs."),
        ('"A dog runs."', "A dog runs."),
        ('"Stop" says a man to a "dog"', '"Stop" says a man to a "dog"'),
        ("A dog\u202e runs\x00\x1b[31m.", "A dog runs[31m."),
        ("“一只狗在跑。”", "一只狗在跑。"),
        ("A caption: short", "A caption: short"),
    ],
)
def test_cleaning(answer, text):
    assert clean(Answer(answer)) == text


def test_a_cut_answer_keeps_its_whole_sentences():
    assert clean(Answer("A dog runs. It jumps over 3.5 m and th", cut=True)) == "A dog runs."
    assert clean(Answer("一只狗在跑。它跳过了", cut=True)) == "一只狗在跑。"
    for nothing in ("A dog that", ""):
        with pytest.raises(ValueError, match="cut off in its first sentence"):
            clean(Answer(nothing, cut=True))
    for nothing in ("", " \n", "-- !", "```\n\n```", "<think>So.</think>"):
        with pytest.raises(ValueError, match="the answer is empty"):
            clean(Answer(nothing))


def test_an_answer_is_bounded():
    with pytest.raises(ValueError, match="more than"):
        clean(Answer("very " * LONGEST))


def test_languages_by_script():
    texts = {
        "en": ["A dog runs.", "3 men"], "zh": ["一只狗在跑", "一只 dog 在跑"],
        "und": ["", "123", "犬が走る", "Привет", "Un chien âgé traîne à côté de l'étang gelé"],
    }  # fmt: skip
    assert {k: [language_of(t) for t in v] for k, v in texts.items()} == {k: [k] * len(v) for k, v in texts.items()}
    assert is_written_in("The sign says 出口, in Café Zürich.", "en")
    assert not is_written_in("标志上写着 exit", "en")
    assert not is_written_in("A sign says 出口", "zh")


def test_plain_text_has_no_control_characters():
    assert plain("a\u2028b\x07\ud800\u200bc\t\r\nd") == "a bc d"
