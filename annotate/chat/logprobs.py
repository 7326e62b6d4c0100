"""Log-probabilities of an answer's tokens, in OpenAI's form."""

from __future__ import annotations

import math
from typing import Any

from reelwright.annotate.chat.base import Token


def tokens_of(logprobs: Any) -> tuple[Token, ...]:
    """Return the tokens of a choice's `logprobs`; none where they are missing or not of OpenAI's form."""
    try:
        return tuple(_token(one) for one in logprobs["content"])
    except (LookupError, TypeError, ValueError, AttributeError):  # whatever a server sends
        return ()


def _token(one: Any) -> Token:
    likeliest = {str(other["token"]): float(other["logprob"]) for other in [*(one.get("top_logprobs") or ()), one]}
    if any(math.isnan(value) or value > 0.01 for value in likeliest.values()):  # bf16 servers round 1 up a little
        raise ValueError("a log-probability is above 0")
    return Token(str(one["token"]), likeliest)
