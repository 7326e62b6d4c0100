"""Chains of libavfilter's filters."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

Step = tuple[str, str]  # a libavfilter filter and its arguments


def linked(steps: Sequence[Step]) -> Any:
    """Return a graph of one chain of filters, which frames are pushed into and pulled from."""
    import av.filter

    graph = av.filter.Graph()
    graph.threads = 1
    nodes = [graph.add(name, arguments or None) for name, arguments in steps]
    for node, following in pairwise(nodes):
        node.link_to(following)
    graph.configure()
    return graph
