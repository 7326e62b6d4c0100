"""Names of clusters of captions: by their words, or by a chat model that reads some of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from reelwright.annotate.chat.asking import each_json
from reelwright.annotate.chat.base import Question
from reelwright.annotate.chat.model import ChatModel
from reelwright.annotate.chat.prompts import load_prompt
from reelwright.annotate.chat.registry import open_chat
from reelwright.annotate.sets.clustering.stop_words import ENGLISH

Names = list[str | None]

TERMS = 3  # words of a name; more where two clusters would be called the same
COMMON = 0.1  # share of a cluster's captions that a word of its name must be in
LONGEST_NAME = 60  # characters
SHOWN = 300  # characters of a caption that a model is shown
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\d_]+(?:['’-][^\W\d_]+)*")
_HAN = re.compile(r"[\u3400-\u9fff]")
# words about being a video, which say nothing of its content
_FILLER = frozenset({
    "appears", "camera", "clip", "clips", "footage", "frame", "frames", "image", "scene", "scenes", "seen", "shot",
    "shots", "showing", "shows", "video", "videos",
})  # fmt: skip
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}},
    "required": ["name"],
    "additionalProperties": False,
}


def by_terms(clusters: Sequence[Sequence[str]]) -> Names:
    """Return the words most typical of each cluster's captions by c-TF-IDF (Grootendorst, 2022).

    That is frequency in the cluster times log(1 + mean words of a cluster / frequency overall), each word counted once
    per caption.

    None where a cluster has no words. Names differ as far as words do.
    """
    counts = [Counter(word for text in texts for word in set(words(text))) for texts in clusters]
    overall = sum(counts, Counter())
    mean = overall.total() / max(1, len(counts))
    ranked = [_ranked(count, overall, mean, len(texts)) for count, texts in zip(counts, clusters, strict=True)]
    names: Names = []
    for terms in ranked:
        tried = [", ".join(terms[:n]) for n in range(min(TERMS, len(terms)), len(terms) + 1)]
        names.append(next((name for name in tried[:TERMS] if name not in names), tried[0]) or None)
    return names


def by_model(
    clusters: Sequence[Sequence[str]], chat: ChatModel, prompt: str, attempts: int
) -> Iterator[tuple[int, str | Exception]]:
    """Name each cluster that has captions from them, the most typical first.

    Yields:
        A cluster's place and its short name, or the model's ChatError or Postponed, as the answers come.
    """
    filled = load_prompt(prompt)
    shown = ["\n".join(f"- {' '.join(text[:SHOWN].split())}" for text in texts) for texts in clusters]
    asked = [i for i, text in enumerate(shown) if text]
    questions = [Question(filled.filled(captions=shown[i]), filled.system, schema=SCHEMA) for i in asked]
    for at, answer in each_json(open_chat(chat), questions, _check, attempts):
        yield asked[at], _name_in(answer)


def told_apart(names: Sequence[str | None], kept: Sequence[str | None]) -> Names:
    """Return the names, with a number where one is taken; kept: for each cluster the name that it keeps, if any."""
    taken = {name for name in kept if name}
    apart: Names = []
    for name, old in zip(names, kept, strict=True):
        new, number = name, 2
        while name and not old and new in taken:
            new, number = f"{name} ({number})", number + 1
        taken |= {new} if new else set()
        apart.append(new)
    return apart


def words(text: str) -> list[str]:
    """Return words that can name something, in lower case; Chinese, which has no spaces, as pairs of characters."""
    found = _WORD.findall(text.lower())
    pairs = [a + b for a, b in pairwise(found) if _HAN.match(a) and _HAN.match(b)]
    plain = [w.removesuffix("'s").removesuffix("’s") for w in found if not _HAN.match(w)]
    return [w for w in plain if len(w) > 2 and w not in ENGLISH and w not in _FILLER] + pairs


def _ranked(count: Counter[str], overall: Counter[str], mean: float, captions: int) -> list[str]:
    """Most typical first; of words that are forms of one another (dog, dogs) the first alone."""
    total = max(1, count.total())
    score = {w: c / total * math.log(1 + mean / overall[w]) for w, c in count.items() if c >= COMMON * captions}
    chosen: list[str] = []
    for word in sorted(score, key=lambda w: (-score[w], w)):
        if not any(_same_stem(word, other) for other in chosen):
            chosen.append(word)
        if len(chosen) == 2 * TERMS:
            break
    return chosen


def _same_stem(a: str, b: str) -> bool:
    """Return whether two words have one stem: dog and dogs, animated and animation.

    It goes by their beginnings, so it is now and then wrong, which costs a name one word.
    """
    short, long = sorted((a, b), key=len)
    shared = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    return (shared == len(short) and len(long) - len(short) <= 2) or shared >= max(4, 0.55 * len(long))


def _name_in(answer: dict[str, Any] | Exception) -> str | Exception:
    return answer if isinstance(answer, Exception) else _cleaned(answer["name"])


def _check(answer: dict[str, Any]) -> None:
    name = answer.get("name")
    if set(answer) != {"name"} or not isinstance(name, str):
        raise ValueError('it must be {"name": "…"} and nothing else')
    if not 0 < len(_cleaned(name)) <= LONGEST_NAME:
        raise ValueError(f"the name has {len(_cleaned(name))} characters; it must have 1 to {LONGEST_NAME}")


def _cleaned(name: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())
