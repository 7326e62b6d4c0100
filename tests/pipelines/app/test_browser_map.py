"""The map in a real Chromium: a lasso by the pointer is a filter in the address, names are texts, dots are clips."""

from __future__ import annotations

import math
import re

import pytest

from tests.pipelines.app.chromium import needs_chromium, opened, shows, soon, until
from tests.pipelines.app.made import CLIPS, CLUSTERS, clip_id

pytestmark = [pytest.mark.waits, needs_chromium]
FIRST = sum(1 for i in range(CLIPS) if i % 10 != 9 and i % 6 in (0, 1, 2))
"""Clips of the first cluster."""


def place(page, x: float, y: float) -> tuple[float, float]:
    """Return where on the screen a place of the map lies, while the whole of it is shown."""
    sheet = page.locator(".sheet canvas").bounding_box()
    cells = [min(400, math.ceil(sheet[side] / 4)) for side in ("width", "height")]
    # plane.py: the middle of all clips, and as much around as the longer side needs, with a margin
    left, right, low, high = -1, 11, -1, 9
    half = max((right - left) / cells[0], (high - low) / cells[1]) * 0.54
    return (
        sheet["x"] + sheet["width"] * ((x - (left + right) / 2) / (2 * half * cells[0]) + 0.5),
        sheet["y"] + sheet["height"] * (0.5 - (y - (low + high) / 2) / (2 * half * cells[1])),
    )


def lasso(page, x: float, y: float, radius: float) -> None:
    ring = [place(page, x + radius * math.cos(i / 4), y + radius * math.sin(i / 4)) for i in range(26)]
    page.mouse.move(*ring[0])
    page.mouse.down()
    for point in ring[1:]:
        page.mouse.move(*point)
    page.mouse.up()


def test_a_lasso_is_a_filter_that_the_address_holds(page, app, browser):
    page.click(".which >> text=map")
    page.wait_for_selector(".clusters li")
    lasso(page, 0, 0, 2.2)
    shows(page, FIRST)
    soon(page.locator(".clusters li .word")).to_have_text([CLUSTERS[0]])
    with opened(browser, app.url) as other:
        other.goto(page.url)
        shows(other, FIRST)
        soon(other.locator(".clusters li")).to_have_count(1)
        other.click(".chip >> text=a part of the map")
        shows(other, CLIPS - FIRST)  # what the lasso removes; a clip without a place lies in none
    page.click("[aria-label='remove the filter a part of the map']")
    shows(page, CLIPS)


def test_names_of_clusters_are_texts_and_filter_and_sizes_are_weighed(page):
    page.click(".which >> text=map")
    page.wait_for_selector(f".clusters li >> text={CLUSTERS[1]}")
    page.select_option("[aria-label='weighted by']", "cluster")
    page.wait_for_selector(".clusters .after")
    soon(page.locator(".clusters .bars small")).to_have_text([re.compile("→ 33.3 %$")] * 3)
    page.locator(".clusters label", has_text=CLUSTERS[1]).locator("input").check()
    page.wait_for_selector(f".chip >> text={CLUSTERS[1]}")
    soon(page.locator(".clusters b")).to_have_count(0)


def test_a_dot_is_a_clip(page):
    page.click(".which >> text=map")
    page.wait_for_selector(".clusters li")
    page.select_option(".mapbar select", "duration_s")
    page.wait_for_selector(".legend")
    page.mouse.move(*place(page, 1 / 3, 0))  # clip 0 lies there
    until(page, "document.querySelector('.peek video')?.currentTime > 0")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("[role=dialog] .about")
    soon(page.locator("[role=dialog]")).to_have_attribute("aria-label", f"clip {clip_id(0)}")
    page.keyboard.press("Escape")
    page.wait_for_selector(".sheet canvas:focus")
    soon(page.locator("[role=dialog]")).to_have_count(0)


def test_a_store_without_a_map_says_how_to_make_one(page):
    """The page is told that there are no such columns."""

    def without(route):
        answer = route.fetch()
        found = answer.json()
        found["columns"] = [one for one in found["columns"] if not one["name"].startswith("map_")]
        route.fulfill(response=answer, json=found)

    page.route("**/api/start", without)
    page.reload()
    page.wait_for_selector(".card[data-clip]")
    page.click(".which >> text=map")
    soon(page.locator(".map.empty code")).to_contain_text("--only=caption_map")
