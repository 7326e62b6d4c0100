"""Compositions: a caption together with how its clip is filmed, drawn with a seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from reelwright.annotate.captions.writing.vocabulary import CAMERA_MOTIONS, VOCABULARIES
from reelwright.annotate.chat.vocabulary import Term, vocabulary_fingerprint

ELEMENTS: Mapping[str, Mapping[str, Term]] = {"camera_motion": CAMERA_MOTIONS, **VOCABULARIES}
MOST = 3  # elements in one composition
# The hash of its bytes is in fingerprints, comments included: line 2 names the place where vocabulary.py used to be.
_FILE = Path(__file__).with_name("compositions.yaml")
_ENDS = tuple(".!?。！？…\"'”’」)）")


def compose(caption: str, language: str, known: Mapping[str, Any], seed: int, number: int) -> str | None:
    """Return the `number`-th composition of a caption: one to three known elements as sentences before or after it.

    The draw follows from the arguments alone: it is the same on every machine.

    Args:
        caption: the text in the middle.
        language: of the caption: en, zh or und.
        known: values of ELEMENTS.
        seed: of the draw.
        number: of the composition, for several of one caption.

    Returns:
        The text; None where the language has no templates, or no element can be said.
    """
    templates = _templates().get(language)
    words = {name: _term(name, known.get(name), language) for name in ELEMENTS}
    sayable = [name for name, text in words.items() if text]
    if not templates or not sayable:
        return None
    draws = _draws(json.dumps([seed, number, language, caption, [words[n] for n in sayable]]))
    before: list[str] = []
    after: list[str] = []
    for _ in range(1 + next(draws) % min(MOST, len(sayable))):
        name = sayable.pop(next(draws) % len(sayable))
        wordings = templates[name]
        sentence = _filled(wordings[next(draws) % len(wordings)], words[name])
        (before, after)[next(draws) % 2].append(sentence)
    whole = caption if caption.endswith(_ENDS) else caption + {"zh": "。"}.get(language, ".")
    return {"zh": ""}.get(language, " ").join([*before, whole, *after])


def templates_fingerprint() -> str:
    """Return version and hash of the templates, which is the `model` of a composition."""
    return f"compositions@{_read()['version']}:{hashlib.sha256(_FILE.read_bytes()).hexdigest()[:12]}"


def compositions_fingerprint() -> str:
    """Return an entry of `Annotator.models` that changes with templates and words."""
    return f"{templates_fingerprint()}:{vocabulary_fingerprint(*ELEMENTS.values())}"


def _term(name: str, value: Any, language: str) -> str:
    term = ELEMENTS[name].get(value) if isinstance(value, str) else None
    return getattr(term, language, "") if term and language in ("en", "zh") else ""


def _filled(wording: str, term: str) -> str:
    return wording.replace("{term}", term).replace("{Term}", term[0].upper() + term[1:])


def _draws(key: str) -> Iterator[int]:
    """Endless numbers that follow from the key: no library's generator, since its draws may change with its version."""
    count = 0
    while True:
        yield int.from_bytes(hashlib.sha256(f"{count}:{key}".encode("utf-8", "surrogatepass")).digest()[:8], "big")
        count += 1


def _templates() -> dict[str, dict[str, list[str]]]:
    return {language: texts for language, texts in _read().items() if language != "version"}


@cache
def _read() -> dict[str, Any]:
    import yaml

    return yaml.safe_load(_FILE.read_text(encoding="utf-8"))
