"""The page in a real Chromium: filter, play, drop, undo, tag, edit a caption, freeze, export; also by keys alone."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.pipelines.app.made import CLIPS, HOSTILE, Served, clip_id, make_store, served

pytestmark = pytest.mark.waits
FRONTEND = ROOT / "pipelines" / "app" / "frontend"
BUILT = ROOT / "pipelines" / "app" / "built"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
PATIENCE_MS = 60_000
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; install it with: apt-get install chromium")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("browser") / "store"
    make_store(path)
    return path


@pytest.fixture(scope="module")
def app(path: Path) -> Iterator[Served]:
    with served(path) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def page(browser: Any, app: Served) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    said: list[str] = []
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: dialog.accept())
    opened.goto(app.url)
    opened.wait_for_selector(".card[data-clip]")
    yield opened
    context.close()
    assert said == []


def shows(page: Any, count: int) -> None:
    """Wait until the page says that it shows so many clips."""
    page.wait_for_selector(f".size b:text-is('{count}')")


def until(page: Any, expression: str) -> None:
    """Wait until JavaScript says so; the page itself may evaluate no text, and so not be asked to wait."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


@needs_chromium
def test_from_a_filter_to_an_export(page, app, path, reel, tmp_path):
    page.fill("[aria-label='least duration_s, exactly']", "3")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    shows(page, 24)
    assert "duration_s" in page.url
    card = page.locator(f".card[data-clip='{clip_id(20)}']")
    card.hover()
    until(page, "document.querySelector('.card:hover video')?.currentTime > 0")

    card.click()
    page.wait_for_selector("[role=dialog] .about")
    until(page, "document.querySelector('.player video').readyState >= 2")
    for key, frame in ((".", 1), (".", 2), (",", 1)):
        page.evaluate("document.querySelector('.player video').pause()")
        if (key, frame) == (".", 1):
            page.evaluate("document.querySelector('.player video').currentTime = 0.001")
            page.wait_for_selector("[data-frame='0']")
        page.keyboard.press(key)
        page.wait_for_selector(f"[data-frame='{frame}']")
    page.keyboard.press("d")
    page.wait_for_selector(".decide .drop.on")
    page.keyboard.press("u")
    page.wait_for_selector(".decide .drop:not(.on)")
    page.fill("[aria-label='add a tag']", "round")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=round ×")
    page.fill(".editor textarea", "A ball, told by a person.")
    page.click("text=Save caption")
    page.wait_for_selector(".captions li >> text=A ball, told by a person.")
    page.keyboard.press("Escape")  # out of the text
    page.keyboard.press("Escape")
    page.wait_for_selector(f".card[data-clip='{clip_id(20)}'] >> text=A ball, told by a person.")

    page.locator(f".card[data-clip='{clip_id(21)}']").click(modifiers=["Control"])
    page.locator(f".card[data-clip='{clip_id(22)}']").click(modifiers=["Control"])
    page.wait_for_selector("text=2 selected")
    page.keyboard.press("d")
    page.wait_for_selector(f".card.drop[data-clip='{clip_id(22)}']")
    page.fill(".sql textarea", "review_verdict is distinct from 'drop'")
    page.click(".sql button:has-text('Filter')")
    shows(page, 22)

    page.click("text=Snapshots")
    page.fill("[aria-label='name of the snapshot']", "from-the-page")
    page.click("text=Save snapshot")
    page.wait_for_selector(".made >> text=22 clips")
    command = page.locator(".made code").first.text_content().split()
    assert command[:2] == ["reel", "export"]
    out = tmp_path / "out"
    arguments = [str(out) if word == "OUT/" else word for word in command[1:]]
    done = reel(*arguments, "--format", "videofolder")
    assert done.returncode == 0, done.stderr
    assert len(list(out.rglob("*.mp4"))) == 22
    assert "A ball, told by a person." in (out / "metadata.jsonl").read_text()
    assert not list(out.rglob(f"*{clip_id(21)}*"))


@needs_chromium
def test_what_a_filter_removes_is_as_near_as_what_it_keeps_and_the_address_holds_it(page, app, browser):
    page.locator("[data-facet=camera_motion] label:has-text('static') input").check()
    shows(page, 12)
    page.click("text=show what is removed")
    shows(page, CLIPS - 12)
    other = page.context.new_page()
    other.goto(page.url)
    shows(other, CLIPS - 12)
    other.close()
    page.click("text=clear all")
    shows(page, CLIPS)


@needs_chromium
def test_keys_alone_reach_filters_cards_and_decisions(page, path):
    page.focus(".grid")
    page.keyboard.press("End")
    page.keyboard.press("x")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("x")
    page.wait_for_selector("text=2 selected")
    page.keyboard.press("k")
    page.wait_for_selector(f".card.keep[data-clip='{clip_id(CLIPS - 1)}']")
    page.keyboard.press("u")
    page.wait_for_selector(f".card[data-clip='{clip_id(CLIPS - 1)}']:not(.keep)")
    page.keyboard.press("t")
    page.wait_for_selector("[role=dialog][aria-label=tag] input:focus")
    page.keyboard.type("by keys")
    page.keyboard.press("Enter")
    page.wait_for_selector(f".card[data-clip='{clip_id(CLIPS - 1)}'] >> text=by keys")
    page.keyboard.press("Escape")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"[role=dialog][aria-label='clip {clip_id(0)}'] .about")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"[role=dialog][aria-label='clip {clip_id(1)}'] .about")
    assert HOSTILE.split("\x00")[0] in page.locator(".captions li").first.text_content()
    assert page.locator(".captions img").count() == 0
    page.keyboard.press("Escape")
    page.wait_for_selector("[role=dialog]", state="detached")
    page.keyboard.press("q")
    page.wait_for_selector("text=queue >> visible=true")
    page.keyboard.press("k")
    page.wait_for_selector(f"[role=dialog][aria-label='clip {clip_id(2)}']")


@needs_chromium
def test_names_of_columns_are_completed_with_their_meaning_and_a_mistake_is_a_sentence(page):
    page.click(".sql textarea")
    page.keyboard.type("blur")
    page.wait_for_selector("#offers >> text=sharpness")
    page.keyboard.press("Tab")
    page.keyboard.type(" > 'x")
    page.keyboard.press("Enter")
    page.wait_for_selector(".sql [role=alert]")
    page.fill(".sql textarea", "select camera_motion, count(*) as clips from clips group by all order by 1")
    page.click(".sql button:has-text('Run')")
    page.wait_for_selector(".result td >> text=pan_left")


@needs_chromium
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_no_serious_fault_and_nothing_is_wider_than_the_screen(browser, app, scheme, width):
    axe = FRONTEND / "node_modules" / "axe-core" / "axe.min.js"
    context = browser.new_context(viewport={"width": width, "height": 840}, color_scheme=scheme, bypass_csp=True)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(app.url)
    page.wait_for_selector(".card[data-clip]")
    for opened in ("grid", "clip", "snapshots"):
        if opened == "clip":
            page.locator(".card[data-clip]").first.click()
            page.wait_for_selector("[role=dialog] .about")
        if opened == "snapshots":
            page.keyboard.press("Escape")
            page.click("text=Snapshots")
            page.wait_for_selector("[role=dialog] table")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if axe.exists():  # a checkout with the page's tools
            page.evaluate(axe.read_text())
            found = page.evaluate("axe.run()")["violations"]
            grave = [one for one in found if one["impact"] in ("serious", "critical")]
            assert not grave, [(one["id"], one["nodes"][0]["html"][:300]) for one in grave]
    context.close()


def test_the_built_page_is_made_of_the_sources_beside_it():
    """`npm ci && npm run build` in pipelines/app/frontend writes it."""
    digest = hashlib.sha256()
    for source in sorted((FRONTEND / "src").iterdir(), key=lambda p: p.name):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    for other in (FRONTEND / "package-lock.json", ROOT / "pipelines" / "browse" / "report" / "style.css"):
        digest.update(other.read_bytes())
    assert (BUILT / "sources.sha256").read_text().strip() == digest.hexdigest()
    assert {p.name for p in BUILT.iterdir()} == {
        "app.js", "app.css", "index.html", "work.js", "work.css", "work.html", "icon.svg", "sources.sha256",
    }  # fmt: skip


def test_the_page_stays_small():
    import gzip

    for name in ("app", "work"):
        assert sum(len(gzip.compress(p.read_bytes())) for p in BUILT.glob(f"{name}.*")) < 60_000
