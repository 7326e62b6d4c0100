"""Annotators whose values go back to the caption of a source: stale once a manifest changes it."""

from collections.abc import Iterator, Mapping, Sequence

from reelwright.annotate import Computes, load, stored_needs
from reelwright.annotate.errors import AnnotatorError
from reelwright.curation.store import Store

FROM_SOURCES = "source_caption"  # what annotators call it, whichever of a source's captions it is


def caption_readers(store: Store, annotators: Mapping[str, Computes]) -> list[str]:
    """Name those with values in the store, those of other recipes included. annotators: those of the run."""
    ending = "_fingerprint"
    stored = [name.removesuffix(ending) for name in store.schema("clips").names if name.endswith(ending)]
    known = dict(_loaded(stored, annotators))
    columns, found = {FROM_SOURCES}, dict[str, None]()
    while more := [n for n, a in known.items() if n not in found and any(x.column in columns for x in stored_needs(a))]:
        found |= dict.fromkeys(more)
        columns |= {column for name in more for column in known[name].columns}
    return list(found)


def _loaded(names: Sequence[str], annotators: Mapping[str, Computes]) -> Iterator[tuple[str, Computes]]:
    for name in names:
        try:
            yield name, annotators[name] if name in annotators else load(name)
        except (ValueError, AnnotatorError):  # not an annotator, of a package that is gone, or it needs parameters
            continue
