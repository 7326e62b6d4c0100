"""Which inputs are the same video: by the publisher's id and by the MD5 of the bytes."""

from dataclasses import dataclass, field
from typing import Protocol


class Lookup(Protocol):
    """Who stands for a key: a dictionary, or a store that is asked."""

    def get(self, key: str, /) -> str | None:
        """Return the uri that stands for a key; None if none does."""

    def setdefault(self, key: str, uri: str, /) -> str:
        """Let `uri` stand for a key, unless another does already; return who does."""

    def __delitem__(self, key: str, /) -> None: ...


@dataclass
class Deduplicator:
    """Names a survivor for each video. Ask in sorted order of uri: then the answer does not depend on who read first.

    `by_md5` and `by_source_id` start with the survivors that a store already has, which always win.
    """

    by_md5: Lookup = field(default_factory=dict[str, str])
    by_source_id: Lookup = field(default_factory=dict[str, str])

    def survivor_of(self, uri: str, md5: str, source_id: str | None) -> str | None:
        """Return the uri that this one is a duplicate of; None if it is the first, and so survives."""
        known = self.by_md5.get(md5) or (self.by_source_id.get(source_id) if source_id else None)
        survivor = known if known != uri else None
        self.by_md5.setdefault(md5, survivor or uri)
        if source_id:
            self.by_source_id.setdefault(source_id, survivor or uri)
        return survivor

    def forget(self, uri: str, md5: str, source_id: str | None) -> None:
        """Let `uri` stand no longer for these bytes and this id: it failed, and its duplicates get their turn."""
        if self.by_md5.get(md5) == uri:
            del self.by_md5[md5]
        if source_id and self.by_source_id.get(source_id) == uri:
            del self.by_source_id[source_id]
