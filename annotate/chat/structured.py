"""JSON objects out of answers, parsed strictly."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

LONGEST = 100_000  # characters of an answer that are looked at
_FENCED = re.compile(r"\A```[ \t]*(?:json|JSON)?[ \t]*\r?\n(.*?)\r?\n?```\Z", re.DOTALL)


def parse_object(text: str) -> dict[str, Any]:
    """Return the JSON object that the text is, whole or in one fenced block.

    Raises:
        ValueError: anything else, such as words around it, a key twice, NaN.
    """
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError(f"the answer has {len(text)} characters")
    fenced = _FENCED.match(text)
    try:
        value = json.loads(
            fenced.group(1) if fenced else text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the answer is not one JSON object ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"the answer is a JSON {type(value).__name__}, not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the answer has a key twice: {next(k for k in keys if keys.count(k) > 1)!r}")
    return value


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse_constant(number)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"the answer holds {name[:20]}, which is no finite number")
