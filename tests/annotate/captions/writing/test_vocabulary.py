import json
import re
from dataclasses import replace

import pytest

from reelwright.annotate.captions.cinematography import SCHEMA, Cinematography, check
from reelwright.annotate.captions.writing.vocabulary import (
    CAMERA_MOTIONS,
    QUESTIONS,
    UNCLEAR,
    VOCABULARIES,
)
from reelwright.annotate.chat.answers import is_written_in
from reelwright.annotate.chat.vocabulary import Term, term_of, vocabulary_fingerprint
from reelwright.annotate.overlay.watermark_vlm import WATERMARKS, WatermarkVlm

ALL = {**VOCABULARIES, "watermark": WATERMARKS, "camera_motion": CAMERA_MOTIONS}


def test_terms_are_values_that_sql_can_name():
    for terms in ALL.values():
        assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name) for name in terms)


def test_every_property_is_asked_defined_and_a_column():
    assert VOCABULARIES.keys() == QUESTIONS.keys() == Cinematography.columns.keys() == set(SCHEMA["required"])
    for terms in (*VOCABULARIES.values(), WATERMARKS):
        definitions = [term.definition for term in terms.values()]
        assert all(definitions)
        assert len(set(definitions)) == len(definitions)
    assert all(UNCLEAR in terms for terms in VOCABULARIES.values())


@pytest.mark.parametrize("name", ["camera_motion", *VOCABULARIES])
def test_captions_can_say_every_term_in_both_languages(name):
    silent = {UNCLEAR, "flat"}
    for value, term in ALL[name].items():
        assert bool(term.en) == bool(term.zh) == (value not in silent)
        assert not term.en or is_written_in(term.en, "en")
        assert not term.zh or is_written_in(term.zh, "zh")


def test_the_schema_allows_what_the_check_allows():
    answer = {name: enum["enum"][0] for name, enum in SCHEMA["properties"].items()}
    check(answer)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    with pytest.raises(ValueError, match="lighting is 'dark'; it must be one of: daylight, "):
        check(answer | {"lighting": "dark"})
    with pytest.raises(ValueError, match="missing or unknown: mood"):
        check(answer | {"mood": "calm"})


def test_a_value_that_is_long_is_not_repeated_whole():
    with pytest.raises(ValueError, match="it must be one of") as error:
        term_of(WATERMARKS, "x" * 10_000, "kind")
    assert len(str(error.value)) < 300


def test_fingerprints_follow_the_words(monkeypatch):
    first, other, worded = (vocabulary_fingerprint({"a": term}) for term in (Term("b"), Term("c"), Term("b", "c")))
    assert first != other != worded
    before = Cinematography().fingerprint, WatermarkVlm().fingerprint
    monkeypatch.setitem(VOCABULARIES["lighting"], "night", replace(VOCABULARIES["lighting"]["night"], definition="x"))
    assert Cinematography().fingerprint != before[0]
    assert WatermarkVlm().fingerprint == before[1]
