"""Clusters and neighbourhoods of captions: vectors in, groups and their names out."""
