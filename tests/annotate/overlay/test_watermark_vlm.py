import json

import pytest

from reelwright import annotate
from reelwright.annotate import annotate_clips
from reelwright.annotate.overlay.watermark_vlm import SCHEMA, WATERMARKS, check
from tests.annotate.chat_server import SIDE, numbered_clip


def watermark(server):
    chat = {"model": "qwen", "url": server.url, "timeout_s": 20}
    sampling = {"short_side": SIDE, "min_frames": 2, "max_frames": 2}
    return annotate.load("watermark_vlm", {"chat": chat, "sampling": sampling})


def test_every_answer_lands_on_its_clip(chat_server):
    numbers = range(30)
    chat_server.script({n: ['{"watermark": true, "kind": "none"}'] for n in numbers[::4]})
    results = annotate_clips([numbered_clip(n, frames=2) for n in numbers], [watermark(chat_server)])
    assert [failures for _, failures in results] == [[]] * len(numbers)
    kinds = [list(WATERMARKS)[n % len(WATERMARKS)] for n in numbers]
    assert [columns["watermark_vlm_kind"] for columns, _ in results] == kinds
    assert [columns["watermark_vlm"] for columns, _ in results] == [kind != "none" for kind in kinds]
    (asked,) = chat_server.asked(5)
    assert asked["schema"] == SCHEMA
    assert "$" not in asked["text"]


@pytest.mark.parametrize(
    "answer",
    [
        {"watermark": "yes", "kind": "logo"},
        {"watermark": 1, "kind": "logo"},
        {"watermark": True, "kind": "sign"},
        {"watermark": True, "kind": "none"},
        {"watermark": False, "kind": "logo"},
        {"watermark": True},
        {"watermark": True, "kind": "logo", "where": "left"},
    ],
)
def test_wrong_answers_are_refused(chat_server, answer):
    with pytest.raises(ValueError, match="watermark|kind"):
        check(answer)
    chat_server.script({4: [json.dumps(answer)] * 3})
    ((columns, (failure,)),) = annotate_clips([numbered_clip(4, frames=2)], [watermark(chat_server)])
    assert columns == {}
    assert "after 3 attempts" in failure.error
