"""Links for raters: each opens the pages of one study for one rater, and nothing else of the server."""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from secrets import token_hex

from reelwright.pipelines.evaluate.rating.routes import link_token
from reelwright.pipelines.runtime.serving.guard import TOKEN, Guest

LINK = re.compile(r"([0-9a-f]{16})\.([A-Za-z0-9_-]{1,400})\.([0-9a-f]{40})")
"""Study, name of the rater in base64, and the proof that this server handed the link out."""


class RaterLinks:
    """Links that are checked by a secret alone, so that a stranger's request asks nothing of the store.

    Args:
        key: the secret; empty: a new one, with which links end when the server does.
    """

    def __init__(self, key: str = "") -> None:
        self._key = key or token_hex(32)

    def address(self, study_id: str, rater: str) -> str:
        """Return the address of a rater's page, without the server's name."""
        name = urlsafe_b64encode(rater.encode()).decode().rstrip("=")
        return f"{_under(study_id)}?{TOKEN}={study_id}.{name}.{link_token(self._key, study_id, rater)}"

    def guest(self, token: str) -> Guest | None:
        """Return whose link carries a token and what it opens; None: this server handed out no such link."""
        found = LINK.fullmatch(token)
        if found is None:
            return None
        study_id, name, given = found.groups()
        try:
            rater = urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        is_ours = hmac.compare_digest(given, link_token(self._key, study_id, rater))
        return Guest(rater, _under(study_id)) if is_ours else None


def _under(study_id: str) -> str:
    return f"/rate/{study_id}/"
