"""Closed vocabularies: terms that a model must answer in, as prompts explain them and as captions say them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Term:
    """A term of a vocabulary.

    Args:
        definition: as the prompt explains it.
        en: how an English caption says it; "" where a caption has nothing to say.
        zh: the same in Chinese.
    """

    definition: str
    en: str = ""
    zh: str = ""


def vocabulary_fingerprint(*vocabularies: Mapping[str, Term]) -> str:
    """Return an entry of `Annotator.models` that changes with any term, definition or wording."""
    terms = [{name: asdict(term) for name, term in vocabulary.items()} for vocabulary in vocabularies]
    return f"vocabulary@{hashlib.sha256(json.dumps(terms).encode()).hexdigest()[:12]}"


def described(vocabulary: Mapping[str, Term]) -> str:
    """Return one line per term, for a prompt."""
    return "\n".join(f"- {name}: {term.definition}" for name, term in vocabulary.items())


def enum_of(vocabulary: Mapping[str, Term]) -> dict[str, object]:
    """Return the JSON schema of one term."""
    return {"type": "string", "enum": list(vocabulary)}


def term_of(vocabulary: Mapping[str, Term], value: object, what: str) -> str:
    """Return the value if it is exactly a term.

    Raises:
        ValueError: it is none; worded for the model that is asked again, in which `what` names the value.
    """
    if not isinstance(value, str) or value not in vocabulary:
        raise ValueError(f"{what} is {str(value)[:60]!r}; it must be one of: {', '.join(vocabulary)}")
    return value
