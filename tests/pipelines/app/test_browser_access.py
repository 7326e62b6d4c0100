"""The page for everybody: axe finds no serious fault, keys alone reach all of it, nothing is wider than the screen."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.app.chromium import needs_chromium, opened, until

pytestmark = [pytest.mark.waits, needs_chromium]
VIEWS = ("grid", "filters", "map", "clip", "snapshots", "keys", "tag")
GRAVE = ("serious", "critical")
FOCUSABLE = "button, input, select, textarea, a[href], summary, [tabindex='0'], video[controls]"
NOTE_FOCUS = """() => { window.reached = new Set(); addEventListener('focusin', e => window.reached.add(e.target)); }"""
NOT_REACHED = f"""() => [...document.querySelectorAll(`{FOCUSABLE}`)].filter(one =>
  !window.reached.has(one) && !one.disabled && !one.closest('[inert]') && one.tabIndex >= 0 && one.checkVisibility({{
  visibilityProperty: true}}) && !(one.type === 'radio')).map(one => one.outerHTML.slice(0, 120))"""
MOST_TABS = 400


def axe() -> str:
    """Return axe-core (https://github.com/dequelabs/axe-core), as axe-playwright-python of the dev extra carries it."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("axe-playwright-python is not installed here; it is in the extra dev")
    return Path(found.origin).with_name("axe.min.js").read_text()


def show(page: Any, view: str) -> None:
    """Open a part of the page, from the grid."""
    if view == "filters":
        page.click("[aria-label=filters] >> nth=0") if page.locator("button.menu").is_visible() else None
        page.fill(".sql textarea", "dur")
        page.focus(".sql textarea")
        page.keyboard.type("a")
        page.wait_for_selector("#offers li")
    elif view == "map":
        page.click(".which >> text=map")
        page.wait_for_selector(".clusters li")
        page.select_option("[aria-label='weighted by']", "cluster")
        page.wait_for_selector(".clusters .after")
    elif view == "clip":
        page.locator(".card[data-clip]").first.click()
        page.wait_for_selector("[role=dialog] .about")
        page.locator(".gaps summary").click()
    elif view == "snapshots":
        page.click("text=Snapshots")
        page.wait_for_selector("[role=dialog] form")
    elif view in ("keys", "tag"):
        page.focus(".grid")
        page.keyboard.press("?" if view == "keys" else "t")
        page.wait_for_selector(f"[role=dialog][aria-label={view}]")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_no_serious_fault_and_nothing_is_wider_than_the_screen(browser, app, scheme, width):
    script = axe()
    for view in VIEWS:
        size = {"width": width, "height": 840}
        with opened(browser, app.url, viewport=size, color_scheme=scheme, bypass_csp=True) as page:
            page.wait_for_selector(".card[data-clip]")
            show(page, view)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view
            page.evaluate(script)
            found = [one for one in page.evaluate("axe.run()")["violations"] if one["impact"] in GRAVE]
            assert not found, (view, [(one["id"], one["nodes"][0]["html"][:300]) for one in found])


@pytest.mark.parametrize("view", ["grid", "map", "clip", "snapshots"])
def test_the_tab_key_reaches_every_control(page, view):
    show(page, view)
    page.evaluate(NOTE_FOCUS)
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if not page.evaluate(NOT_REACHED):
            break
    assert page.evaluate(NOT_REACHED) == []
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", "the focus is seen"


def test_keys_alone_open_the_map_lasso_what_is_in_sight_and_choose_a_cluster(page):
    page.focus(".which >> text=map")
    page.keyboard.press("Enter")
    page.wait_for_selector(".clusters li")
    page.focus(".sheet canvas")
    for key in ("+", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown"):  # to the second cluster
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_selector(".chip >> text=a part of the map")
    until(page, "Number(document.querySelector('.size b').textContent) < 20")
    assert int(page.locator(".size b").text_content()) > 0
    assert "map=" in page.url
    page.focus(".clusters input >> nth=0")
    page.keyboard.press("Space")
    page.wait_for_selector(".chip >> text=cluster_name")
