"""The page in a real Chromium: filter, play, drop, undo, tag, edit a caption, freeze, export; also by keys alone."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess

import pyarrow as pa
import pytest

from reelwright.curation.store import Store
from tests.conftest import ROOT
from tests.pipelines.app.chromium import needs_chromium, opened, shows, soon, until
from tests.pipelines.app.made import CLIPS, HOSTILE, clip_id

pytestmark = pytest.mark.waits
FRONTEND = ROOT / "pipelines" / "app" / "frontend"
BUILT = ROOT / "pipelines" / "app" / "built"
WORD = """label => { const range = document.createRange(); range.selectNode(label.firstChild);
  return range.getBoundingClientRect().toJSON() }"""


@needs_chromium
def test_from_a_filter_to_an_export(page, app, path, reel, tmp_path):
    page.fill("[aria-label='least duration_s, exactly']", "3")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    shows(page, 24)
    soon(page).to_have_url(re.compile("duration_s"))
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
    _write_captions(page)
    _look_at_columns_and_speed(page)
    page.keyboard.press("Escape")  # out of the text
    page.keyboard.press("Escape")
    page.wait_for_selector(f".card[data-clip='{clip_id(20)}'] >> text=A ball, told by a person.")

    page.locator(f".card[data-clip='{clip_id(21)}']").click(modifiers=["Control"])
    page.locator(f".card[data-clip='{clip_id(22)}']").click(modifiers=["Control"])
    page.wait_for_selector("text=2 selected")
    page.keyboard.press("d")
    page.wait_for_selector(f".card.drop[data-clip='{clip_id(22)}']")
    page.keyboard.press("Escape")
    soon(page.locator(".hand .whom")).to_have_text("a ball number 22")  # whom the next key means

    page.click("text=Snapshots")
    page.wait_for_selector("text=2 of them are dropped")
    page.click("text=leave them out")
    shows(page, 22)
    page.fill("[aria-label='name of the snapshot']", "from-the-page")
    page.click("text=as a command")
    line = shlex.split(page.wait_for_selector(".as-command code:has-text('--sql=')").text_content())
    by_hand = reel(*[word.replace("from-the-page", "by-hand") for word in line[1:]])
    assert (by_hand.returncode, line[1:4]) == (0, ["snapshot", "create", "from-the-page"]), by_hand.stderr
    page.click("text=Save snapshot")
    page.wait_for_selector(".made >> text=22 clips")
    mine, its = (Store.open(path).snapshots.show(name) for name in ("from-the-page", "by-hand"))
    assert mine.content_hash == its.content_hash
    command = shlex.split(page.wait_for_selector(".made code").text_content())
    assert command == ["reel", "export", str(path.parent / "exports/from-the-page"), f"--store={path}",
                       "--snapshot=from-the-page"]  # fmt: skip
    out = tmp_path / "out"
    done = reel("export", str(out), *command[3:], "--format", "videofolder")
    assert done.returncode == 0, done.stderr
    assert len(list(out.rglob("*.mp4"))) == 22
    assert "A ball, told by a person." in (out / "metadata.jsonl").read_text()
    assert not list(out.rglob(f"*{clip_id(21)}*"))


def _write_captions(page):
    """Edit one variant in its place, write over that, take it back, and bring it back by undo and redo."""
    [given] = page.locator(".captions li").all()
    assert "training and exports" not in given.text_content(), "it is composed from measurements"
    page.click("[aria-label='edit the caption by composed_caption']")
    soon(page.locator(".captions li textarea")).to_have_value("a ball number 20")
    for text in ("A ball.", "A ball, told by a person."):
        page.fill(".editor textarea", text)
        page.click("text=Save caption")
        page.wait_for_selector(f".captions li.taken:first-child >> text={text}")
        page.click(".captions li:first-child >> text=edit")
    page.keyboard.press("Escape")
    kinds = [one.split(" · ")[0] for one in page.locator(".captions li .note").all_text_contents()]
    assert [one.rpartition("  ")[2].split()[-2:] for one in kinds[:2]] == [["written", "here"], ["written", "before"]]
    page.click(".captions >> text=take back")
    page.wait_for_selector(".captions li.taken", state="detached")
    for key, there in (("u", True), ("Shift+U", False), ("u", True)):
        page.keyboard.press(key)
        page.wait_for_selector(".captions li.taken >> text=told by a person", state="attached" if there else "detached")


def _look_at_columns_and_speed(page):
    page.select_option(".steps select", "2")
    until(page, "document.querySelector('.player video').playbackRate === 2")
    page.focus(".bar button")
    page.keyboard.press("[")
    until(page, "document.querySelector('.player video').playbackRate === 1")
    page.fill("[aria-label='find a column']", "blur_score")
    row = page.locator(".columns tbody tr")
    soon(row).to_have_count(1)
    for text in ("blur_score", "level²", "sharpness", "66.7", "blur", "f00d"):
        soon(row).to_contain_text(text)


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
def test_keys_alone_reach_filters_cards_and_decisions(page, app):
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
    soon(page.locator(".captions li").first).to_contain_text(HOSTILE.split("\x00")[0])
    assert page.locator(".captions img").count() == 0
    page.keyboard.press("Escape")
    page.wait_for_selector("[role=dialog]", state="detached")
    page.keyboard.press("q")
    page.wait_for_selector(f"[role=dialog][aria-label='clip {clip_id(1)}'] >> text=· queue")
    page.keyboard.press("k")
    page.wait_for_selector(f"[role=dialog][aria-label='clip {clip_id(2)}']")
    for _ in range(2):  # the second takes away what the first gave
        page.keyboard.press("s")
        page.wait_for_selector(".history li:first-child >> text=star")
    page.wait_for_selector(".history li:first-child >> text=unstar")


@needs_chromium
def test_a_queue_passes_over_no_clip_that_a_decision_takes_out_of_the_view(page, app):
    page.locator("[data-facet=review_verdict] label:has-text('none') input").check()
    page.fill("[aria-label='least duration_s, exactly']", "2")
    page.keyboard.press("Tab")
    page.select_option("[aria-label='sort by']", "near_bound")
    view = {"ranges": {"duration_s": [2, None]}, "values": {"review_verdict": [None]}, "sort": "near_bound"}
    expected = [row["clip_id"] for row in app.call("page", view=view)["rows"]]
    page.wait_for_selector(f".card[data-clip='{expected[0]}']#card-0")
    page.click("footer >> text=queue")
    for one in expected[:4]:
        page.wait_for_selector(f"[role=dialog][aria-label='clip {one}'] .decide .keep:not(.on)")
        page.keyboard.press("k")
    page.wait_for_selector(f"[role=dialog][aria-label='clip {expected[4]}'] .about")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"[role=dialog][aria-label='clip {expected[5]}'] .about")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(f"[role=dialog][aria-label='clip {expected[4]}'] .about")
    for one in reversed(expected[:4]):
        assert one not in [row["clip_id"] for row in app.call("page", view=view)["rows"]]
        page.keyboard.press("u")
        page.wait_for_selector(".toast >> text=1 undone")
        until(page, f"document.querySelector('.size b').textContent === '{len(expected) - expected.index(one)}'")


@needs_chromium
def test_names_of_columns_are_completed_with_their_meaning_and_a_mistake_is_a_sentence(page):
    page.click(".sql textarea")
    page.keyboard.type("blur")
    soon(page.locator("#offers [aria-selected=true]")).to_contain_text("sharpness")
    page.keyboard.press("Tab")
    page.keyboard.type(" > 'x")
    soon(page.locator(".sql textarea")).to_have_value("blur_score > 'x")
    page.keyboard.press("Enter")
    said = page.wait_for_selector(".sql [role=alert]").text_content()
    assert 20 < len(said) < 600
    assert "Traceback" not in said
    soon(page.locator(".chip")).to_have_count(0)
    page.fill(".sql textarea", "select camera_motion, count(*) as clips from clips group by all order by 1")
    page.click(".sql button:has-text('Run')")
    page.wait_for_selector(".result td >> text=pan_left")
    rows = [one.split("\t") for one in page.locator(".result tbody").inner_text().splitlines()]
    assert ["pan_left", "12"] in [[cell.strip() for cell in row] for row in rows]


@needs_chromium
def test_texts_of_a_store_that_mean_harm_stay_texts_on_every_part_of_the_page(page, app, path):
    """Any dialog, script error or element that they make fails; chromium.opened watches."""
    evil = f"</script><svg onload=alert(2)>{HOSTILE}"
    app.call("decide", action="tag", text="<img src=x onerror=alert(3)>", reviewer="<b>eve</b>", clip_ids=[clip_id(1)])
    app.call("decide", action="caption", text=evil, reviewer="<b>eve</b>", clip_ids=[clip_id(1)])
    Store.open(path).append("failures", [{"stage": "<b>cut</b>", "error": evil, "clip_id": clip_id(1)}])
    big = "<i>" + "y" * 10_000_000
    Store.open(path).merge("clips", pa.table({"clip_id": [clip_id(2)], "composed_caption": [big]}), on="clip_id")
    page.reload()
    page.wait_for_selector(".card .tag >> text=<img src=x")
    page.click(".which >> text=map")
    page.wait_for_selector(".clusters li >> text=<b>bold</b>")
    page.click(".which >> text=grid")
    page.locator(f".card[data-clip='{clip_id(2)}']").click()
    page.wait_for_selector(".captions li >> text=<i>yyy")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".failures li >> text=<b>cut</b>")
    page.wait_for_selector(".history >> text=<b>eve</b>")
    page.keyboard.press("Escape")
    query = "select composed_caption as \"<img src=x onerror=alert(4)>\", '<svg onload=alert(5)>' from clips"
    page.fill(".sql textarea", query)
    page.click(".sql button:has-text('Run')")
    page.wait_for_selector(".result th >> text=<img src=x")
    for made in ("#app b:not(.size b, .offers b)", "#app svg[onload]", "#app img[src='x']", "#app i:not(.word i)"):
        assert page.locator(made).count() == 0, made


@needs_chromium
def test_two_people_decide_about_one_clip_at_once_and_each_takes_back_their_own(page, app, browser):
    last = f".card[data-clip='{clip_id(CLIPS - 1)}']"
    with opened(browser, app.url) as other:
        for one, name in ((page, "ann"), (other, "ben")):
            one.wait_for_selector(".card[data-clip]")
            one.fill(".who input", name)
            one.focus(".grid")
            one.keyboard.press("End")
            one.wait_for_selector(last)
        page.keyboard.press("d")
        page.wait_for_selector(f"{last}.drop")
        other.keyboard.press("s")
        other.wait_for_selector(f"{last}.drop .star")
        page.keyboard.press("u")
        page.wait_for_selector(f"{last}:not(.drop) .star")
        other.keyboard.press("Enter")
        other.wait_for_selector(".history >> text=ann")
        history = other.locator(".history li").all_text_contents()
    assert [one.split()[:2] for one in history[:3]] == [["undo", "ann"], ["star", "ben"], ["drop", "ann"]]


@needs_chromium
def test_two_snapshots_are_set_side_by_side(page, app):
    for name, where in (("short", "duration_s < 3"), ("middle", "duration_s between 2 and 4")):
        app.call("freeze", name=name, view={"where": where}, weights="duration_s")
    page.click("text=Snapshots")
    page.check("[aria-label='from short']")
    page.check("[aria-label='to middle']")
    page.click("[role=dialog] button:has-text('Compare')")
    said = page.wait_for_selector("[aria-label=comparison]").text_content()
    assert said.startswith("short: 16 clips → middle: 17. 9 came, 8 went, 8 stayed")
    assert page.locator(".pairs figcaption").all_text_contents()[:2] == ["duration_s", "motion_score"]
    page.locator("[aria-label=comparison] .near button").first.click()
    page.wait_for_selector(f"[role=dialog][aria-label='clip {clip_id(16)}'] .about")


@needs_chromium
def test_near_duplicates_are_folded_with_their_number_and_unfolded_again(page):
    page.check("text=fold near duplicates")
    shows(page, CLIPS - 15)
    page.locator(".card", has=page.locator(".copies >> text=4 alike")).first.click()
    page.click("text=its 3 near duplicates")
    shows(page, 4)
    soon(page).to_have_url(re.compile("near_duplicate_group"))


@needs_chromium
@pytest.mark.parametrize("width", [1280, 400])
def test_the_sizes_of_pictures_are_chosen_in_one_line(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    for condition, shown in (("", CLIPS), ("duration_s >= 3", 24)):
        page.fill(".sql textarea", condition)
        page.click(".sql button:has-text('Filter')")
        shows(page, shown)
        label = page.locator(".looks label", has_text="size")
        slider = label.locator("input")
        whole, bar = label.bounding_box(), slider.bounding_box()
        word, middle = label.evaluate(WORD), bar["y"] + bar["height"] / 2
        assert whole["height"] < 30
        assert word["y"] < middle < word["y"] + word["height"], "it stands beside the slider"
        assert bar["width"] > 60
        assert whole["x"] >= 0
        assert whole["x"] + whole["width"] <= width
        if width == 1280:
            boxes = [one.bounding_box() for one in page.locator(".looks > *").all()]
            middles = [box["y"] + box["height"] / 2 for box in boxes]
            assert len(boxes) == 4
            assert max(middles) - min(middles) <= 4, "all that says how to look stands in one line"
    before = page.locator(".card").first.bounding_box()["width"]
    slider.fill("120")
    until(page, f"document.querySelector('.card').offsetWidth < {before}")


def test_the_built_page_is_made_of_the_sources_beside_it():
    """`npm ci && npm run build` in pipelines/app/frontend writes it."""
    digest = hashlib.sha256()
    for source in sorted((FRONTEND / "src").iterdir(), key=lambda p: p.name):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    report = ROOT / "pipelines" / "browse" / "report"
    for other in (FRONTEND / "package-lock.json", report / "palette.css", report / "style.css"):
        digest.update(other.read_bytes())
    assert (BUILT / "sources.sha256").read_text().strip() == digest.hexdigest()
    assert {p.name for p in BUILT.iterdir()} == {
        "app.js", "app.css", "index.html", "work.js", "work.css", "work.html", "icon.svg", "sources.sha256",
    }  # fmt: skip


@pytest.mark.exhaustive  # needs Node, which a user does not; CI has it
@pytest.mark.skipif(not (FRONTEND / "node_modules" / "esbuild").is_dir(), reason="npm ci has not run in frontend")
def test_the_same_sources_build_the_same_files(tmp_path):
    done = subprocess.run(["node", "build.mjs", tmp_path], cwd=FRONTEND, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {p.name: p.read_bytes() for p in BUILT.iterdir()}


def test_the_page_stays_small():
    import gzip

    for name in ("app", "work"):
        assert sum(len(gzip.compress(p.read_bytes())) for p in BUILT.glob(f"{name}.*")) < 60_000
