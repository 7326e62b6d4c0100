"""A page of another address, in a real Chromium that knows the token, reads no clip and decides nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from reelwright.curation.store import Store
from tests.pipelines.app.chromium import needs_chromium
from tests.pipelines.app.made import Served, clip_id

pytestmark = [pytest.mark.waits, needs_chromium]
ASK = """async ([url, clip]) => {
  const told = [];
  const body = JSON.stringify({action: 'drop', reviewer: 'evil', clip_ids: [clip]});
  for (const how of [{mode: 'no-cors'}, {mode: 'cors', credentials: 'include'}]) {
    for (const where of [`${url}/media/${clip}.mp4`, `${url}/`, `${url}/static/app.js`]) {
      try { const a = await fetch(where, how); told.push([where, a.type, (await a.text()).length]); } catch { }
    }
    for (const type of ['text/plain', 'application/json']) {
      const post = {...how, method: 'POST', body, headers: {'content-type': type}};
      try { await fetch(`${url}/api/decide`, post); } catch { }
    }
  }
  const loads = (tag, src) => new Promise(done => {
    const one = document.createElement(tag);
    one.onload = one.onloadeddata = () => done(true);
    one.onerror = () => done(false);
    one.src = src;
    document.body.append(one);
  });
  const shown = [await loads('img', `${url}/thumb/${clip}.jpg`), await loads('video', `${url}/media/${clip}.mp4`),
                 await loads('script', `${url}/static/app.js`)];
  return [told.filter(one => one[2] > 0), shown];
}"""


class Evil(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title><body>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def evil() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Evil)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{{}}:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"], ids=["the same machine's name", "another name"])
def test_a_page_of_another_address_reads_nothing_and_decides_nothing(page, app: Served, path, evil, name):
    """The browser holds the cookie, and sends it to any port of this machine; the server has to tell them apart."""
    before = Store.open(path).count("reviews")
    other = page.context.new_page()
    other.goto(evil.format(name))
    read, shown = other.evaluate(ASK, [f"http://127.0.0.1:{app.port}", clip_id(0)])
    assert (read, shown) == ([], [False, False, False])
    assert Store.open(path).count("reviews") == before
    assert page.evaluate("fetch('/thumb/" + clip_id(0) + ".jpg').then(a => a.status)") == 200, "its own page may"


def test_it_may_not_be_framed(page, app: Served, evil):
    other = page.context.new_page()
    other.goto(evil.format("127.0.0.1"))
    other.evaluate(
        "url => new Promise(done => { const f = document.createElement('iframe'); f.onload = () => done(); f.src = url;"
        " document.body.append(f); })",
        f"http://127.0.0.1:{app.port}/",
    )
    texts = [frame.evaluate("document.body.innerText") for frame in other.frames[1:]]
    assert not any("clips" in text for text in texts)
