"""Annotators of all clips at once: clusters and their names, densities, groups of near duplicates."""
