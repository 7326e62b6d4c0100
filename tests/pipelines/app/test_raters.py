"""Studies of pairs in `reel app`, and the links of raters, which open a rating page and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from reelwright.curation.store import Store
from reelwright.pipelines.app.routes import API, make_app
from reelwright.pipelines.app.work.rater_links import RaterLinks
from reelwright.pipelines.app.work.routes import WORK_API
from reelwright.pipelines.evaluate.rating.pages import videos_of
from tests.pipelines.app.chromium import needs_chromium, opened, until
from tests.pipelines.app.made import HOSTILE, Served, clip_id, served
from tests.pipelines.app.test_server import anything, bodies
from tests.pipelines.app.work_made import RATERS, Made, make_worked

pytestmark = pytest.mark.waits
KEY_ENV, KEY = "REEL_TEST_RATING_KEY", "a secret of this test"
SECRETS = (b"tuned", b'"base"', b"made by", b"00aa", b"10aa", b"e1f0", b".lance", b"/store")
"""Of models, generations, the evaluation and the store: no rater is sent any of them."""
PARAMETERS = {
    "name": "app.js", "clip_id": clip_id(1), "run": "run1", "key": "mini", "step": "step-00000040", "id": "00aa",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_worked(tmp_path_factory.mktemp("raters"))


@pytest.fixture(scope="module")
def app(made: Made) -> Iterator[Served]:
    """A server that other machines can reach."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(KEY_ENV, KEY)
        with served(Path(made.store.uri), "--host", "0.0.0.0", "--key-env", KEY_ENV) as running:
            yield running


def links_of(app: Served, kind: str) -> dict[str, str]:
    """Return the addresses that the page Rate hands out for a study of this kind, by rater."""
    [study] = [one for one in app.call("studies")["studies"] if one["kind"] == kind]
    return {who["name"]: who["link"] for who in study["raters"]}


def token_in(link: str) -> str:
    return link.partition("?token=")[2]


def as_rater(app: Served, link: str) -> str:
    """Return the cookie that a rater's browser holds after the link."""
    return f"reel_{app.port}_guest={token_in(link)}"


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_pairs_come_on_sides_that_are_drawn_and_tell_nothing_of_their_models(app, made):
    names = videos_of(made.pairs)
    at, orders = f"/rate/{made.pairs.study_id}", set()
    for rater, link in links_of(app, "gsb").items():
        cookie = as_rater(app, link)
        page, told = app.ask(f"{at}/", cookie=cookie)[2], app.ask(f"{at}/study", cookie=cookie)[2]
        assert json.loads(re.search(rb'id="data">(.*?)</script>', page, re.S)[1])["raters"] == [rater]
        tasks = json.loads(told)["tasks"]
        assert len(tasks) == len(made.pairs.items) == 3
        sent = [page, told]
        for task in tasks:
            orders.add((rater, tuple(names[url.removeprefix("video/")][0] for url in task["videos"])))
            for url in task["videos"]:
                _, headers, video = app.ask(f"{at}/{url}", cookie=cookie)
                assert video[4:8] == b"ftyp"
                sent += [video, json.dumps(headers).encode()]
        assert [(part[:80], one) for part in sent for one in SECRETS if one in part] == []
    assert {order for _, order in orders} == {("0", "1"), ("1", "0")}, "each model stands first somewhere"


def test_an_answer_to_a_pair_is_kept_for_the_model_and_not_for_the_side(app, made):
    at, cookie = f"/rate/{made.pairs.study_id}", as_rater(app, links_of(app, "gsb")["chen"])
    names = videos_of(made.pairs)
    tasks = json.loads(app.ask(f"{at}/study", cookie=cookie)[2])["tasks"]
    for task in tasks:  # the tuned model is better, wherever it stands
        first = names[task["videos"][0].removeprefix("video/")]
        answer = {"task_id": task["task_id"], "values": {"overall": 1 if first[0] == "1" else -1}, "seconds": 1}
        assert app.ask(f"{at}/answer", {"rater": "chen", "answer": answer}, cookie=cookie)[0] == 200
    rows = Store.open(made.store.uri).read("ratings", filter="rater = 'chen'").to_pylist()
    assert {(row["kind"], row["generation_id"][0], row["other_id"][0], row["value"]) for row in rows} == {
        ("gsb", "0", "1", -1.0)
    }  # fmt: skip
    shown = {names[task["videos"][0].removeprefix("video/")] for task in tasks}
    assert {row["shown_first"] for row in rows} == shown
    back = json.loads(app.ask(f"{at}/study", cookie=cookie)[2])["answers"]
    assert sorted(abs(one["values"]["overall"]) for one in back.values()) == [1, 1, 1]


# --- links -----------------------------------------------------------------------------------------------------------


def test_a_rater_s_link_opens_the_page_of_that_rater_and_of_nobody_else(app, made):
    assert any("open a rating page and nothing else" in line for line in app.said)
    link, at = links_of(app, "mos")["anna"], f"/rate/{made.study.study_id}"
    status, headers, _ = app.ask(link, cookie=None)
    assert (status, headers["location"]) == (303, f"{at}/")
    kept = headers["set-cookie"]
    assert kept.startswith(as_rater(app, link))
    assert f"Path={at}/;" in kept
    assert "HttpOnly" in kept
    cookie = as_rater(app, link)
    assert b'"rater": "anna"' in app.ask(f"{at}/", cookie=cookie)[2]
    task = json.loads(app.ask(f"{at}/study", cookie=cookie)[2])["tasks"][0]
    answer = {"task_id": task["task_id"], "values": {"overall": 3, "visual_quality": 3}, "seconds": 1}
    assert app.ask(f"{at}/answer", {"rater": "anna", "answer": answer}, cookie=cookie)[0] == 200
    assert app.ask(f"{at}/answer", {"rater": "ben", "answer": answer}, cookie=cookie)[0] == 403
    assert app.ask(f"{at}/study?rater=ben", cookie=cookie)[0] == 403
    both = f"{app.cookie}; {cookie}"
    assert b'"rater": "anna"' in app.ask(f"{at}/", cookie=both)[2]
    assert app.ask("/runs", cookie=both)[0] == 200, "who has the server's address keeps it"


def every_address(made: Made) -> list[tuple[str, str]]:
    """Return (method, address) of all that the app answers, but a study's own pages, with real names filled in."""
    found = []
    for route in make_app(made.store).routes:
        if isinstance(route, Route):
            path = re.sub(r"{(\w+)}", lambda name: PARAMETERS[name[1]], route.path)
            found += [(method, path) for method in sorted(route.methods or ["GET"]) if method != "HEAD"]
    at, other = f"/rate/{made.study.study_id}", f"/rate/{made.pairs.study_id}"
    found += [("GET", at), *(("GET", f"{other}/{rest}") for rest in ("", "study", "study?rater=anna"))]
    found += [("GET", f"{other}/video/{next(iter(videos_of(made.pairs)))}"), ("POST", f"{other}/answer")]
    return found + [("GET", path) for path in ("/nothing", "/favicon.ico", f"//rate/{made.study.study_id}/", "/../x")]


def test_a_rater_s_token_is_refused_everywhere_else_with_one_sentence(app, made):
    link = links_of(app, "mos")["anna"]
    addresses = every_address(made)
    assert len(addresses) > len(API) + len(WORK_API) + 15
    for method, path in addresses:
        body = {} if method == "POST" else None
        for cookie in (as_rater(app, link), f"reel_{app.port}={token_in(link)}"):
            status, _, answer = app.ask(path, body, method=method, cookie=cookie)
            assert (status, set(json.loads(answer))) == (403, {"error"}), (method, path)
            assert b"this link opens its own page and nothing else" in answer
            assert not any(one in answer for one in SECRETS)
        mark = "&" if "?" in path else "?"
        status, headers, _ = app.ask(f"{path}{mark}token={token_in(link)}", body, method=method, cookie=None)
        assert (status, "set-cookie" in headers) == (403 if method == "GET" else 401, False), (method, path)


def test_no_way_leads_out_of_the_study(app, made):
    at, cookie = f"/rate/{made.study.study_id}", as_rater(app, links_of(app, "mos")["anna"])
    for rest in ("/../../api/sql", "/%2e%2e/%2e%2e/runs", "/..%2f..%2fruns", "/static/app.js", "/video/00aa",
                 "/video/..%2f..%2fgenerated%2f00aa.mp4", "/picture/%00", "//runs", "/api/runs", "/rate/"):  # fmt: skip
        status, _, answer = app.ask(f"{at}{rest}", cookie=cookie)
        assert status == 404, rest
        assert not any(one in answer for one in SECRETS)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted({*API, *WORK_API})), body=st.one_of(anything, bodies))
def test_no_request_of_a_rater_reaches_the_api(app, made, name, body):
    cookie = as_rater(app, RaterLinks(KEY).address(made.study.study_id, "anna"))
    status, _, answer = app.ask(f"/api/{name}", raw=json.dumps(body).encode(), cookie=cookie)
    assert (status, b"this link opens its own page" in answer) == (403, True)


@pytest.mark.parametrize("change", ["study", "rater", "proof", "key", "nonsense"])
def test_a_link_that_was_not_handed_out_opens_nothing(app, made, change):
    study, name, proof = token_in(links_of(app, "mos")["anna"]).split(".")
    token = {
        "study": f"{made.pairs.study_id}.{name}.{proof}",
        "rater": f"{study}.{token_in(links_of(app, 'mos')['ben']).split('.')[1]}.{proof}",
        "proof": f"{study}.{name}.{'0' * 40}",
        "key": token_in(RaterLinks("another secret").address(study, "anna")),
        "nonsense": f"{study}.____.{proof}",
    }[change]
    for where in (made.study.study_id, made.pairs.study_id):
        assert app.ask(f"/rate/{where}/?token={token}", cookie=None)[0] == 401
        assert app.ask(f"/rate/{where}/study", cookie=f"reel_{app.port}_guest={token}")[0] == 401


@given(rater=st.one_of(st.text(min_size=1, max_size=60), st.sampled_from([HOSTILE[:60], "زينب", "a\u2028b"])),
       study=st.from_regex("[0-9a-f]{16}", fullmatch=True), other=st.text(max_size=80))  # fmt: skip
def test_a_link_says_whose_it_is_whatever_the_name(rater, study, other):
    links = RaterLinks("secret")
    try:
        address = links.address(study, rater)
    except UnicodeEncodeError:  # half of a pair of surrogates is in no name
        return
    found = links.guest(token_in(address))
    assert found is not None
    assert (found.holder, found.under) == (rater, f"/rate/{study}/")
    assert address.startswith(found.under)
    assert RaterLinks().guest(token_in(address)) is None
    assert links.guest(other) is None


def test_links_stay_over_a_restart_with_a_secret_and_end_with_the_server_without(app, made, call):
    expect = RaterLinks(KEY).address(made.study.study_id, "anna")
    assert links_of(app, "mos")["anna"] == expect
    with served(Path(made.store.uri)) as other:
        assert links_of(other, "mos")["anna"] != expect
        assert other.ask(expect, cookie=None)[0] == 401
        assert len(other.said) == 1, "on this machine alone nothing is said of links"
    refused = call("app", "--store", made.store.uri, "--key-env", "REEL_TEST_NO_SUCH_KEY")
    assert refused.returncode != 0
    assert "which holds no secret" in refused.stderr


# --- in the browser --------------------------------------------------------------------------------------------------


@needs_chromium
def test_a_rater_answers_pairs_by_keys_goes_back_and_goes_on_after_a_reload(browser, app, made):
    link = links_of(app, "gsb")["ben"]
    sent: list[bytes] = []

    def rows() -> list[float]:
        found = Store.open(made.store.uri).read("ratings", filter="rater = 'ben' and kind = 'gsb'").to_pylist()
        return sorted(abs(row["value"]) for row in found)

    with opened(browser, f"http://127.0.0.1:{app.port}{link}") as page:
        page.on("response", lambda answer: sent.append(answer.url.encode()))
        page.wait_for_selector("#who:text-is('ben')")
        until(page, "[...document.querySelectorAll('video')].filter(one => one.currentTime > 0).length === 2")
        assert page.locator("a").count() == 0, "no way leads elsewhere"
        press(page, "ArrowLeft", "A is better")
        page.keyboard.press("Enter")
        page.wait_for_selector("#count:text-is('1 of 3')")
        page.keyboard.press("Backspace")  # undo: the answer is there to be changed
        page.wait_for_selector("[aria-label='A is better'][aria-checked=true]")
        press(page, "ArrowRight", "B is better")
        page.keyboard.press("Enter")
        page.wait_for_selector("#back:not([disabled])")
        assert rows() == [1.0]
        page.reload()
        page.wait_for_selector("#count:text-is('1 of 3')")
        page.wait_for_selector("[aria-checked=true]", state="detached")
        press(page, "ArrowDown", "Same")
        page.keyboard.press("Enter")
        page.wait_for_selector("#count:text-is('2 of 3')")
        press(page, "2", "Same")
        page.keyboard.press("Enter")
        page.wait_for_selector("h1:text-is('Thank you')")
        assert rows() == [0.0, 0.0, 1.0]
        for secret in ("tuned", '"base"', "aa.mp4"):
            assert secret not in page.content()
        assert all(b"00aa" not in url and f":{app.port}/rate/".encode() in url for url in sent)
        page.goto(f"http://127.0.0.1:{app.port}/rate")
        assert "carries the token" in page.locator("body").inner_text()


def press(page: Any, key: str, means: str) -> None:
    page.keyboard.press(key)
    page.wait_for_selector(f"[aria-label='{means}'][aria-checked=true]")


@needs_chromium
@pytest.mark.parametrize("has_clipboard", [True, False], ids=["this machine", "another machine, without encryption"])
def test_the_page_hands_out_links(browser, app, has_clipboard):
    with opened(browser, f"http://127.0.0.1:{app.port}/rate?token={app.token}") as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        if not has_clipboard:
            page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
            page.reload()
        for kind, title in (("gsb", "Pairs of first"), ("mos", "Scores of first")):
            page.click(f"section:has(h2:text-is('{title}')) [aria-label='copy the link of {RATERS[2]}']")
            page.wait_for_selector(f"section:has(h2:text-is('{title}')) button:text-is('copied')")
            page.evaluate("document.body.append(Object.assign(document.createElement('input'), {id: 'paste'}))")
            page.focus("#paste")
            page.keyboard.press("Control+V")
            pasted = page.input_value("#paste")
            assert pasted == f"http://127.0.0.1:{app.port}{links_of(app, kind)[RATERS[2]]}"
            page.evaluate("document.querySelector('#paste').remove()")
