"""From the inputs that a user names (folders, files, globs, manifests, URIs) to a list, in a fixed order."""

import glob
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from reelwright.curation.extras import install_for_protocol
from reelwright.curation.ingest.bucket import listed
from reelwright.curation.ingest.collector import Collector
from reelwright.curation.ingest.folders import Folders, fixed_part, matching
from reelwright.curation.ingest.inputs import (
    FILE,
    WEB,
    IngestError,
    Input,
    Inputs,
    ManifestConfig,
    RepeatedIds,
    Skipped,
    by_reason,
    is_unicode,
    protocol_of,
)
from reelwright.curation.ingest.manifests import plain_addresses, read_manifest
from reelwright.curation.ingest.repeated import repeated_ids
from reelwright.curation.ingest.skipped import SkippedFiles
from reelwright.curation.ingest.suffixes import (
    IMAGE_SUFFIXES,
    OTHER_SUFFIXES,
    UNFINISHED_SUFFIXES,
    VIDEO_SUFFIXES,
    is_manifest,
    suffix_of,
)
from reelwright.curation.media.sniff import file_looks_like
from reelwright.curation.signed import address

EMPTY_LIST = "a list without a row"


class NothingFound(IngestError):
    """No input at all; `skipped` lists the files there were instead."""

    def __init__(self, message: str, skipped: Collection[Skipped]) -> None:
        super().__init__(message)
        self.skipped = skipped


def list_inputs(
    names: Sequence[str], *, allow_http: bool = False, manifests: ManifestConfig | None = None, images: bool = False
) -> Inputs:
    """Resolve everything the user named.

    Args:
        names: folders, files, globs, manifests and URIs.
        allow_http: whether addresses on the web are read.
        manifests: how lists are understood.
        images: whether still images in folders are inputs too.

    Returns:
        Files sorted by uri, each once, and everything that was skipped, with the reasons.

    Raises:
        IngestError: a name that cannot be read; NothingFound where there is no video at all.
    """
    if not names:
        raise IngestError("no input was named; give a folder, a file, a glob, a manifest or a URI")
    config = manifests or ManifestConfig()
    collector = Collector()
    finder = _Finder(allow_http, config, images, collector)
    for item in finder.resolve(names):
        collector.add(item)
    files = collector.done()
    finder.skipped.close()
    if not len(files):
        raise NothingFound(_nothing(names, finder.skipped), finder.skipped)
    repeated = repeated_ids(files)
    if repeated and config.repeated_ids == "refuse":
        raise IngestError(
            f"{ids_in_words(repeated)}; mend the manifest, or set manifests.repeated_ids to keep or duplicate"
        )
    unread = {path: sorted(columns) for path, columns in finder.unread.items()}
    return Inputs(files, finder.skipped, repeated, unread)


def ids_in_words(repeated: RepeatedIds) -> str:
    """Return the beginning of a sentence about ids that several files have."""
    some = [f"{one.source_id} ({one.files} files, such as {one.first})" for one in repeated.some]
    more = f" and {repeated.count - len(some)} more" if repeated.count > len(some) else ""
    return f"{'a source_id belongs' if repeated.count == 1 else 'source_ids belong'} to several files: " + (
        f"{', '.join(some)}{more}"
    )


def reasons_in_words(skipped: Collection[Skipped], most: int = 5) -> str:
    """Return `12 × not a video by its name (.jpg); 3 × hidden`: reasons for skipping, the most frequent first."""
    counts = by_reason(skipped)
    words = [f"{count} × {reason}" for reason, count in counts[:most]]
    others = sum(count for _, count in counts[most:])
    return "; ".join(words + ([f"{others} × something else"] if others else []))


def inputs_in_words(found: Inputs, config: ManifestConfig) -> list[str]:
    """Return lines to read before a run: skipped files, repeated ids, unused rows and columns."""
    lines = []
    if found.skipped:
        reasons = reasons_in_words(found.skipped)
        count = "1 file or folder" if len(found.skipped) == 1 else f"{len(found.skipped)} files and folders"
        lines.append(f"skipped {count}: {reasons}; --list-skipped names each")
    if found.repeated_ids:
        then = {"keep": "each is kept", "duplicate": "the first by uri of each is kept, the others are duplicates"}
        lines.append(f"{ids_in_words(found.repeated_ids)}; {then[config.repeated_ids]} (manifests.repeated_ids)")
    if refused := found.refused:
        lines.append(f"{len(refused)} rows of lists cannot be used and are counted as failed: {refused[0].refused}")
    for path, columns in found.unread_columns.items():
        if columns:
            lines.append(f"columns not read of {path}: {', '.join(columns)}")
    return lines


def _nothing(names: Sequence[str], skipped: Collection[Skipped]) -> str:
    if set(dict(by_reason(skipped))) == {EMPTY_LIST}:
        empty = [s.path for s in skipped]
        lists = "list is empty: it has" if len(empty) == 1 else "lists are empty: they have"
        return f"{', '.join(empty)}: the {lists} no row; give a row for each video, under a header such as uri,caption"
    passed = f"; skipped: {reasons_in_words(skipped)} (see --list-skipped)" if skipped else ""
    return f"no video files in {', '.join(names)}{passed}; known suffixes: {' '.join(sorted(VIDEO_SUFFIXES))}"


class _Finder:
    """Resolves names and collects the files and folders that are skipped. collector: takes rows by the column."""

    def __init__(self, allow_http: bool, config: ManifestConfig, images: bool, collector: Collector) -> None:
        self.allow_http, self.config = allow_http, config
        self._suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES if images else VIDEO_SUFFIXES
        self.skipped = SkippedFiles()
        self.unread: dict[str, set[str]] = {}
        self._collector = collector
        self._folders = Folders(self._skip)

    def resolve(self, names: Sequence[str]) -> Iterator[Input]:
        for name in names:
            yield from self._named(FILE.sub("", name) if FILE.match(name) else name)
        yield from self._videos(self._folders.linked())

    def _named(self, name: str) -> Iterator[Input]:
        if "://" in name:
            yield from self._remote(name)
            return
        path = Path(os.path.abspath(os.path.expanduser(name)))
        if path.is_dir():
            yield from self._videos(self._folders.files(str(path)))
        elif os.path.lexists(path):
            yield from self._file(path)
        elif glob.has_magic(name):
            yield from self._matches(str(path))
        else:
            raise IngestError(f"{name} does not exist; give a folder, a file, a glob, a manifest or a URI")

    def _file(self, path: Path) -> Iterator[Input]:
        if not path.exists():
            raise IngestError(f"{path} is a link to {os.readlink(path)}, which does not exist")
        if is_manifest(path.name):
            yield from self._manifest(str(path))
        elif is_unicode(str(path)):
            yield Input(str(path))
        else:
            raise IngestError(f"{os.fsencode(path)!r} is not a name in UTF-8; rename the file")

    def _manifest(self, path: str) -> Iterator[Input]:
        unread, is_empty = self.unread.setdefault(path, set()), True
        for addresses in plain_addresses(path):
            if addresses is None:
                break
            self._collector.add_rows(addresses)
        else:
            return
        # What was taken of it so far comes once more, and is the same.
        before = self._collector.count
        for item in read_manifest(path, self.allow_http, self.config, unread, self._collector.add_told):
            is_empty = False
            yield item
        if is_empty and self._collector.count == before:
            self._skip(path, EMPTY_LIST)

    def _matches(self, pattern: str) -> Iterator[Input]:
        if "**" in pattern.split("/"):
            yield from self._videos(self._folders.files(fixed_part(pattern), pattern))
            return
        for match in matching(pattern):
            if os.path.isdir(match):
                self._skip(match, "a folder that a glob matches; name it, or use **")
            elif self._is_video(match):
                yield Input(match)

    def _videos(self, paths: Iterable[str]) -> Iterator[Input]:
        return (Input(path) for path in paths if self._is_video(path))

    def _is_video(self, path: str, *, local: bool = True) -> bool:
        """Return whether a file that was found, not named, is a video by its name; if not, the reason is recorded."""
        reason = _why_not(path, local, self._suffixes)
        if reason:
            self._skip(path, reason)
        return not reason

    def _skip(self, path: str, reason: str) -> None:
        self.skipped.add(path, reason)

    def _remote(self, uri: str) -> Iterator[Input]:
        uri = address(uri)
        protocol = protocol_of(uri, self.allow_http)
        if is_manifest(uri) and not glob.has_magic(uri):
            yield from self._manifest(uri)
            return
        if protocol in WEB:
            yield Input(uri)
            return
        try:
            import fsspec

            files, root = fsspec.core.url_to_fs(uri)
            for name in listed(files, protocol, root):
                if name == root or self._is_video(name, local=False):
                    yield Input(files.unstrip_protocol(name))
        except ImportError as error:
            raise IngestError(f"{protocol}:// needs a package ({error}); {install_for_protocol(protocol)}") from error
        except Exception as error:
            raise IngestError(f"cannot list {uri}: {error}") from error


def _why_not(path: str, local: bool, wanted: Collection[str]) -> str:
    """Return why a file is not taken; empty where it is. The words are the same for all of a kind. wanted: suffixes."""
    name = path.rsplit("/", 1)[-1]
    suffix = suffix_of(name)
    if name.startswith("."):
        reason = "hidden"
    elif not is_unicode(path):
        reason = "not named in UTF-8; rename it"
    elif suffix in wanted:
        reason = ""
    elif is_manifest(name):
        reason = f"a list, read where it is named itself ({_shown(suffix)})"
    elif suffix in UNFINISHED_SUFFIXES:
        reason = f"an unfinished download ({_shown(suffix)})"
    elif suffix in OTHER_SUFFIXES or not local:
        reason = f"not a video by its name ({_shown(suffix)})"
    else:
        reason = _by_content(path, _shown(suffix))
    return reason


def _by_content(path: str, suffix: str) -> str:
    """Return why a local file without a video extension is skipped, by its first bytes.

    It may hold a video; the user decides whether to take it, by naming the file itself.
    """
    try:
        is_regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        return "a link to nothing" if os.path.islink(path) else f"not to be read ({error.strerror})"
    if not is_regular:
        return "no regular file"
    seems = file_looks_like(path)
    return (
        f"looks like {seems}, read where it is named itself ({suffix})"
        if seems
        else f"not a video by its name ({suffix})"
    )


def _shown(suffix: str) -> str:
    """Return a suffix as a count names it; text after the full stop of a sentence is not one."""
    if not suffix:
        return "no suffix"
    return suffix if len(suffix) <= 9 and suffix[1:].isprintable() and " " not in suffix else "an odd suffix"
