"""The pictures of docs/app.md: `python -m benchmarks.app.pictures STORE [NAME…]`, with the store of `make demo`.

That store is too small for a map; app-map is of the store of `python -m benchmarks.app --rows 30000`.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

from tests.pipelines.app.chromium import CHROMIUM
from tests.pipelines.app.made import served

PICTURES: list[tuple[str, int, int, Any]] = [
    ("app-grid", 1280, 800, "light"), ("app-map", 1280, 800, "light"), ("app-clip", 1280, 900, "dark"),
    ("app-phone", 390, 844, "light"), ("app-runs", 1280, 700, "light"),
]  # fmt: skip
"""Name, width and height in px, colour scheme."""
REVIEWER = "anna"
OUT = Path(__file__).parents[2] / "docs" / "images"


def main(store: Path, names: list[str]) -> None:
    from playwright.sync_api import sync_playwright

    OUT.mkdir(exist_ok=True)
    os.environ["LOGNAME"] = REVIEWER
    with served(store) as app, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, width, height, scheme in (one for one in PICTURES if one[0] in names or not names):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.goto(app.url)
            page.wait_for_selector(".card img")
            if name == "app-runs":
                page.goto(f"{app.url.partition('?')[0].rstrip('/')}/runs")
                page.wait_for_selector("main table")
            if name == "app-grid":
                page.fill("[aria-label='least motion_score, exactly']", "0.01")
                page.keyboard.press("Enter")
                page.wait_for_selector(".chip")
            if name == "app-map":
                page.click(".which >> text=map")
                page.wait_for_selector(".clusters li")
                page.select_option("[aria-label='weighted by']", "cluster")
                page.wait_for_selector(".clusters .after")
                _lasso(page)
            if name == "app-clip":
                page.locator(".card[data-clip]").nth(1).click()
                page.wait_for_selector(".about")
            page.wait_for_timeout(2000)
            page.screenshot(path=str(OUT / f"{name}.jpg"), type="jpeg", quality=82)
            print(f"docs/images/{name}.jpg")
            context.close()
        browser.close()


def _lasso(page: Any) -> None:
    sheet = page.locator(".sheet canvas").bounding_box()
    x, y = sheet["x"] + sheet["width"] * 0.6, sheet["y"] + sheet["height"] * 0.6
    page.mouse.move(x + 110, y)
    page.mouse.down()
    for i in range(60):
        page.mouse.move(x + 110 * math.cos(i / 10), y + 90 * math.sin(i / 10))
    page.mouse.up()
    page.wait_for_selector(".chip")
    page.mouse.move(0, 0)  # off the map, where it would open the dot below it


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
