"""Vectors by the million: on disk, in cells, and how close they lie."""
