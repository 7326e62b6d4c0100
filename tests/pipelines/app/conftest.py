"""A store with a running `reel app` per module, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.app.chromium import CHROMIUM, opened
from tests.pipelines.app.made import Served, make_store, served


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("app") / "store"
    make_store(path)
    return path


@pytest.fixture(scope="module")
def app(path: Path) -> Iterator[Served]:
    with served(path) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "no Chromium here, though REEL_CI asks for it; install it with: apt-get install chromium"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def page(browser: Any, app: Served) -> Iterator[Any]:
    with opened(browser, app.url) as found:
        found.wait_for_selector(".card[data-clip]")
        yield found
