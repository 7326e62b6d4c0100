"""The report's links into a running app: each leads to what the chart, clip or failure is about."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from reelwright.curation.store import Store
from reelwright.errors import UserError
from reelwright.pipelines.app.view import Page, View
from reelwright.pipelines.browse.report.links import AppLinks
from reelwright.pipelines.browse.report.page import render
from tests.pipelines.app.made import clip_id, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = make_store(tmp_path_factory.mktemp("links") / "store", clips=24)
    store.append("failures", [{"clip_id": clip_id(3), "stage": "blur", "error": "no frame 17", "attempts": 1}])
    store.snapshots.create("first", "select clip_id from clips limit 5")
    return store


@pytest.fixture(scope="module")
def links(store: Store) -> list[str]:
    page = render(store, links=AppLinks.to("http://127.0.0.1:8470/?token=secret-of-mine"))
    assert "secret-of-mine" not in page
    return [unescape(one) for one in re.findall(r'href="([^"#]*)', page) if one]


def test_bars_lead_to_the_clips_that_they_count(store: Store, links: list[str]) -> None:
    from reelwright.pipelines.app.columns import Columns
    from reelwright.pipelines.app.pages import page
    from reelwright.pipelines.app.reviews import Reviews
    from reelwright.pipelines.app.selection import Selection

    views = [json.loads(parse_qs(urlsplit(one).query)["v"][0]) for one in links if "v=" in one]
    ranges = [view["ranges"]["blur_score"] for view in views if "blur_score" in view.get("ranges", {})]
    assert len(ranges) > 4
    columns = Columns(store)
    reviews = Reviews(store, columns)
    selection = Selection(store, columns, reviews)
    shown = [
        page(selection, Page(view=View.model_validate({"ranges": {"blur_score": one}})))["shown"] for one in ranges
    ]
    assert all(shown), "no bar leads to nothing"
    words = [view["values"] for view in views if "camera_motion" in view.get("values", {})]
    assert {"camera_motion": ["static"]} in words
    assert {"camera_motion": [None]} in words
    assert any("snapshot = 'first'" in view.get("where", "") for view in views)
    reviews.close()


def test_clips_failures_and_runs_have_their_pages(links: list[str]) -> None:
    assert all(urlsplit(one).netloc == "127.0.0.1:8470" for one in links)
    assert f"http://127.0.0.1:8470/?clip={clip_id(3)}" in links
    assert f"http://127.0.0.1:8470/?clip={clip_id(0)}" in links


def test_without_an_address_the_page_has_no_links_and_a_wrong_one_is_a_sentence(
    store: Store, call, tmp_path: Path
) -> None:
    assert not [one for one in re.findall(r'href="([^"]*)', render(store)) if not one.startswith("#")]
    for wrong in ("127.0.0.1:8470", "javascript:alert(1)", "http://", "http://a:b/", "x"):
        with pytest.raises(UserError, match="no address of a reel app"):
            AppLinks.to(wrong)
    out = tmp_path / "r.html"
    done = call("report", "--store", store.uri, "--out", out, "--app", "http://localhost:8470")
    assert done.returncode == 0, done.stderr
    assert 'href="http://localhost:8470/"' in out.read_text()
