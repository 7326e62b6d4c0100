"""A hub's model is pinned to the commit that is loaded: the cache's, else what the hub says; a server's is not."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from reelwright.annotate.backends.hub import commit_of
from reelwright.pipelines.annotate.load import load_annotators
from reelwright.pipelines.annotate.pinning import pin_models
from reelwright.pipelines.recipes.curation import CurateRecipe, load_recipe

CACHED, NEWEST, STATED = "a" * 40, "b" * 40, "c" * 40


class Hub(BaseHTTPRequestHandler):
    """Knows one model, at one commit."""

    def do_GET(self) -> None:
        known = self.path.startswith("/api/models/some/model")
        body = json.dumps({"id": "some/model", "sha": NEWEST} if known else {"error": "no"}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


def put(cache: Path, model: str, commit: str, revision: str = "main") -> None:
    """As the hub's client notes which commit a branch was when it was downloaded."""
    refs = cache / f"models--{model.replace('/', '--')}" / "refs"
    refs.mkdir(parents=True)
    (refs / revision).write_text(commit)


def recipe_of(chat: dict) -> CurateRecipe:
    return load_recipe(None, {"annotators": [{"caption": {"chat": chat}}, "caption_rewrites", "blur"]})


def models_of(recipe: CurateRecipe) -> str:
    return load_annotators(recipe)["caption"].models[0]


def test_the_hub_says_what_its_branch_is(hub: None, capsys: pytest.CaptureFixture) -> None:
    pinned = pin_models(recipe_of({"model": "some/model", "backend": "transformers"}))
    assert models_of(pinned) == f"some/model@{NEWEST}"
    assert pinned.parameters == {"caption": {"chat": {"revision": NEWEST}}}
    assert NEWEST in pinned.to_yaml(), "runs keep it"
    told = f"caption: some/model at {NEWEST}; to stay there, set parameters.caption.chat.revision to that\n"
    assert capsys.readouterr().err == told
    assert pin_models(pinned) == pinned
    assert capsys.readouterr().err == ""


def test_what_is_in_the_cache_comes_first(hub: None, cache: Path) -> None:
    put(cache, "some/model", CACHED)
    for backend in ("transformers", "vllm"):
        assert models_of(pin_models(recipe_of({"model": "some/model", "backend": backend}))) == f"some/model@{CACHED}"
    assert commit_of("some/model", "v2") == NEWEST, "of another revision nothing is here"


def test_a_commit_that_is_stated_is_taken_at_its_word(cache: Path) -> None:
    recipe = recipe_of({"model": "some/model", "backend": "transformers", "revision": STATED})
    assert pin_models(recipe) is recipe
    assert models_of(recipe) == f"some/model@{STATED}"


def test_without_cache_and_hub_the_branch_stays_a_branch(cache: Path) -> None:
    recipe = recipe_of({"model": "some/model", "backend": "transformers"})
    assert pin_models(recipe) is recipe
    assert models_of(recipe) == "some/model@main"


def test_of_a_server_there_is_what_the_recipe_states(hub: None) -> None:
    recipe = recipe_of({"model": "some/model"})
    assert pin_models(recipe) is recipe
    assert models_of(recipe) == "some/model@unstated"
    assert models_of(recipe_of({"model": "some/model", "revision": STATED})) == f"some/model@{STATED}"


@pytest.mark.parametrize(
    ("annotator", "parameters"),
    [
        ("caption_embedding", {"model": "some/model"}),
        ("visual_embedding", {"clip": {"model": "some/model"}}),
        ("watermark_classifier", {"classifier": {"model": "some/model"}}),
        ("aesthetics", {"head": {"model": "some/model"}}),
        ("cluster_names", {"chat": {"model": "some/model", "backend": "vllm"}}),
    ],
)
def test_every_kind_of_model_is_pinned(cache: Path, annotator: str, parameters: dict) -> None:
    put(cache, "some/model", CACHED)
    here = cache / "models--some--model" / "snapshots" / CACHED
    here.mkdir(parents=True)
    (here / "config.json").write_text('{"model_type": "clip", "hidden_size": 8}')
    (here / "modules.json").write_text("[]")
    pinned = pin_models(load_recipe(None, {"annotators": [{annotator: parameters}]}))
    assert any(CACHED in one for one in load_annotators(pinned)[annotator].models)


@pytest.mark.parametrize("annotator", ["caption_embedding", "aesthetics", "visual_embedding"])
def test_models_that_the_profiles_name_need_no_hub(cache: Path, annotator: str) -> None:
    recipe = load_recipe(None, {"annotators": [annotator]})
    assert pin_models(recipe) is recipe
