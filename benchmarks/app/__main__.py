"""Figures of `reel app` over a store of many clips in a real Chromium: `python -m benchmarks.app`.

It makes the store once (`--folder`, a minute for a million clips), serves it, and measures what a person waits for:
the first page, a filter, a hover, a seek, a thousand verdicts, a scroll; and the memory of the page and the server.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import math
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.app.store import make_store
from reelwright.curation.store import Store
from reelwright.pipelines.app.routes import BUILT
from tests.footage import frames, write
from tests.pipelines.app.chromium import CHROMIUM
from tests.pipelines.app.made import served

FACETS = ("duration_s", "aesthetic_standin_score", "motion_score", "blur_score", "text_coverage", "watermark_score")
WITH_MEDIA, FILTERS, HOVERS, SEEKS, SCROLLS, MAPS = 1_000, 40, 20, 20, 60, 15
PAGES, VERDICTS = 5, 1_000
LONG_PARTS, LONG_FRAMES = 12, 48
"""The video to seek in: parts of so many frames, 23 s of 1280 x 720 in some 70 MB."""
SCROLLED = 100_000  # clips
FRAME_MS = 1000 / 60
ARRIVES = """new Promise(done => { const old = performance.getEntriesByName('%s').length;
  const look = () => performance.getEntriesByName('%s').length > old ? done() : requestAnimationFrame(look);
  look(); })"""
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""After the frame that shows what the page has drawn by now."""
FIRST_FRAME = """new Promise(done => addEventListener('pointermove', event => {
  const look = () => { const video = document.querySelector('.card:hover video');
    if (video) video.requestVideoFrameCallback(now => done(now - event.timeStamp)); else requestAnimationFrame(look); };
  look(); }, {once: true, capture: true}))"""
SEEK = """share => new Promise(done => { const video = document.querySelector('.player video');
  video.pause(); const to = video.duration * share; let loaded = false;
  for (let i = 0; i < video.buffered.length; i++)
    loaded ||= video.buffered.start(i) <= to && to <= video.buffered.end(i);
  const start = performance.now();
  video.requestVideoFrameCallback(now => done({ms: now - start, loaded})); video.currentTime = to; })"""
SAID = """words => new Promise(done => addEventListener('keydown', event => { const look = () => {
  if (document.querySelector('.toast').textContent.startsWith(words)) requestAnimationFrame(() =>
    requestAnimationFrame(now => done(now - event.timeStamp))); else requestAnimationFrame(look); };
  look(); }, {once: true, capture: true}))"""
PAGE_ARRIVES, MAP_ARRIVES = ARRIVES.replace("%s", "reel-page"), ARRIVES.replace("%s", "reel-map")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("app-benchmark"), help="where the store is made, or lies")
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    store = asked.folder / f"store-{asked.rows}-long"
    if not Store.exists(store):
        asked.folder.mkdir(parents=True, exist_ok=True)
        mp4s = [_video(asked.folder / f"{i}.mp4", i) for i in range(4)]
        begun = store.with_suffix(".part")
        shutil.rmtree(begun, ignore_errors=True)
        made = make_store(begun, asked.rows, mp4s, WITH_MEDIA)
        made.commit_media([made.write_media([_long_clip(made)], [_long_video(asked.folder / "long.mp4")])])
        begun.rename(store)
    print(f"app.rows {Store.open(store).count('clips')}")
    size = sum(len(gzip.compress(p.read_bytes())) for p in BUILT.glob("app.js"))
    print(f"app.javascript_gzip_kb {size / 1e3:.1f}")
    long = _long_clip(Store.open(store))
    print(f"app.seek_video_mb {Store.open(store).open_media(long).size / 1e6:.0f}")
    with served(store) as app:
        _measure(app, long)


def _long_clip(store: Store) -> str:
    """Return the first clip after those with short videos."""
    [found] = store.dataset("clips").to_table(["clip_id"], offset=WITH_MEDIA, limit=1)["clip_id"].to_pylist()
    return str(found)


def _long_video(path: Path) -> bytes:
    parts = (frames(LONG_FRAMES, 1280, 720, seed=i, first=i * LONG_FRAMES) for i in range(LONG_PARTS))
    return write(path, itertools.chain.from_iterable(parts)).read_bytes()


def _video(path: Path, seed: int) -> bytes:
    """Four seconds of some 200 kB."""
    return write(path, frames(96, 480, 270, seed=seed), crf="34").read_bytes()


def _measure(app: Any, long: str) -> None:
    from playwright.sync_api import sync_playwright

    began = time.perf_counter()
    app.call("page", facets=list(FACETS), limit=60)
    print(f"app.first_read_of_columns_s {time.perf_counter() - began:.2f}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = _first_page(browser, app)
        _filters(page)
        _hover(page)
        _seek(page, app, long)
        _scroll(page)
        _map(page)
        page.click(".which >> text=grid")
        _decide(page)
        print(f"app.page_mb {_memory(browser):.0f}")
        browser.close()
    memory = psutil.Process(app.process.pid).memory_info().rss
    print(f"app.server_mb {memory / 1e6:.0f}")


def _first_page(browser: Any, app: Any) -> Any:
    """From the address to painted cards, each time in a browser that has nothing of the page; return the last."""
    times = []
    for _ in range(PAGES):
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        began = time.perf_counter()
        page.goto(app.url, wait_until="commit")
        page.wait_for_selector(".card[data-clip]")
        page.evaluate(PAINTED)
        times.append((time.perf_counter() - began) * 1000)
    _print("first_page_ms", times)
    return page


def _filters(page: Any) -> None:
    """From a change of a slider to painted cards and histograms, the 30 ms that the page waits for more included."""
    times = []
    for i in range(FILTERS):
        name = FACETS[i % len(FACETS)]
        arrived = page.evaluate_handle(f"({{ready: {PAGE_ARRIVES}}})")
        began = time.perf_counter()
        slider = page.locator(f"[data-facet={name}] input[type=range]").first
        slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", i % 17 + 1)
        arrived.evaluate("one => one.ready")
        page.evaluate(PAINTED)
        times.append((time.perf_counter() - began) * 1000)
    _print("filter_to_grid_ms", times)
    page.click("text=clear all")
    page.wait_for_timeout(1000)


def _hover(page: Any) -> None:
    """From the event of the pointer on a card, each of another clip, to the first frame that its video presents."""
    times, seen = [], set()
    page.focus(".grid")
    while len(times) < HOVERS:
        page.mouse.move(5, 5)
        cards = [one for one in page.locator(".card[data-clip]").all() if one.get_attribute("data-clip") not in seen]
        boxes = [(card, card.bounding_box()) for card in cards]
        inside = [(card, box) for card, box in boxes if box and 150 < box["y"] < 560]
        if not inside:
            page.keyboard.press("PageDown")
            page.wait_for_timeout(500)
            continue
        card, box = inside[0]
        seen.add(card.get_attribute("data-clip"))
        shown = page.evaluate_handle(f"({{ready: {FIRST_FRAME}}})")
        page.mouse.move(box["x"] + 60, box["y"] + 60)
        times.append(shown.evaluate("one => one.ready"))
    _print("hover_to_first_frame_ms", times)


def _seek(page: Any, app: Any, clip_id: str) -> None:
    """From a seek in a long video to the frame that the player presents; most of it is not loaded before."""
    page.goto(f"http://127.0.0.1:{app.port}/?clip={clip_id}")
    page.wait_for_selector(".player video")
    page.evaluate(
        """new Promise(done => { const look = () => document.querySelector('.player video')?.readyState >= 2 ? done()
      : requestAnimationFrame(look); look(); })"""
    )
    found = [page.evaluate(SEEK, (i * 7 % 19 + 1) / 20) for i in range(SEEKS)]
    _print("seek_ms", [one["ms"] for one in found])
    print(f"app.seeks_to_what_was_not_loaded {sum(not one['loaded'] for one in found)} of {SEEKS}")
    page.goto(f"http://127.0.0.1:{app.port}/")
    page.wait_for_selector(".card[data-clip]")


def _scroll(page: Any) -> None:
    """Frames longer than one and a half of 60 Hz, while a hundred thousand clips pass."""
    found = page.evaluate(
        """([steps, clips]) => new Promise(done => { const grid = document.querySelector('.grid');
      const all = Number(document.querySelector('.size b').textContent.replaceAll(',', ''));
      const end = grid.scrollHeight * Math.min(1, clips / all); const times = []; let last = performance.now(), i = 0;
      const step = () => { const now = performance.now(); times.push(now - last); last = now;
        if (i++ >= steps * 10) return done(times);
        grid.scrollTop = end * i / (steps * 10); requestAnimationFrame(step); };
      requestAnimationFrame(step); })""",
        [SCROLLS, SCROLLED],
    )
    times = np.array(found[5:])
    dropped = np.maximum(0, np.round(times / FRAME_MS) - 1).sum()
    print(f"app.scroll_frames_dropped_percent {100 * dropped / (dropped + len(times)):.1f}")
    page.wait_for_timeout(1500)


def _map(page: Any) -> None:
    """From a key that zooms the map to its new cells, every clip counted; the first is the whole map."""
    times = []
    for key in ("", *"+-" * (MAPS // 2)):
        arrived = page.evaluate_handle(f"({{ready: {MAP_ARRIVES}}})")
        began = time.perf_counter()
        page.keyboard.press(key) if key else page.click(".which >> text=map")
        arrived.evaluate("one => one.ready")
        page.evaluate(PAINTED)
        times.append((time.perf_counter() - began) * 1000)
        page.focus(".sheet canvas")
    print(f"app.map_first_ms {times[0]:.0f}")
    _print("map_zoom_ms", times[1:])


def _memory(browser: Any) -> float:
    """Memory that the page's process has for itself, and not shared with other parts of the browser."""
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    pids = [one["id"] for one in found if one["type"] == "renderer"]
    return max(psutil.Process(pid).memory_full_info().uss for pid in pids) / 1e6


def _decide(page: Any) -> None:
    """From the key that drops a thousand clips, and from its undo, until the page shows that the server has it."""
    page.fill(".sql textarea", f"clip_id in (select clip_id from clips order by clip_id limit {VERDICTS})")
    page.click(".sql button:has-text('Filter')")
    page.wait_for_selector(f".size b:text-is('{VERDICTS:,}')")
    page.focus(".grid")
    for key in ("Home", "x", "End", "Shift+X"):
        page.keyboard.press(key)
    page.wait_for_selector(f"text={VERDICTS:,} selected")
    done: dict[str, list[float]] = {"dropped": [], "undone": []}
    for _ in range(5):
        for key, word in (("d", "dropped"), ("u", "undone")):
            said = page.evaluate_handle(f"({{ready: ({SAID})('{VERDICTS:,} {word}')}})")
            page.keyboard.press(key)
            done[word].append(said.evaluate("one => one.ready"))
    _print(f"verdicts_{VERDICTS}_ms", done["dropped"])
    _print(f"undo_{VERDICTS}_ms", done["undone"])
    time.sleep(5)  # the merge into clips, whose memory counts


def _print(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
    print(f"app.{name} p50 {statistics.median(ordered):.0f} p95 {p95:.0f}", flush=True)


if __name__ == "__main__":
    main()
