"""The identity of a model: an id that changes with its files, found without loading it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from functools import lru_cache
from pathlib import Path

CACHED_FROM = 1 << 20  # bytes of a file
CONTENT = (".json", ".jinja", ".model", ".safetensors", ".txt")  # files that decide answers: weights, settings, words


def model_id(model: str, revision: str = "") -> str:
    """Return `name#hash` of a folder, wherever it lies; `id@revision` of a hub's model."""
    folder = Path(model).expanduser()
    return f"{folder.resolve().name}#{content_hash(folder)}" if folder.is_dir() else f"{model}@{revision or 'main'}"


def hub_source(model: str, revision: str = "") -> tuple[str, str] | None:
    """Return (id, revision) of a hub's model; None for a folder on this machine, and for no model."""
    return (model, revision) if model and not Path(model).expanduser().is_dir() else None


def origin_of(model: str, revision: str = "") -> str:
    """Return `model_id` with a folder's path in place of its name, as columns of vectors keep it."""
    folder = Path(model).expanduser()
    return f"{model}#{content_hash(folder)}" if folder.is_dir() else model_id(model, revision)


def from_origin(origin: str) -> tuple[str, str]:
    """Return (model, revision) to load again; a folder may have gone or changed, which its origin then shows."""
    folder, mark, _ = origin.rpartition("#")
    model, _, revision = origin.rpartition("@")
    return (folder, "") if mark else (model, revision)


def same_model(origin: str, other: str) -> bool:
    """Return whether two origins are of one model, in whatever folder it lies."""
    return origin == other or ("#" in origin and origin.rpartition("#")[2] == other.rpartition("#")[2])


def content_hash(folder: Path) -> str:
    """Return 16 hex digits over the names and bytes of a model's files; files are read again only once they change."""
    found = sorted(p for p in folder.rglob("*") if p.suffix in CONTENT and p.is_file())
    hashes = [(p.relative_to(folder).as_posix(), file_hash(p)) for p in found]
    return hashlib.sha256(repr(hashes).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Return a file's sha256 in hex; it is read again only once it changes."""
    return _file_hash(path, path.stat().st_size, path.stat().st_mtime_ns)


@lru_cache(maxsize=1024)
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    """Return sha256 in hex; a large file's is cached on disk, because every command and every worker needs it."""
    entry = _cache() / hashlib.sha256(f"{path.resolve()}:{size}:{mtime_ns}".encode()).hexdigest()
    if size >= CACHED_FROM:
        with contextlib.suppress(OSError):
            if len(cached := entry.read_text()) == 64:
                return cached
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if size >= CACHED_FROM:
        with contextlib.suppress(OSError):  # a home that cannot be written to costs time alone
            entry.parent.mkdir(parents=True, exist_ok=True)
            part = entry.with_name(f"{entry.name}.{os.getpid()}")
            part.write_text(found)
            part.replace(entry)
    return found


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "reelwright" / "hashes"
