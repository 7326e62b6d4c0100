"""Byte ranges as RFC 9110 has them, and requests that come from elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.pipelines.runtime.serving.guard import refusal
from reelwright.pipelines.runtime.serving.ranges import part

HOSTS = frozenset({"127.0.0.1", "localhost"})
OURS = {"host": "127.0.0.1:8470", "content-type": "application/json"}


@pytest.mark.parametrize(("header", "expect"), [
    (None, (0, 10)), ("bytes=0-", (0, 10)), ("bytes=2-4", (2, 5)), ("bytes=9-99", (9, 10)), ("bytes=-3", (7, 10)),
    ("bytes=-99", (0, 10)), ("bytes=10-", None), ("bytes=-0", None), ("bytes=4-2", (0, 10)), ("bytes=-", (0, 10)),
    ("bytes=0-1,4-5", (0, 10)), ("items=0-1", (0, 10)), ("bytes=" + "9" * 200 + "-", (0, 10)), ("", (0, 10)),
])  # fmt: skip
def test_a_range_is_read_as_the_rfc_says(header, expect):
    assert part(header, 10) == expect


@given(header=st.one_of(st.text(max_size=40), st.from_regex(r"bytes=\d{0,30}-\d{0,30}", fullmatch=True)),
       size=st.integers(0, 1_000))  # fmt: skip
def test_no_range_asks_for_bytes_that_are_not_there(header, size):
    found = part(header, size)
    assert found is None or 0 <= found[0] <= found[1] <= size


@pytest.mark.parametrize("headers", [
    OURS, OURS | {"origin": "http://127.0.0.1:8470"}, OURS | {"sec-fetch-site": "same-origin"},
    OURS | {"host": "localhost:8470"}, OURS | {"content-type": "application/json; charset=utf-8"},
])  # fmt: skip
def test_a_page_of_ours_may_post(headers):
    assert refusal("POST", headers, HOSTS) == ""


@pytest.mark.parametrize("headers", [
    OURS | {"origin": "http://evil.example"}, OURS | {"origin": "null"}, OURS | {"origin": "http://127.0.0.1:9999"},
    OURS | {"sec-fetch-site": "cross-site"}, OURS | {"sec-fetch-site": "same-site"}, OURS | {"host": "evil.example"},
    OURS | {"host": ""}, OURS | {"content-type": "text/plain"}, {"host": "127.0.0.1:8470"},
    OURS | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
])  # fmt: skip
def test_another_page_may_not(headers):
    assert refusal("POST", headers, HOSTS)


def test_a_link_may_be_followed_to_the_page_and_no_picture_of_it_shown_elsewhere():
    site = {"host": "127.0.0.1:8470", "sec-fetch-site": "cross-site"}
    assert refusal("GET", site | {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, HOSTS) == ""
    assert refusal("GET", site | {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, HOSTS)
    assert refusal("GET", site | {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "video"}, HOSTS)
