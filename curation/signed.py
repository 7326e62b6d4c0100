"""Addresses whose query holds a signature: it opens the file, and is no part of the file's name.

A `SignedAddress` is the address without the signature wherever it is printed, compared or stored. What fetches the file
asks `link_of`.
"""

from __future__ import annotations

import re
from typing import Any

WEB = ("http://", "https://")
OF_VENDORS = r"x-(?:amz|goog|oss|cos|obs|tos)-[\w-]+|q-(?:sign|ak|key|header|url)[\w-]*"
OLDER = r"AWSAccessKeyId|GoogleAccessId|OSSAccessKeyId|Key-Pair-Id|Policy|Hash-Algorithm|Expires|Signature"
OF_AZURE = "sv|ss|srt|sp|se|st|spr|sig|sr|sip|sdd|si|skoid|sktid|skt|ske|sks|skv|saoid|suoid|scid|ses"
SIGNATURE = r"x-[\w]+-signature|x-[\w]+-security-token|q-signature|signature|sig"
"""Names of parameters whose value signs; a query without any of them is left as it is."""
SIGNS = re.compile(rf"(?:{OF_VENDORS}|{OLDER})", re.IGNORECASE)
SIGNS_ON_AZURE = re.compile(rf"(?:{OF_AZURE})", re.IGNORECASE)
TOLD = rf"{SIGNATURE}|x-[\w]+-credential|policy"
IN_TEXT = re.compile(rf"((?:[?&]|%3F|%26)(?:{TOLD})(?:=|%3D))[^&\s'\"<>)]+", re.IGNORECASE)


class SignedAddress(str):
    """An address without its signature. link: with it."""

    link: str

    def __new__(cls, name: str, link: str) -> SignedAddress:
        """Make the address `name` of what is behind `link`."""
        made = super().__new__(cls, name)
        made.link = link
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return SignedAddress, (str(self), self.link)


def address(uri: str) -> str:
    """Return the address of a file: a `SignedAddress` where the query of a web address is signed, else `uri`."""
    before, mark, query = uri.partition("?")
    if not mark or not uri.lower().startswith(WEB):
        return uri
    query, hash_mark, fragment = query.partition("#")
    parameters = query.split("&")
    names = [parameter.partition("=")[0] for parameter in parameters]
    if not any(re.fullmatch(SIGNATURE, name, re.IGNORECASE) for name in names):
        return uri
    is_azure = any(name.lower() == "sig" for name in names)
    signs = SIGNS_ON_AZURE if is_azure else SIGNS
    kept = [one for one, name in zip(parameters, names, strict=True) if not signs.fullmatch(name)]
    return SignedAddress(before + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment, uri)


def with_link(uri: str, link: str | None) -> str:
    """Return an address as it was before it travelled without its link."""
    return uri if link is None else SignedAddress(uri, link)


def link_of(uri: str) -> str:
    """Return what is asked of a server for the file of this address."""
    return uri.link if isinstance(uri, SignedAddress) else uri


def is_signed(uri: str) -> bool:
    """Return whether an address came with a signature."""
    return isinstance(uri, SignedAddress)


def without_signatures(text: str) -> str:
    """Return a text, such as the message of a library, without the signatures of the addresses in it."""
    return IN_TEXT.sub(r"\1…", text)
