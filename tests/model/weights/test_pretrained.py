"""Where published weights are found: in a pipeline's subfolders or on their own, in a folder or at a (local) hub."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from reelwright.model.codec import codec_fingerprint, load_codec
from reelwright.model.config import CodecConfig, TextConfig
from reelwright.model.text import load_text_encoder, text_fingerprint
from tests.model.published import save_umt5, save_vae

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As diffusers and LongCat-Video lay it out, with a transformer that nobody asks for."""
    folder = save_umt5(save_vae(tmp_path_factory.mktemp("pipeline")))
    (folder / "transformer").mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (folder / "transformer" / name).write_text("{}")
    (folder / "model_index.json").write_text("{}")
    return folder


def codec(path: Path | str) -> CodecConfig:
    return CodecConfig(kind="wan", path=str(path))


def text(path: Path | str) -> TextConfig:
    return TextConfig(kind="umt5", path=str(path))


def test_one_folder_serves_codec_and_text_encoder(pipeline: Path) -> None:
    assert load_codec(codec(pipeline)).fingerprint == codec_fingerprint(codec(pipeline / "vae"))
    encoder = load_text_encoder(text(pipeline))
    assert encoder.fingerprint == text_fingerprint(text(pipeline / "text_encoder"))
    assert encoder.encode(["a dog"])[0].shape[1] == encoder.dim == 32


@pytest.fixture
def hub(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub on this machine: some/pipeline, and some/vae with the VAE at its top. What was fetched from it."""
    fetched: list[str] = []
    folders = {"some/pipeline": pipeline, "some/vae": pipeline / "vae"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, folders, fetched))
    Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    for name, value in (("HF_HUB_OFFLINE", False), ("HF_HUB_CACHE", str(tmp_path / "cache")), ("ENDPOINT", here)):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    template = here + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield fetched
    server.shutdown()
    server.server_close()


class Hub(BaseHTTPRequestHandler):
    """The requests that a download is made of: which commit it is, what that holds, and a file of it."""

    def __init__(self, folders: dict[str, Path], fetched: list[str], *request: object) -> None:
        self.folders, self.fetched = folders, fetched
        super().__init__(*request)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.answer(self.path.partition("?")[0].strip("/").split("/"))

    do_HEAD = do_GET

    def answer(self, parts: list[str]) -> None:
        if parts[0] == "api":
            name = "/".join(parts[2:4])
            about = {"id": name, "sha": COMMIT, "siblings": []}
            self.send(json.dumps(listing(self.folders[name]) if "tree" in parts else about).encode())
            return
        file = "/".join(parts[4:])
        if self.command == "GET":
            self.fetched.append(file)
        self.send((self.folders["/".join(parts[:2])] / file).read_bytes())

    def send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def listing(folder: Path) -> list[dict[str, str | int]]:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return [{"type": "file", "path": str(f.relative_to(folder)), "size": f.stat().st_size, "oid": "0"} for f in files]


def test_of_a_hub_s_pipeline_only_the_part_is_fetched(pipeline: Path, hub: list[str]) -> None:
    assert codec_fingerprint(codec("some/pipeline")) == codec_fingerprint(codec(pipeline))
    assert {file.split("/")[0] for file in hub} <= {"vae", "tokenizer"}
    assert load_text_encoder(text("some/pipeline")).fingerprint == text_fingerprint(text(pipeline))
    assert "text_encoder/model.safetensors" in hub
    assert not [file for file in hub if file.startswith("transformer/")]


def test_a_model_may_have_a_repository_of_its_own(pipeline: Path, hub: list[str]) -> None:
    assert codec_fingerprint(codec("some/vae")) == codec_fingerprint(codec(pipeline))
    assert hub
