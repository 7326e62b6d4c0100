"""Marks captions that are stand-ins, composed from measurements, lest they be taken for a model's or a person's."""

from reelwright.curation.store import Store

COMPOSED = "composed_caption"
BETTER = "docs/captioning.md has a model write captions"


def search_note(composed: int, found: int) -> str:
    """Describe the limits of clips that were found by such captions; empty where there are none."""
    if not composed:
        return ""
    return (
        f"{composed:,} of these {found:,} captions are composed from measurements (length, motion, light …) and do not "
        f"say what is seen; {BETTER}"
    )


def cluster_note(store: Store) -> str:
    """Describe the limits of clusters' names that are made of such captions; empty where there are none."""
    from reelwright.annotate.sets.cluster_names import OF_COMPOSED

    if "cluster_named_by" not in store.schema("clips").names:
        return ""
    query = (
        "SELECT count(DISTINCT cluster_name) AS named, count(DISTINCT cluster_name) FILTER "
        "(ends_with(cluster_named_by, ?)) AS composed FROM clips"
    )
    counts = store.sql(query, params=[OF_COMPOSED]).to_pylist()[0]
    if not counts["composed"]:
        return ""
    return (
        f"{counts['composed']:,} of the {counts['named']:,} clusters are named after captions composed from "
        f"measurements, which do not say what is seen; {BETTER}"
    )
