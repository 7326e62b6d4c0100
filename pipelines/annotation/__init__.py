"""Annotating stored clips: what is stale, in which order, on which workers, and what it makes of the store."""
