"""The annotators of a recipe: loaded, ordered by the columns they read of one another, with columns of their own."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reelwright.annotate import Computes, in_profile, load, refuse_shared_columns, schema_of, stored_needs
from reelwright.annotate.errors import AnnotatorError
from reelwright.curation.store import Store
from reelwright.curation.store.journal import Journal
from reelwright.pipelines.recipes.curation import CurateRecipe, RecipeError

if TYPE_CHECKING:
    import pyarrow as pa

SOURCE_COLUMNS = {"source_caption": "caption"}  # what `Stored` may name beside columns of clips -> column of sources
PART_COLUMNS = {"source_caption": "span_caption"}  # -> column of clips that goes before it, where there is a value


def load_annotators(recipe: CurateRecipe, only: Sequence[str] = ()) -> dict[str, Computes]:
    """Load the recipe's annotators by name, in its order; `only` some of them.

    Raises:
        RecipeError: an annotator is unknown or refuses its parameters.
    """
    chosen = recipe.annotator_params()
    names = [name for name, _ in chosen]
    for name in only:
        if name not in names:
            hint = "; add --profile full" if name in in_profile("full") and not recipe.annotators else ""
            raise RecipeError(f"--only {name}: the recipe has no such annotator; it has {', '.join(names)}{hint}")
    try:
        annotators = {name: load(name, params) for name, params in chosen if not only or name in only}
        refuse_shared_columns(list(annotators.values()))
    except (ValueError, AnnotatorError) as error:
        raise RecipeError(f"annotators: {error}") from error
    return annotators


def in_levels(annotators: Mapping[str, Computes]) -> list[list[str]]:
    """Return names in levels: a level reads columns of earlier levels only. Raises RecipeError for a circle."""
    made_by = {column: name for name, a in annotators.items() for column in a.columns}
    reads = {
        name: {made_by[n.column] for n in stored_needs(a) if n.column in made_by} for name, a in annotators.items()
    }
    levels: list[list[str]] = []
    left = list(annotators)
    while left:
        ready = [name for name in left if not reads[name] & set(left)]
        if not ready:
            raise RecipeError(f"annotators: {', '.join(left)} read one another's columns in a circle")
        levels.append(ready)
        left = [name for name in left if name not in ready]
    return levels


def producers_of(store: Store) -> dict[str, str]:
    """Column of clips -> the annotator that writes it."""
    schema = store.schema("clips")
    found = {f.name: (f.metadata or {}).get(b"computed_by", b"").decode() for f in schema}
    return {column: name for column, name in found.items() if f"{name}_fingerprint" in schema.names}


def prepare_columns(store: Store, annotators: Mapping[str, Computes]) -> None:
    """Merge the journal that a killed run left, and add missing columns.

    A column that its own annotator now makes in another type (an embedding of another width) starts empty.
    """
    Journal(store).merge()
    schema = store.schema("clips")
    for name, annotator in annotators.items():
        wanted = schema_of(annotator)
        if any(f.name in schema.names and not _fits(schema.field(f.name), f, name) for f in wanted):
            store.drop_columns("clips", [f.name for f in wanted if f.name in schema.names])
    store.ensure_columns("clips", [f for a in annotators.values() for f in schema_of(a)])


def _fits(have: "pa.Field", want: "pa.Field", name: str) -> bool:
    """Return whether a column can stay as it is; the store reports the faults of a column that somebody else made."""
    is_ours = (have.metadata or {}).get(b"computed_by", b"").decode() == name
    sizes = [getattr(f.type, "list_size", None) for f in (have, want)]
    return not is_ours or sizes[0] == sizes[1]
