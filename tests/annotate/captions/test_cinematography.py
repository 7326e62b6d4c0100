import json

import pytest

from reelwright import annotate
from reelwright.annotate import Annotator, annotate_clips
from reelwright.annotate.captions.cinematography import SCHEMA
from reelwright.annotate.captions.writing.vocabulary import VOCABULARIES
from tests.annotate.chat_server import SIDE, numbered_clip


def cinematography(server) -> Annotator:
    chat = {"model": "qwen", "url": server.url, "timeout_s": 20}
    sampling = {"short_side": SIDE, "min_frames": 2, "max_frames": 2}
    return annotate.load("cinematography", {"chat": chat, "sampling": sampling, "clips_a_call": 8})


def terms_of(number: int) -> dict[str, str]:
    return {name: list(terms)[number % len(terms)] for name, terms in VOCABULARIES.items()}


WRONG = {
    "a word that is no term": json.dumps(terms_of(1) | {"shot_size": "cowboy shot"}),
    "another spelling": json.dumps(terms_of(1) | {"shot_size": "Close-Up"}),
    "a key too many": json.dumps(terms_of(1) | {"mood": "calm"}),
    "a key too few": json.dumps({k: v for k, v in terms_of(1).items() if k != "lighting"}),
    "a list": json.dumps(terms_of(1) | {"lens_type": ["macro"]}),
    "null": json.dumps(terms_of(1) | {"lens_type": None}),
    "no JSON": "It is a close-up.",
    "words around it": f"Here it is: {json.dumps(terms_of(1))}",
    "a key twice": '{"shot_size": "wide", ' + json.dumps(terms_of(1))[1:],
}


def test_every_answer_lands_on_its_clip(chat_server):
    numbers = range(40)
    chat_server.script({n: [list(WRONG.values())[n % len(WRONG)]] for n in numbers[::2]})
    results = annotate_clips([numbered_clip(n, frames=2) for n in numbers], [cinematography(chat_server)])
    assert [failures for _, failures in results] == [[]] * len(numbers)
    found = [{k: columns[k] for k in VOCABULARIES} for columns, _ in results]
    assert found == [terms_of(n) for n in numbers]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_an_answer_outside_the_vocabulary_is_asked_again_and_then_fails(chat_server, wrong):
    chat_server.script({1: [wrong] * 3})
    (bad, good) = annotate_clips([numbered_clip(n, frames=2) for n in (1, 2)], [cinematography(chat_server)])
    assert bad[0] == {}  # never a guess
    assert "after 3 attempts still no valid answer" in bad[1][0].error
    assert good[0].items() >= terms_of(2).items()
    asked = chat_server.asked(1)
    assert len(asked) == 3
    assert "Your last answer was not valid" in asked[1]["text"]


def test_the_complaint_names_the_terms(chat_server):
    chat_server.script({1: [WRONG["a word that is no term"]]})
    ((columns, failures),) = annotate_clips([numbered_clip(1, frames=2)], [cinematography(chat_server)])
    assert failures == []
    assert columns.items() >= terms_of(1).items()
    again = chat_server.asked(1)[1]["text"]
    assert "shot_size is 'cowboy shot'; it must be one of: extreme_wide, wide, full" in again


def test_what_is_asked(chat_server):
    annotate_clips([numbered_clip(5, frames=8)], [cinematography(chat_server)])
    (asked,) = chat_server.asked(5)
    assert asked["schema"] == SCHEMA
    assert asked["pictures"] == 2
    assert "$" not in asked["text"]
    for name, terms in VOCABULARIES.items():
        assert f"{name}: " in asked["text"]
        assert all(f"- {term}: {about.definition}" in asked["text"] for term, about in terms.items())
