"""How a clip is filmed and made, in fixed terms, by a chat model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.annotate.captions.writing.vocabulary import QUESTIONS, VOCABULARIES
from reelwright.annotate.chat.about_clip import AsksAboutClip
from reelwright.annotate.chat.asking import ask_json
from reelwright.annotate.chat.frame_times import FrameSampling
from reelwright.annotate.chat.vocabulary import described, enum_of, term_of, vocabulary_fingerprint
from reelwright.annotate.contract import Column, runtime

EIGHT_FRAMES = FrameSampling(min_frames=8, max_frames=8)
SCHEMA = {
    "type": "object",
    "properties": {name: enum_of(terms) for name, terms in VOCABULARIES.items()},
    "required": list(VOCABULARIES),
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Cinematography(AsksAboutClip):
    """Shot size, lens, angle, style, colour tone and lighting, each a term of the vocabulary or "unclear".

    The vocabulary is annotate/captions/writing/vocabulary.py. The answer is JSON, parsed strictly: one outside the
    vocabulary is asked again, and then the clip fails.
    """

    prompt: str = runtime("cinematography")
    sampling: FrameSampling = EIGHT_FRAMES

    name, version = "cinematography", 1
    profiles = ("full",)
    typical_tokens = (4500, 60)
    columns = {
        name: Column(pa.string(), f"{what}: {', '.join(VOCABULARIES[name])}") for name, what in QUESTIONS.items()
    }

    @property
    def models(self) -> tuple[str, ...]:
        """The chat model, the prompts and the vocabularies."""
        return (*super().models, vocabulary_fingerprint(*VOCABULARIES.values()))

    def batch(self, clips: Sequence[tuple]) -> list[dict[str, Any] | Exception]:
        """Ask one question per clip for all of its terms."""
        explained = "\n\n".join(f"{name}: {what}\n{described(VOCABULARIES[name])}" for name, what in QUESTIONS.items())
        questions = self._questions(clips, SCHEMA, vocabulary=explained, keys=", ".join(VOCABULARIES))
        return ask_json(self._chat, questions, check, self.attempts)


def check(answer: dict[str, Any]) -> None:
    """Raise ValueError unless the answer has exactly the properties, each with a term of its vocabulary."""
    wrong = sorted(answer.keys() ^ VOCABULARIES.keys())
    if wrong:
        raise ValueError(f"the keys must be exactly {', '.join(VOCABULARIES)}; missing or unknown: {', '.join(wrong)}")
    for name, terms in VOCABULARIES.items():
        term_of(terms, answer[name], name)
