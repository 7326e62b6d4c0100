"""Runs, models, generations, ratings and commands in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reelwright.curation.store import Store
from reelwright.curation.store.evaluations import find_evaluation
from reelwright.pipelines.browse.trace.find import trace
from reelwright.pipelines.browse.trace.page import write_page as write_trace
from reelwright.pipelines.evaluate.report.page import write_page
from tests.pipelines.app.chromium import PATIENCE_MS, needs_chromium, opened, soon, until
from tests.pipelines.app.made import Served, clip_id, clip_row, served
from tests.pipelines.app.test_browser_access import GRAVE, axe, reach_all
from tests.pipelines.app.work_made import Made, make_worked

pytestmark = [pytest.mark.waits, needs_chromium]
NOBODY = "http://127.0.0.1:9"
"""Where no job server is; test_jobs.py submits to a real one."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_worked(tmp_path_factory.mktemp("workpages"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module")
def app(made: Made, work: Path) -> Iterator[Served]:
    with served(Path(made.store.uri), "--allow-commands", "--work", str(work), "--job-server", NOBODY) as running:
        yield running


def go(page: Any, place: str) -> None:
    page.click(f".places a:text-is('{place}')")
    page.wait_for_selector(f"h1:text-is('{place}')")


def test_the_funnel_follows_the_store_while_it_is_seen(page, made):
    go(page, "Runs")
    page.wait_for_selector("[data-stage=clips]:text-is('12')")
    page.wait_for_selector("text=no frame 17")
    assert page.locator("img").count() == 0, "texts stay texts"
    made.store.append("sources", [{"uri": "/later.mp4", "md5": "later", "state": "failed"}])
    page.wait_for_selector("text=5 files =")
    page.click("a:has-text('curate run1')")
    page.wait_for_selector("h1:text-is('curate run1')")


def test_from_a_model_s_samples_to_its_clips(page):
    go(page, "Models")
    page.click("a:text-is('mini')")
    page.wait_for_selector(".chart svg path >> nth=0")
    page.locator("figure video").first.hover()
    until(page, "document.querySelector('figure video').currentTime > 0")
    page.focus("input[type=range]")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".step b:text-is('20')")
    soon(page.locator("figure video").first).to_have_attribute("src", re.compile("/step-00000020/"))
    page.click("text=1 source file")
    page.click(".chain a:text-is('first')")
    page.wait_for_selector(".size b:text-is('8')")
    soon(page.locator(".card[data-clip]")).to_have_count(8)


def test_a_generation_stands_beside_its_nearest_clips(page):
    go(page, "Evaluations")
    page.click("a:text-is('first')")
    page.wait_for_selector("[data-generation='10aa'] video")
    page.click("[data-generation='10aa'] a")
    near = page.locator("[data-clip]").first
    near.locator("video").hover()
    until(page, "document.querySelector('[data-clip] video').currentTime > 0")
    nearest = near.get_attribute("data-clip")
    near.locator("a").click()
    page.wait_for_selector("[role=dialog] .about")
    soon(page.locator("[role=dialog]")).to_have_attribute("aria-label", f"clip {nearest}")


def test_a_person_rates_by_keys_and_the_answer_carries_the_name(page, made):
    go(page, "Rate")
    page.click("section:has-text('Scores of first') a.button:text-is('Rate')")
    page.click("button:has-text('ben')")
    page.wait_for_selector("video")
    assert "tuned" not in page.content()
    for _ in range(2):
        page.keyboard.press("4")
    page.keyboard.press("Enter")
    store = Store.open(made.store.uri)
    for _ in range(PATIENCE_MS // 100):
        rows = store.read("ratings", ["rater", "value"]).to_pylist()
        if rows:
            break
        page.wait_for_timeout(100)
    assert rows == [{"rater": "ben", "value": 4.0}] * 2


@pytest.mark.exhaustive
def test_a_command_is_made_started_and_seen_to_its_end(page, work):
    go(page, "Commands")
    page.click(".tabs button:text-is('export')")
    page.fill("#export-out", "../elsewhere")
    page.fill("#export-snapshot", "first")
    page.wait_for_selector("[role=alert]:has-text('does not')")
    page.fill("#export-out", "out")
    page.wait_for_selector(f"form .command code:has-text('reel export {work}/out')")
    page.click("text=Start here")
    page.wait_for_selector("[data-state=done] >> text=8 clips")
    assert (work / "out").is_dir()

    page.click(".places a:text-is('Clips')")  # what the page hands out there is started there too
    page.click("text=Snapshots")
    page.fill("[aria-label='name of the snapshot']", "twelve")
    page.click("text=Save snapshot")
    page.click("button:has-text('start: export twelve')")
    page.wait_for_selector("h1:text-is('Commands')")
    page.wait_for_selector("[data-state=done] >> text=12 clips")
    assert (work / "exports" / "twelve").is_dir()
    page.click(".tabs button:text-is('annotate')")
    page.click(f"button:text-is('Submit to {NOBODY}')")
    page.wait_for_selector(f"[data-state=failed] >> text=cannot submit to {NOBODY}")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.every(3)
def test_the_files_of_an_evaluation_and_of_a_trace_show_all_by_themselves(browser, made, tmp_path, scheme, width):
    script = axe()
    files = {
        write_page(made.store, find_evaluation(made.store, "first"), tmp_path):
            "[...document.querySelectorAll('video')].some((one) => one.currentTime > 0)",
        write_trace(made.store, trace(made.store, "00aa"), tmp_path):
            "[...document.images].length > 1 && [...document.images].some((one) => one.naturalWidth > 0)",
    }  # fmt: skip
    for file, shown in files.items():
        size = {"width": width, "height": 840}
        with opened(browser, file.as_uri(), viewport=size, color_scheme=scheme, bypass_csp=True) as page:
            page.locator("video, img").first.scroll_into_view_if_needed()  # what is out of sight does not play
            until(page, shown)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, file.name
            page.evaluate(script)
            found = [one for one in page.evaluate("axe.run()")["violations"] if one["impact"] in GRAVE]
            assert not found, (file.name, [(one["id"], one["nodes"][0]["html"][:300]) for one in found])


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.every(2)
def test_axe_finds_no_serious_fault_and_nothing_is_wider_than_the_screen(browser, app, made, scheme, width):
    script, size = axe(), {"width": width, "height": 840}
    with opened(browser, app.url, viewport=size, color_scheme=scheme, bypass_csp=True) as page:
        page.goto(f"http://127.0.0.1:{app.port}/models")
        model = page.wait_for_selector("a:text-is('mini')").get_attribute("href")
        ready = {
            "/runs": "[data-stage=clips]", "/runs/run1": ".facts", model: ".chart",
            "/evaluations": "a:text-is('first')", "/evaluations/e1f0": "[data-generation]",
            "/generations/00aa": "[data-clip]", "/rate": ".raters",
            f"/rate/{made.study.study_id}/": "button:has-text('anna')",
            "/evaluations/e1f0#13aa": ".failed", "/commands": "form .command",
            "/report": "#funnel", f"/rate/{made.study.study_id}/#task": "video",
            f"/rate/{made.pairs.study_id}/#task": ".two video >> nth=1",
        }  # fmt: skip
        for path, shown in ready.items():
            page.goto(f"http://127.0.0.1:{app.port}{path}")
            if path.endswith("#task"):
                page.click("button:has-text('anna')")
            page.wait_for_selector(shown)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            page.evaluate(script)
            found = [one for one in page.evaluate("axe.run()")["violations"] if one["impact"] in GRAVE]
            assert not found, (path, [(one["id"], one["nodes"][0]["html"][:300]) for one in found])
            reach_all(page)


@pytest.mark.parametrize("path", ["/", "/runs"])
def test_on_a_phone_every_link_at_the_top_is_seen_and_filters_open_below(browser, app, path):
    with opened(browser, app.url, viewport={"width": 390, "height": 844}) as page:
        page.goto(f"http://127.0.0.1:{app.port}{path}")
        page.wait_for_selector(".places a:text-is('Report')")
        links = page.locator(".places a")
        assert links.count() == 7
        for link in links.all():
            box = link.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
            middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
            assert link.evaluate("(link, at) => document.elementFromPoint(...at) === link", middle), "nothing covers it"
        if path == "/":
            page.click("[aria-label=filters] >> nth=0")
            filters, top = (page.locator(part).bounding_box() for part in (".filters", ".top"))
            assert filters["y"] >= top["y"] + top["height"]
            assert filters["y"] + filters["height"] <= 844


def test_a_video_that_failed_says_why_in_little_room(page, app):
    page.goto(f"http://127.0.0.1:{app.port}/evaluations/e1f0")
    assert page.wait_for_selector("[data-generation='13aa'] .failed").inner_text() == "failed out of memory"
    failed, made = (page.locator(f"[data-generation='{one}']").bounding_box() for one in ("13aa", "03aa"))
    assert failed["height"] < made["height"] / 2


def test_a_card_without_a_picture_says_why(page, app, made):
    # the last test of the module: it adds clips
    lost, broken = 60, 61
    made.store.append("clips", [clip_row(lost), clip_row(broken)])
    made.store.commit_media([made.store.write_media([clip_id(broken)], [b"this is no video" * 100])])
    page.goto(f"http://127.0.0.1:{app.port}/")
    page.wait_for_selector(f".card[data-clip='{clip_id(lost)}'] .broken:has-text('has no media')")
    said = page.wait_for_selector(f".card[data-clip='{clip_id(broken)}'] .broken:has-text('no picture: ')").inner_text()
    assert len(said) > len("no picture: ") + 10
    assert "Traceback" not in said
