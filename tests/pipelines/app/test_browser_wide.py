"""The page over 40,000 clips: the ends of a grid longer than a browser scrolls, ranges beyond it, order, and search."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.app.chromium import needs_chromium, opened, shows, soon, until
from tests.pipelines.app.made import Served, clip_id
from tests.pipelines.app.wide_made import CLIPS, make_wide_store

pytestmark = [pytest.mark.waits, needs_chromium]
SEARCHED = {"search": {"text": "a dog on a beach"}}
IN_SIGHT = """[...document.querySelectorAll('.card[data-clip]')].filter(one => {
  const card = one.getBoundingClientRect(), grid = document.querySelector('.grid').getBoundingClientRect();
  return card.top < grid.bottom - 1 && card.bottom > grid.top + 1 }).map(one => one.id + ' ' + one.dataset.clip)"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wide") / "store"
    make_wide_store(path)
    return path


@pytest.fixture
def page(browser: Any, app: Served) -> Iterator[Any]:
    """A narrow window with the largest cards: the grid is higher than the 12,000,000 px that the page lets it be."""
    with opened(browser, app.url, viewport={"width": 640, "height": 900}) as found:
        found.evaluate("localStorage.setItem('size', '480')")
        found.reload()
        shows(found, f"{CLIPS:,}")
        yield found


def reaches(page: Any, place: int, name: str) -> None:
    """Wait until a clip stands in its place and is in sight, and all around it are in theirs."""
    until(page, f"{IN_SIGHT}.includes('card-{place} {name}')")
    for one in page.evaluate(IN_SIGHT):
        card, clip = one.split()
        assert clip == clip_id(int(card.removeprefix("card-")))


def test_each_of_many_clips_can_be_scrolled_to_selected_up_to_and_sorted(page, app):
    squeezed = page.evaluate("document.querySelector('.grid > div').offsetHeight")
    assert squeezed == 12_000_000
    page.focus(".grid")
    page.keyboard.press("End")
    reaches(page, CLIPS - 1, clip_id(CLIPS - 1))
    page.keyboard.press("ArrowUp")
    reaches(page, CLIPS - 2, clip_id(CLIPS - 2))
    page.evaluate("document.querySelector('.grid').scrollTop = 6e6")
    until(page, f"{IN_SIGHT}.some(one => Math.abs(one.split(' ')[0].slice(5) - {CLIPS // 2}) < 3)")
    until(page, "document.querySelectorAll('.card').length < 12")  # the rest is not there

    page.fill(".sql textarea", "duration_s <= 4")  # the last 3,001, of which the page holds 60
    page.click(".sql button:has-text('Filter')")
    shows(page, "3,001")
    page.focus(".grid")
    page.keyboard.press("x")
    page.keyboard.press("End")
    page.keyboard.press("Shift+X")
    page.wait_for_selector("text=3,001 selected")
    page.keyboard.press("t")
    page.keyboard.type("short")
    page.keyboard.press("Enter")
    page.wait_for_selector(".toast >> text=3,001 tagged short")
    page.set_viewport_size({"width": 1280, "height": 900})  # a phone has no buttons for all
    page.click("footer >> text=tag all shown")
    page.wait_for_selector("[role=dialog][aria-label=tag] >> text=3,001 clips")
    page.keyboard.type("all")
    page.keyboard.press("Enter")
    page.wait_for_selector(".toast >> text=3,001 tagged all")
    view = {"values": {"review_tags": ["short"]}, "where": "list_contains(review_tags, 'all')"}
    assert app.call("page", view=view)["shown"] == 3_001

    page.select_option("[aria-label='sort by']", "duration_s")
    page.wait_for_selector(f"#card-0[data-clip='{clip_id(CLIPS - 1)}']")
    page.click(".sort button")
    page.wait_for_selector(f"#card-0[data-clip='{clip_id(CLIPS - 3_001)}']")


def test_clips_are_found_by_words_by_another_clip_and_beside_it(page):
    page.fill("#search", "a dog on a beach")
    page.keyboard.press("Enter")
    shows(page, 4)  # those with vectors
    for i in (0, 1):
        soon(page.locator(f"#card-{i}")).to_have_attribute("data-clip", re.compile(f"{clip_id(0)}|{clip_id(3)}"))
    page.focus("#search")
    page.keyboard.press("Escape")
    page.locator(f".card[data-clip='{clip_id(0)}']").click()
    page.wait_for_selector(f"[role=dialog][aria-label='clip {clip_id(0)}'] .about")
    beside = page.locator("section", has=page.locator("h2:text-is('Nearest by caption')")).locator(".near button")
    soon(beside.first).to_have_attribute("aria-label", re.compile(clip_id(3)))
    by_look = page.locator("section", has=page.locator("h2:text-is('Nearest by look')")).locator(".near button")
    for n, i in enumerate((1, 2, 3)):
        soon(by_look.nth(n)).to_have_attribute("aria-label", re.compile(clip_id(i)))
    by_look.first.click()
    page.wait_for_selector(f"[role=dialog][aria-label='clip {clip_id(1)}'] .about")
    page.click("text=more that look so")
    page.wait_for_selector(f".chip >> text=like {clip_id(1)[:8]}")
    page.wait_for_selector(f"#card-0[data-clip='{clip_id(2)}']")
    page.locator(f".card[data-clip='{clip_id(0)}']").click()
    page.click("text=more like this")
    page.wait_for_selector(f"#card-0[data-clip='{clip_id(3)}']")


def test_a_search_is_narrowed_to_the_nearest_and_to_a_least_similarity(page, app):
    page.fill("#search", "a dog on a beach")
    page.keyboard.press("Enter")
    shows(page, 4)
    near = {row["clip_id"]: row["similarity"] for row in app.call("page", view=SEARCHED)["rows"]}
    assert min(near[clip_id(0)], near[clip_id(3)]) > 0.4 > max(near[clip_id(1)], near[clip_id(2)])
    soon(page.locator(f".card[data-clip='{clip_id(0)}'] .facts")).to_contain_text(f"similarity {near[clip_id(0)]:.2f}")
    least, most = page.get_by_label("least similarity"), page.get_by_label("most clips of the search")
    soon(least).to_have_attribute("placeholder", f"{min(near.values()):.2f}")
    least.fill("0.4")
    page.keyboard.press("Enter")
    shows(page, 2)
    shown = {one.get_attribute("data-clip") for one in page.locator(".card[data-clip]").all()}
    assert shown == {clip_id(0), clip_id(3)}
    soon(page.locator(".chip")).to_contain_text(f"similarity ≥ 0.4 −{CLIPS - 2:,}")
    soon(page).to_have_url(re.compile("least"))
    page.reload()
    shows(page, 2)
    page.click("text=Snapshots")
    page.wait_for_selector("text=2 clips")
    page.keyboard.press("Escape")
    most.fill("1")
    page.keyboard.press("Enter")
    shows(page, 1)
    page.fill("#search", "onions")  # what is set stays for the next words
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#card-0[data-clip='{clip_id(1)}']")
    shows(page, 1)
    for field in (least, most):
        field.fill("")
        page.keyboard.press("Enter")
    shows(page, 4)
