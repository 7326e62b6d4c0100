"""Figures of `reel app` over a store of many clips in a real Chromium: `python -m benchmarks.app`.

It makes the store once (`--folder`, a minute for a million clips), serves it, and measures what a person waits for:
the first page, a filter, a hover, a seek, a thousand verdicts, a scroll; and the memory of the page and the server.
"""

from __future__ import annotations

import argparse
import gzip
import json
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
SCROLLED = 100_000  # clips
FRAME_MS = 1000 / 60
ARRIVES = """new Promise(done => { const old = performance.getEntriesByName('%s').length;
  const look = () => performance.getEntriesByName('%s').length > old ? done() : requestAnimationFrame(look);
  look(); })"""
PAGE_ARRIVES, MAP_ARRIVES = ARRIVES.replace("%s", "reel-page"), ARRIVES.replace("%s", "reel-map")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("app-benchmark"), help="where the store is made, or lies")
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    store = asked.folder / f"store-{asked.rows}"
    if not Store.exists(store):
        asked.folder.mkdir(parents=True, exist_ok=True)
        mp4s = [_video(asked.folder / f"{i}.mp4", i) for i in range(4)]
        begun = store.with_suffix(".part")
        shutil.rmtree(begun, ignore_errors=True)
        make_store(begun, asked.rows, mp4s, WITH_MEDIA)
        begun.rename(store)
    print(f"app.rows {Store.open(store).count('clips')}")
    size = sum(len(gzip.compress(p.read_bytes())) for p in BUILT.glob("app.js"))
    print(f"app.javascript_gzip_kb {size / 1e3:.1f}")
    with served(store) as app:
        _measure(app)


def _video(path: Path, seed: int) -> bytes:
    """Four seconds of some 200 kB."""
    return write(path, frames(96, 480, 270, seed=seed), crf="34").read_bytes()


def _measure(app: Any) -> None:
    from playwright.sync_api import sync_playwright

    began = time.perf_counter()
    app.call("page", facets=list(FACETS), limit=60)
    print(f"app.first_read_of_columns_s {time.perf_counter() - began:.2f}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.goto(app.url)
        page.wait_for_selector(".card[data-clip]")
        began = time.perf_counter()
        page.goto(app.url)
        page.wait_for_selector(".card[data-clip]")
        print(f"app.first_page_s {time.perf_counter() - began:.2f}")
        _filters(page)
        _hover(page)
        _seek(page, app)
        _scroll(page)
        _map(page)
        print(f"app.page_mb {_memory(browser):.0f}")
        browser.close()
    _decide(app)
    memory = psutil.Process(app.process.pid).memory_info().rss
    print(f"app.server_mb {memory / 1e6:.0f}")


def _filters(page: Any) -> None:
    """From a change of a slider to new cards and histograms, the 30 ms that the page waits for more included."""
    times = []
    for i in range(FILTERS):
        name = FACETS[i % len(FACETS)]
        arrived = page.evaluate_handle(f"({{ready: {PAGE_ARRIVES}}})")
        began = time.perf_counter()
        slider = page.locator(f"[data-facet={name}] input[type=range]").first
        slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", i % 17 + 1)
        arrived.evaluate("one => one.ready")
        times.append((time.perf_counter() - began) * 1000)
    _print("filter_to_grid_ms", times)
    page.click("text=clear all")
    page.wait_for_timeout(1000)


def _hover(page: Any) -> None:
    """From the pointer on a card to its video's first frame."""
    times = []
    cards = page.locator(".card[data-clip]")
    for i in range(HOVERS):
        page.mouse.move(5, 5)
        box = cards.nth(i % 8 + 1).bounding_box()
        page.mouse.move(box["x"] + 60, box["y"] + 60)
        times.append(
            page.evaluate("""new Promise(done => { const start = performance.now(); const look = () => {
          const video = document.querySelector('.card:hover video');
          if (video && video.readyState >= 2) done(performance.now() - start); else requestAnimationFrame(look);
          }; look(); })""")
        )
    _print("hover_to_first_frame_ms", times)


def _seek(page: Any, app: Any) -> None:
    """From a seek to the frame that it is to."""
    page.locator(".card[data-clip]").nth(2).click()
    page.wait_for_selector(".player video")
    times = []
    for i in range(SEEKS):
        times.append(
            page.evaluate(
                """share => new Promise(done => { const video = document.querySelector('.player video');
          video.pause(); const start = performance.now();
          video.addEventListener('seeked', () => done(performance.now() - start), {once: true});
          video.currentTime = (video.duration || 1) * share; })""",
                (i * 7 % 19 + 1) / 20,
            )
        )
    _print("seek_ms", times)
    page.keyboard.press("Escape")


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
        times.append((time.perf_counter() - began) * 1000)
        page.focus(".sheet canvas")
    print(f"app.map_first_ms {times[0]:.0f}")
    _print("map_zoom_ms", times[1:])


def _memory(browser: Any) -> float:
    """Memory that the page's process has for itself, and not shared with other parts of the browser."""
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    pids = [one["id"] for one in found if one["type"] == "renderer"]
    return max(psutil.Process(pid).memory_full_info().uss for pid in pids) / 1e6


def _decide(app: Any) -> None:
    """A thousand verdicts in one action, and its undo, each until the server says that it is on disk."""
    rows = [row["clip_id"] for at in (0, 500) for row in app.call("page", offset=at, limit=500)["rows"]]
    done: dict[str, list[float]] = {"decide": [], "undo": []}
    for _ in range(5):
        for name, body in (("decide", {"action": "drop", "clip_ids": rows}), ("undo", {})):
            began = time.perf_counter()
            changed = app.call(name, reviewer="benchmark", **body)["changed"]
            done[name].append((time.perf_counter() - began) * 1000)
            assert changed == len(rows), json.dumps(changed)
    _print("verdicts_1000_ms", done["decide"])
    _print("undo_1000_ms", done["undo"])
    time.sleep(5)  # the merge into clips, whose memory counts


def _print(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    print(
        f"app.{name} p50 {statistics.median(ordered):.0f} p95 {ordered[int(0.95 * (len(ordered) - 1))]:.0f}", flush=True
    )


if __name__ == "__main__":
    main()
