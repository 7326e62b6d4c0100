"""The page for everybody: axe finds no serious fault, keys alone reach all of it, nothing is wider than the screen."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.app.chromium import IS_CI, needs_chromium, opened, soon, until
from tests.pipelines.app.made import Served

pytestmark = [pytest.mark.waits, needs_chromium]
VIEWS = ("filters", "sql", "map", "clip", "compared", "keys", "tag")
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
        assert not IS_CI, "axe-playwright-python is not installed, though REEL_CI asks for it; it is in the extra dev"
        pytest.skip("axe-playwright-python is not installed here; it is in the extra dev")
    return Path(found.origin).with_name("axe.min.js").read_text()


@pytest.fixture(scope="module", autouse=True)
def two_snapshots(app: Served) -> None:
    for name, where in (("one", "duration_s < 3"), ("other", "duration_s between 2 and 4")):
        app.call("freeze", name=name, view={"where": where})


def show(page: Any, view: str) -> None:
    """Open a part of the page, from the grid."""
    if view == "filters":
        page.click("[aria-label=filters] >> nth=0") if page.locator("button.menu").is_visible() else None
        page.fill(".sql textarea", "dur")
        page.focus(".sql textarea")
        page.keyboard.type("a")
        page.wait_for_selector("#offers li")
    elif view == "sql":
        page.fill(".sql textarea", "select clip_id, duration_s, camera_motion from clips")
        page.click(".sql button:has-text('Run')")
        page.wait_for_selector(".result td")
    elif view == "map":
        page.click(".which >> text=map")
        page.wait_for_selector(".clusters li")
        page.select_option("[aria-label='weighted by']", "cluster")
        page.wait_for_selector(".clusters .after")
    elif view == "clip":
        page.locator(".card[data-clip]").first.click()
        page.wait_for_selector("[role=dialog] .about")
        page.locator(".gaps summary").click()
    elif view == "compared":
        page.click("text=Snapshots")
        page.fill("[aria-label='name of the snapshot']", "to-be")
        page.wait_for_selector("[role=dialog] .as-command")
        for side, name in (("from", "one"), ("to", "other")):
            page.check(f"[aria-label='{side} {name}']")
        page.click("[role=dialog] button:has-text('Compare')")
        page.wait_for_selector("[aria-label=comparison] .pairs")
    elif view in ("keys", "tag"):
        page.focus(".grid")
        page.keyboard.press("?" if view == "keys" else "t")
        page.wait_for_selector(f"[role=dialog][aria-label={view}]")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.every(2)
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


@pytest.mark.parametrize(("view", "width"), [
    ("sql", 1280), ("map", 1280), ("compared", 1280), ("clip", 390), ("grid", 390),
])  # fmt: skip
def test_the_tab_key_reaches_every_control(page, view, width):
    page.set_viewport_size({"width": width, "height": 840})
    show(page, view)
    reach_all(page)


def reach_all(page: Any) -> None:
    """Press Tab until every control has had the focus, and see that the last shows it."""
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
    for key in "nnp":  # the clip in the middle, the next, and back
        page.keyboard.press(key)
    said = page.wait_for_selector("#map-says:has-text('Enter opens it')").text_content()
    page.wait_for_selector(".peek")
    page.keyboard.press("Enter")
    dialog = page.wait_for_selector("[role=dialog]")
    assert dialog.get_attribute("aria-label") in said
    page.keyboard.press("Escape")
    page.wait_for_selector(".sheet canvas:focus")
    for key in ("+", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown"):  # to the second cluster
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_selector(".chip >> text=a part of the map")
    until(page, "Number(document.querySelector('.size b').textContent) < 20")
    assert int(page.locator(".size b").text_content()) > 0
    soon(page).to_have_url(re.compile("map="))
    page.focus(".clusters input >> nth=0")
    page.keyboard.press("Space")
    page.wait_for_selector(".chip >> text=cluster_name")
