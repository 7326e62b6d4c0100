"""Files of folders and of those below them, linked ones too, each folder once: a link may lead round in a circle."""

import contextlib
import glob
import os
import re
from collections import deque
from collections.abc import Callable, Iterator


class Folders:
    """Folders that are walked in one listing. skip: called with each path that is left out, and the reason.

    Linked folders come last, from `linked`: a file that can be reached without a link is named without.
    """

    def __init__(self, skip: Callable[[str, str], None]) -> None:
        self._skip = skip
        self._walked: dict[tuple[int, int, str], str] = {}  # (device, inode, pattern) -> path by which it is walked
        self._links: deque[tuple[str, str]] = deque()

    def files(self, root: str, pattern: str = "") -> Iterator[str]:
        """Paths below `root`; with a glob `pattern` that has `**`, the matching ones; others are not reported."""
        matches = re.compile(as_regex(pattern)).fullmatch if pattern else None
        hidden_too = any(part.startswith(".") for part in pattern.split("/"))
        folders = [root] if self._is_new(root, pattern) else []
        while folders:
            folder, inner, links = folders.pop(), list[str](), list[str]()
            for path, kind in self._inside(folder):
                if kind == "folder":
                    inner.append(path)
                elif kind == "link":
                    links.append(path)
                elif matches is None or matches(path):
                    yield path
            self._links += [(path, pattern) for path in sorted(links)]
            for path in sorted(inner):
                if hidden_too or not path.rsplit("/", 1)[-1].startswith("."):
                    folders += [path] if self._is_new(path, pattern) else []
                elif not pattern:
                    self._skip(path, "a hidden folder")

    def linked(self) -> Iterator[str]:
        """Yield inputs of the linked folders that were met; call it when everything that was named is walked."""
        while self._links:
            yield from self.files(*self._links.popleft())

    def _inside(self, folder: str) -> Iterator[tuple[str, str]]:
        """Yield (path, "file", "folder" or "link" to a folder) in no order: there may be a hundred million files."""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    path = os.path.join(folder, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        yield path, "folder"
                    else:
                        yield path, "link" if entry.is_symlink() and os.path.isdir(path) else "file"
        except OSError as error:
            self._skip(folder, f"a folder that cannot be read ({error.strerror})")

    def _is_new(self, folder: str, pattern: str) -> bool:
        """Note a folder as walked, by where it is on the disk; report one that was walked under another name."""
        try:
            status = os.stat(folder)
        except OSError:
            return True  # walking it will say why it cannot be
        key = (status.st_dev, status.st_ino, pattern)
        if key not in self._walked:
            self._walked[key] = folder
            return True
        if self._walked[key] != folder:
            self._skip(folder, "a link to a folder that is read already")
        return False


def matching(pattern: str) -> Iterator[str]:
    """Yield what a glob without `**` matches, as Python's does; of one folder with many files, in no order."""
    folder = os.path.dirname(pattern)
    if glob.has_magic(folder):
        yield from glob.iglob(pattern)
        return
    matches = re.compile(as_regex(pattern)).fullmatch
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if matches(path := os.path.join(folder, entry.name)):
                yield path


def fixed_part(pattern: str) -> str:
    """Return the folder that holds everything a glob matches."""
    parts = pattern.split("/")
    return "/".join(parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))]) or "/"


def as_regex(pattern: str) -> str:
    """Turn a glob into a regular expression.

    `**` matches any folders that are not hidden; `*` and `?` stay within a name.
    """
    parts = pattern.split("/")
    made = ""
    for i, part in enumerate(parts):
        is_last = i == len(parts) - 1
        if part == "**":
            made += r"(?:[^/.][^/]*/)*" + (r"[^/.][^/]*" if is_last else "")
        else:
            made += ("" if part.startswith(".") or not glob.has_magic(part[:1]) else r"(?!\.)") + _name_regex(part)
            made += "" if is_last else "/"
    return made


def _name_regex(part: str) -> str:
    out, at = "", 0
    while at < len(part):
        end = part.find("]", at + 2) if part[at] == "[" else -1
        if end > 0:
            inside = part[at + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            out += "[" + ("^" + inside[1:] if inside.startswith("!") else inside) + "]"
            at = end
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(part[at], re.escape(part[at]))
        at += 1
    return out
